"""What every layout shares: what may be asked of a conversion, what it finds, and tensors under new names.

A layout reads a network's structure from the names and shapes of its tensors; what these do not tell is given
by the user or assumed, and each fact says which.
"""

__all__ = [
    "Converted",
    "Fact",
    "Facts",
    "Layout",
    "Settings",
    "chosen",
    "count",
    "renamed",
    "shape",
    "unet_config",
]

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from ddpm_app.errors import UserError

Tensors = Mapping[str, Tensor]
LONGEST = 10_000


@dataclass(frozen=True)
class Settings:
    """What weights do not tell; None is read from them where a layout fixes it, else assumed or asked for."""

    image_size: int | None = None
    num_heads: int | None = None
    num_head_channels: int | None = None
    new_attention_order: bool = False
    num_train_timesteps: int | None = None
    schedule: str | None = None
    rescale_timesteps: bool | None = None
    prediction_type: str | None = None
    variance_type: str | None = None
    raw: bool = False

    def __post_init__(self) -> None:
        length = self.num_train_timesteps
        if length is not None and not 20 < length <= LONGEST:
            raise UserError(f"--num-train-timesteps must lie in 21..{LONGEST}; got {length}")


@dataclass(frozen=True)
class Fact:
    """One thing known of a checkpoint, and how: read from the file, given by the user, or assumed."""

    value: str
    source: Literal["read", "given", "assumed"]


Facts = dict[str, Fact]


@dataclass(frozen=True)
class Converted:
    """A network: its arguments, its tensors, and the variance and schedule of the layout's authors.

    `chain` holds what is known beyond doubt of the scheduler's arguments.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    variance_type: str
    chain: dict[str, Any] = field(default_factory=dict)
    schedule: str = "linear"


@dataclass(frozen=True)
class Layout:
    """Where a network comes from, the tensor that gives it away, and how it is read.

    `read` is given the network's tensors, and those that lie beside it in whatever holds it.
    """

    title: str
    landmark: str
    read: Callable[[Tensors, Tensors, Settings, Facts], Converted]


def chosen(facts: Facts, what: str, given: Any, assumed: Any) -> Any:
    """The value given, else the one assumed, and a fact about it."""
    value = assumed if given is None else given
    facts[what] = Fact(str(value), "assumed" if given is None else "given")
    return value


def shape(tensors: Tensors, key: str) -> tuple[int, ...]:
    """The shape of weights that the layout cannot be without."""
    found = tuple(tensors[key].shape) if key in tensors else ()
    if len(found) < 2 or 0 in found:
        raise UserError(f"the checkpoint has no {key}, so its network cannot be told; save it again whole")
    return found


def count(tensors: Tensors, pattern: str) -> int:
    """How many numbers, counted from 0, stand in the group of `pattern` at the start of the keys."""
    found = [match for match in (re.match(pattern, key) for key in tensors) if match]
    return 1 + max((int(match[1]) for match in found), default=-1)


def renamed(tensors: Tensors, blocks: Mapping[str, str], layers: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors as UNet2DModel names them: a block by `blocks`, what lies in it by `layers`."""
    result, strange = {}, []
    for key, tensor in tensors.items():
        block, _, parameter = key.rpartition(".")
        layer = ""
        while block and block not in blocks:
            block, _, last = block.rpartition(".")
            layer = f"{last}.{layer}".rstrip(".")
        if not block or (layer and layer not in layers):
            strange.append(key)
            continue
        name = ".".join(filter(None, (blocks[block], layers.get(layer), parameter)))
        attends = ".to_" in name and tensor.dim() > 2
        result[name] = tensor.flatten(1) if attends else tensor  # convolutions of one pixel, ours are linear
    if strange:
        raise UserError(
            f"diffusers' UNet2DModel has no place for {strange[0]} and {len(strange) - 1} more tensors of "
            "this checkpoint, a variant of its layout that cannot be converted"
        )
    return result


def unet_config(
    widths: Sequence[int], attends: Sequence[bool], size: int, plain: str = "", **own: Any
) -> dict[str, Any]:
    """UNet2DModel's arguments; `plain` names the sampling blocks without attention, "Resnet" or nothing."""
    multiple = 2 ** (len(widths) - 1)
    if size < 1 or size % multiple:
        raise UserError(f"--image-size must be a multiple of {multiple} for this network; got {size}")
    down, up = (
        (f"{plain}DownsampleBlock2D", f"{plain}UpsampleBlock2D") if plain else ("DownBlock2D", "UpBlock2D")
    )
    return {
        "sample_size": size,
        "block_out_channels": list(widths),
        "down_block_types": ["AttnDownBlock2D" if here else down for here in attends],
        "up_block_types": ["AttnUpBlock2D" if here else up for here in reversed(attends)],
        "norm_num_groups": 32,
        **own,
    }
