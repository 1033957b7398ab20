"""A checkpoint file of any training script as one flat table of tensors, and the network's tensors in it.

Read as tensors only: a pickle that asks for more is refused, as is one that describes more than it holds.
"""

__all__ = ["network_tensors", "read_file"]

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm_app.errors import UserError
from ddpm_app.models.convert.layout import Fact, Facts

DEPTH = 3  # a list of a trainer's parts, one part, its tensors
AVERAGE = re.compile(r"(^|[._-])ema([._-]|$)")  # a word of its own: not as in schema
EMA_ENTRY = "4."  # ermongroup/ddim saves [network, optimiser, epoch, step, EMA]


def read_file(file: Path) -> dict[str, Tensor]:
    """Every tensor in `file` by its path in it: `ema.ema_model.model.conv_in.weight`."""
    if not os.path.isfile(file):  # False too for a name longer than the file system allows
        raise UserError(
            f"there is no file {str(file)[:200]!r}; give a .pt, .pth, .ckpt, .bin or .safetensors"
        )
    try:
        content = _load(file)
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{file.name} may not be read; give yourself the right to") from error
    except Exception as error:  # what damaged bytes raise here ranges from KeyError to AssertionError
        raise UserError(
            f"{file.name} is damaged or holds more than tensors, so it is not opened; "
            "fetch it again, or save its state dict alone with torch.save or as safetensors"
        ) from error
    return dict(_tensors(content, DEPTH))


def _load(file: Path) -> Any:
    from safetensors.torch import load_file

    if file.suffix == ".safetensors":
        return load_file(file)
    zipped = zipfile.is_zipfile(file)
    if zipped:
        with zipfile.ZipFile(file) as archive:
            if sum(part.file_size for part in archive.infolist()) > file.stat().st_size:
                raise UserError(
                    f"{file.name} is compressed, as no checkpoint is; save it again with torch.save"
                )
    return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)


def _tensors(content: Any, depth: int) -> Iterator[tuple[str, Tensor]]:
    """The tensors of numbers in nested tables and lists, each with its path."""
    if isinstance(content, Tensor):
        if content.layout is torch.strided and content.is_floating_point():
            yield "", content
    elif depth and isinstance(content, Mapping | list | tuple):
        for key, item in content.items() if isinstance(content, Mapping) else enumerate(content):
            yield from ((f"{key}.{path}".rstrip("."), tensor) for path, tensor in _tensors(item, depth - 1))


def network_tensors(
    file: Path, tensors: Mapping[str, Tensor], landmark: str, raw: bool, facts: Facts
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The float32 network around `landmark` under its own names, and what lies beside it in what holds it.

    Of several networks the averaged one, unless `raw`.
    """
    prefixes = [key.removesuffix(landmark) for key in tensors if f".{key}".endswith(f".{landmark}")]
    averaged = [prefix for prefix in prefixes if _is_average(prefix)]
    others = [prefix for prefix in prefixes if prefix not in averaged]
    if raw and not others:
        raise UserError(f"{file.name} holds the averaged weights alone; convert it without --raw")
    prefix = others[0] if raw or not averaged else averaged[0]
    if prefix in averaged or AVERAGE.search(file.stem.lower()):
        kind = "averaged (EMA)"
    else:
        kind = "as trained" if averaged else "averaged or as trained, which the file does not tell"
    facts["weights"] = Fact(f"{kind}{prefix and f', under {prefix}'}", "read")
    found = {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    if sum(tensor.nbytes for tensor in found.values()) > file.stat().st_size:
        raise UserError(f"{file.name} describes more numbers than it holds; fetch it again")
    holder = prefix.removesuffix("model.")
    names = {key: key[len(holder) :] for key in tensors if key.startswith(holder)}
    beside = {name: tensors[key] for key, name in names.items() if "." not in name and holder != prefix}
    return {key: tensor.float() for key, tensor in found.items()}, beside


def _is_average(prefix: str) -> bool:
    return prefix.startswith(EMA_ENTRY) or (bool(AVERAGE.search(prefix)) and "online_model" not in prefix)
