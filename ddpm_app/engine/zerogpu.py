"""ZeroGPU, the free GPU of Hugging Face Spaces: runs are computed in a forked process.

Nothing else knows of it. The package `spaces` is there on a Space alone; importing it makes the absent GPU
look present, so that models are loaded onto `cuda` in this process and follow the fork. What crosses is
pickled: the request in, its reports out with their tensors as arrays. A cancel token does not cross, so Stop
reaches a run at its next report.
"""

__all__ = ["load_ahead", "through_fork"]

import io
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ddpm_app.engine.cancel import CancelToken
from ddpm_app.errors import UserError

Perform = Callable[[Any, CancelToken], Iterator[Any]]  # the reports of a request
SHORTEST, LONGEST = 15, 120  # seconds for which a GPU is asked
PIXELS_A_SECOND = 500_000  # through a network, a cautious guess: nothing was measured on a ZeroGPU Space


def on_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space."""
    return os.getenv("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def through_fork(perform: Perform, renew: Callable[[], None], pixels: Callable[[Any], int]) -> Perform:
    """`perform`; on ZeroGPU, what does the same in a process that has a GPU.

    `renew` makes its state usable there, where the threads of this process are not; `pixels` are those of one
    picture of a request's model.
    """
    if not on_zero_gpu():
        return perform
    import spaces

    os.register_at_fork(after_in_child=renew)

    @spaces.GPU(duration=lambda packed, seconds: seconds)
    def beyond(packed: bytes, seconds: int) -> Iterator[bytes]:
        try:
            for report in perform(pickle.loads(packed), CancelToken()):
                yield pack(report)
        except UserError as error:  # whose sentence would not survive as an exception
            yield pack(error)

    def across(request: Any, token: CancelToken) -> Iterator[Any]:
        token.check()
        for packed in beyond(pack(request), seconds_for(request, pixels(request))):
            token.check()
            report = pickle.loads(packed)
            if isinstance(report, UserError):
                raise report
            yield report

    return across


def load_ahead(load: Callable[[str], Any], names: list[str]) -> None:
    """On ZeroGPU puts these models onto `cuda` before the page starts; elsewhere does nothing."""
    for name in names if on_zero_gpu() else []:
        load(name)


def seconds_for(request: Any, pixels: int) -> int:
    """For how long a GPU is asked: by how many pictures of so many `pixels` go through the network."""
    return min(LONGEST, SHORTEST + request.network_calls * pixels // PIXELS_A_SECOND)


def pack(value: Any) -> bytes:
    """`value` pickled, whatever device its tensors are on; `pickle.loads` has them on the CPU."""
    packed = io.BytesIO()
    _Packer(packed).dump(value)
    return packed.getvalue()


class _Packer(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return NotImplemented
        return torch.from_numpy, (value.detach().cpu().numpy(),)
