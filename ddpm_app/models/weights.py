"""The network's tensors on disk, read as tensors only, and the U-Net that they fill."""

__all__ = [
    "INDEX",
    "UNBUILDABLE",
    "WEIGHTS",
    "build_network",
    "count_operations",
    "new_network",
    "read_weights",
    "weight_files",
    "weights_among",
]

import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from fnmatch import filter as matching
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_app.errors import UserError
from ddpm_app.models.light import import_diffusers
from ddpm_app.models.lucidrains import LucidrainsUNet

# patterns, the first that matches wins; the second is one network in several files
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model-*-of-*.safetensors",
    "diffusion_pytorch_model.bin",
)
INDEX = f"{WEIGHTS[0]}.index.json"  # says which files a network in several is in
# what diffusers and torch raise for a configuration that nobody checked
UNBUILDABLE = (ArithmeticError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError)
# the authors' attention layers as diffusers named them first
OLD_ATTENTION_NAMES = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}


def weight_files(where: Path) -> list[Path]:
    """The files in folder `where` that hold the network's tensors; [] if none."""
    files = [file for file in where.glob("*") if os.path.isfile(file)]
    return [where / name for name in weights_among([file.name for file in files], where / INDEX)]


def weights_among(names: Iterable[str], index: Path) -> list[str]:
    """Those names of a folder's files that hold the network's tensors, .safetensors before .bin; [] if none.

    Shards of an earlier upload, which may lie beside those of the `index`, are none of them.
    """
    names = sorted(names)
    found = next((files for pattern in WEIGHTS if (files := matching(names, pattern))), [])
    if len(found) < 2:
        return found
    if not os.path.isfile(index):
        if len({name.rpartition("-of-")[2] for name in found}) > 1:
            raise UserError(f"the files of two networks lie there; save the model again, with {index.name}")
        return found
    try:
        listed = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise UserError(f"{index.name} is damaged; fetch or save the model again") from error
    return [name for name in found if name in listed]


def read_weights(name: str, where: Path) -> dict[str, Tensor]:
    """The tensors beside a network's configuration; a .bin is read without running what it may contain."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = weight_files(where)
    if not files:
        variant = next((f" (only the variant {file.name})" for file in where.glob("*.safetensors")), "")
        raise UserError(f"{name} has no {WEIGHTS[0]}{variant}; fetch or save the model again with that file")
    tensors: dict[str, Tensor] = {}
    for file in files:
        if file.suffix == ".bin":
            return _read_bin(name, file)
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file.name} of {name} is damaged; fetch or save the model again") from error
    return tensors


def _read_bin(name: str, file: Path) -> dict[str, Tensor]:
    try:
        if zipfile.is_zipfile(file) and any(part.compress_type for part in zipfile.ZipFile(file).infolist()):
            raise ValueError("torch compresses nothing; unpacked, this may be of any size")
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what damaged bytes raise here ranges from KeyError to AssertionError
        raise UserError(
            f"{file.name} of {name} is damaged or holds more than tensors, so it is not opened; "
            "fetch the model again or save it as safetensors"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{file.name} of {name} is not a table of tensors; save it as safetensors")
    return tensors


def build_network(name: str, config: dict[str, Any], weights: dict[str, Tensor]) -> nn.Module:
    """The network of that configuration in float32, every one of these weights placed.

    It takes no memory before the weights are known to fit, and has computed once when it is returned.
    """
    try:
        network = new_network(config)
    except UNBUILDABLE as error:
        raise UserError(
            f"no network can be built from the config.json of {name} ({reason(error)})"
        ) from error
    renamed = {}
    for key, tensor in weights.items():
        for old, new in OLD_ATTENTION_NAMES.items():
            key = key.replace(old, new) if ".attentions." in key else key
        renamed[key] = tensor.to(torch.float32, copy=True)  # a file that is mapped may be written anew
    problem = misfit(network.state_dict(), renamed)
    if problem:
        raise UserError(f"the weights of {name} do not fit its config.json: {problem}; fetch it again")
    network.load_state_dict(renamed, assign=True)
    try_out(name, network)
    return network


def new_network(config: Mapping[str, Any]) -> Any:
    """A network of that configuration, by its `_class_name` or diffusers' UNet2DModel, without any memory."""
    unet = import_diffusers().UNet2DModel  # outside the block below: importing makes tensors too
    with torch.device("meta"):
        if config.get("_class_name") == LucidrainsUNet.__name__:
            return LucidrainsUNet(**{key: value for key, value in config.items() if key[0] != "_"})
        return unet.from_config(dict(config))


def count_operations(config: Mapping[str, Any]) -> int:
    """The floating-point operations of a network of that configuration on one image; nothing is computed."""
    from torch.utils.flop_counter import FlopCounterMode

    size = config["sample_size"]
    height, width = size if isinstance(size, list | tuple) else (size, size)
    network = new_network(config)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, config["in_channels"], height, width), torch.zeros(1, dtype=torch.long))
    return counter.get_total_flops()


@torch.inference_mode()
def try_out(name: str, network: Any) -> None:
    """UserError unless the network computes finite numbers, for the smallest picture that it takes."""
    edge = 2 ** (len(network.config.block_out_channels) - 1)
    # two of them: of one, the norm of the smallest map may see a single number, and refuses
    pictures = torch.zeros(2, network.config.in_channels, edge, edge)
    try:
        output = network(pictures, torch.tensor([0, 1])).sample
    except UNBUILDABLE as error:
        raise UserError(f"the network of {name} cannot compute ({reason(error)}); fetch it again") from error
    if not output.isfinite().all():
        raise UserError(f"the network of {name} gives no finite numbers; fetch or save the model again")


def reason(error: Exception) -> str:
    """The first line of what the error says, shortened."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def misfit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """What keeps the tensors given from being the ones expected, in a few words; empty when nothing does."""
    missing = [key for key in expected if key not in given]
    unknown = [key for key in given if key not in expected]
    reshaped = [key for key in expected if key in given and given[key].shape != expected[key].shape]
    for keys, what in ((missing, "missing"), (unknown, "unknown to it"), (reshaped, "of another shape")):
        if keys:
            return f"{len(keys)} of {len(expected)} tensors are {what}, the first is {keys[0]}"
    return ""
