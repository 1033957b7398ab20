"""Numbers on their way to the page's own scripts."""

__all__ = ["packed"]

from base64 import b64encode

from torch import Tensor


def packed(values: Tensor, dtype: str) -> str:
    """The values, rounded where the numpy `dtype` is of whole numbers, as base64 of its bytes."""
    numbers = values.detach().cpu()
    if "f" not in dtype:
        limit = 32767 if dtype == "<i2" else 255
        numbers = numbers.clamp(-limit, limit).round()
    return b64encode(numbers.numpy().astype(dtype).tobytes()).decode()
