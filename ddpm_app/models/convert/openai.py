"""The U-Net of openai/improved-diffusion and openai/guided-diffusion, without classes.

Its blocks are numbered in one row: each level has its residual blocks, then what samples down; on the way up
what samples up is the end of the level's last block. Two things the weights do not tell: the attention heads,
and whether the network was given t or 1000 t / T (`rescale_timesteps`).
"""

__all__ = ["OPENAI"]

import math

import torch
from torch import Tensor

from ddpm_app.errors import UserError
from ddpm_app.models.convert.layout import (
    Converted,
    Fact,
    Facts,
    Layout,
    Settings,
    Tensors,
    chosen,
    count,
    renamed,
    shape,
    unet_config,
)

BLOCKS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
LAYERS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    "op": "conv",
    "conv": "conv",
}
# multipliers of the width -> the edge of the pictures, as the authors' create_model couples them
EDGES: dict[tuple[float, ...], int] = {
    (1, 2, 2, 2): 32,
    (1, 2, 3, 4): 64,
    (1, 1, 2, 3, 4): 128,
    (1, 1, 2, 2, 4, 4): 256,
}


def read(tensors: Tensors, _beside: Tensors, settings: Settings, facts: Facts) -> Converted:
    """The UNet2DModel that equals this network; UserError where there is none, or heads must be given."""
    if "label_emb.weight" in tensors:
        raise UserError(
            "this checkpoint is class-conditional (label_emb.weight); convert an unconditional one"
        )
    levels, layers = depth(tensors)
    firsts = [1 + level * (layers + 1) for level in range(levels)]
    widths = [shape(tensors, f"input_blocks.{first}.0.in_layers.2.weight")[0] for first in firsts]
    attends = [f"input_blocks.{first}.1.qkv.weight" in tensors for first in firsts]
    by_blocks = levels > 1 and f"input_blocks.{firsts[1] - 1}.0.in_layers.0.weight" in tensors
    attending = [width for width, here in zip(widths, attends, strict=True) if here]
    head_channels = heads(settings, [*attending, widths[-1]], facts)
    shifts = shape(tensors, "middle_block.0.emb_layers.1.weight")[0] == 2 * widths[-1]
    resampling = "resnet" if by_blocks else "conv"
    config = unet_config(
        widths,
        attends,
        edge(settings, tuple(width / widths[0] for width in widths), facts),
        plain="Resnet" if by_blocks else "",
        in_channels=shape(tensors, "input_blocks.0.0.weight")[1],
        out_channels=shape(tensors, "out.2.weight")[0],
        layers_per_block=layers,
        attention_head_dim=head_channels,
        attn_norm_num_groups=32,  # else absent in the middle of a network with scale_shift
        resnet_time_scale_shift="scale_shift" if shifts else "default",
        downsample_type=resampling,
        upsample_type=resampling,
        flip_sin_to_cos=True,
        freq_shift=0,
        norm_eps=1e-5,
    )
    parted = split_attention(tensors, head_channels, settings.new_attention_order)
    ours = renamed(parted, BLOCKS | places(attends, layers), LAYERS)
    table = time_table(settings, widths[0], facts)
    if table is not None:
        config |= {"time_embedding_type": "learned", "num_train_timesteps": len(table)}
        ours["time_proj.weight"] = table
    learned = config["out_channels"] == 2 * config["in_channels"]
    return Converted(config, ours, "learned_range" if learned else "fixed_large")


def depth(tensors: Tensors) -> tuple[int, int]:
    """The number of levels, and of residual blocks in each, by where the way up doubles the edge."""
    rows = count(tensors, r"output_blocks\.(\d{1,3})\.")
    doubles = ("1.conv.weight", "2.conv.weight", "1.in_layers.2.weight", "2.in_layers.2.weight")
    ups = [row for row in range(rows) if any(f"output_blocks.{row}.{layer}" in tensors for layer in doubles)]
    levels = len(ups) + 1
    each = rows // levels
    if each < 2 or rows % levels or ups != [(level + 1) * each - 1 for level in range(levels - 1)]:
        raise UserError(
            "the output_blocks of this checkpoint do not double the edge by convolutions or residual blocks "
            "(conv_resample=False?), which diffusers' UNet2DModel cannot express"
        )
    return levels, each - 1


def heads(settings: Settings, widths: list[int], facts: Facts) -> int | None:
    """The channels of a head, the same wherever it attends; None for one head of all channels."""
    number, channels = settings.num_heads, settings.num_head_channels
    divisor = number or channels or 0
    if (number is None) == (channels is None):
        raise UserError(
            "these weights do not tell their attention heads; add those of the training, --num-heads "
            "(4 by default in improved-diffusion) or --num-head-channels (64 in most of guided-diffusion)"
        )
    if divisor < 1 or any(width % divisor for width in widths):
        flag = "--num-heads" if channels is None else "--num-head-channels"
        raise UserError(f"{flag} {divisor} does not divide the widths that attend, {sorted({*widths})}")
    facts["attention heads"] = Fact(f"{number}" if number else f"of {channels} channels each", "given")
    if number == 1:
        return None
    per_head = {width // divisor for width in widths} if number else {divisor}
    if len(per_head) > 1:
        raise UserError(
            f"{number} heads on {sorted({*widths})} channels have no width in common, "
            "which diffusers' UNet2DModel cannot express: it has one attention_head_dim for all layers"
        )
    return per_head.pop()


def edge(settings: Settings, multipliers: tuple[float, ...], facts: Facts) -> int:
    """The edge of the pictures, by the multipliers where the authors' scripts couple the two."""
    if settings.image_size is None and multipliers not in EDGES:
        raise UserError("the edge of this network's pictures is not told by its weights; add --image-size")
    return chosen(facts, "picture size", settings.image_size, EDGES.get(multipliers))


def split_attention(tensors: Tensors, head_channels: int | None, new_order: bool) -> dict[str, Tensor]:
    """The tensors with each qkv as three; its rows lie by head, then q k v, in the new order q k v first."""
    result: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        block, found, parameter = key.partition(".qkv.")
        if not found:
            result[key] = tensor
            continue
        channels = head_channels or max(1, len(tensor) // 3)
        if len(tensor) % (3 * channels):
            raise UserError(f"{key} has {len(tensor)} rows, no q, k and v of heads of {channels} channels")
        rows = tensor.reshape(3, -1, *tensor.shape[1:])
        if not new_order:
            rows = tensor.reshape(-1, 3, channels, *tensor.shape[1:]).transpose(0, 1).reshape(rows.shape)
        result |= {f"{block}.{part}.{parameter}": rows[index] for index, part in enumerate("qkv")}
    return result


def time_table(settings: Settings, width: int, facts: Facts) -> Tensor | None:
    """The embedding (T, width) of 1000 t / T, for a network that was given this and not t; else None."""
    length = settings.num_train_timesteps or 1000
    if length == 1000 or not chosen(facts, "network sees 1000 t / T", settings.rescale_timesteps, True):
        return None
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half) / half)
    angles = torch.arange(length)[:, None] * (1000.0 / length) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def places(attends: list[bool], layers: int) -> dict[str, str]:
    """Where each block of the two rows stands in UNet2DModel; both rows have `layers` + 1 blocks a level."""
    result = {}
    for level, here in enumerate(attends):
        up = len(attends) - 1 - level
        for index in range(layers + 1):
            into, out = 1 + level * (layers + 1) + index, up * (layers + 1) + index
            result[f"input_blocks.{into}.0"] = f"down_blocks.{level}.resnets.{index}"
            result[f"input_blocks.{into}.1"] = f"down_blocks.{level}.attentions.{index}"
            result[f"output_blocks.{out}.0"] = f"up_blocks.{up}.resnets.{index}"
            if here:
                result[f"output_blocks.{out}.1"] = f"up_blocks.{up}.attentions.{index}"
        result[f"input_blocks.{into}.0"] = f"down_blocks.{level}.downsamplers.0"
        result[f"output_blocks.{out}.{1 + here}"] = f"up_blocks.{up}.upsamplers.0"
    return result


OPENAI = Layout("OpenAI's U-Net (improved-diffusion, guided-diffusion)", "time_embed.0.weight", read)
