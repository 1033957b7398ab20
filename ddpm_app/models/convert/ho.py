"""Ho's U-Net, as pesser/pytorch_diffusion ported the TF weights and ermongroup/ddim trains it.

A level counts from the finest, on the way up too. One attention head; levels of 16 x 16 pixels attend.
"""

__all__ = ["HO"]

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
    "temb.dense.0": "time_embedding.linear_1",
    "temb.dense.1": "time_embedding.linear_2",
    "conv_in": "conv_in",
    "mid.block_1": "mid_block.resnets.0",
    "mid.attn_1": "mid_block.attentions.0",
    "mid.block_2": "mid_block.resnets.1",
    "norm_out": "conv_norm_out",
    "conv_out": "conv_out",
}
LAYERS = {
    "norm1": "norm1",
    "conv1": "conv1",
    "temb_proj": "time_emb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "nin_shortcut": "conv_shortcut",
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    "conv": "conv",
}


def read(tensors: Tensors, _beside: Tensors, settings: Settings, facts: Facts) -> Converted:
    """The UNet2DModel that equals this network."""
    if settings.num_head_channels or settings.num_heads not in (None, 1):
        raise UserError("Ho's network has one attention head; leave --num-heads and --num-head-channels out")
    if settings.new_attention_order or settings.rescale_timesteps:
        raise UserError(
            "--new-attention-order and --rescale-timesteps are of OpenAI's layout; leave them out"
        )
    levels = count(tensors, r"down\.(\d{1,3})\.")
    layers = count(tensors, r"down\.0\.block\.(\d{1,3})\.")
    attends = [f"down.{level}.attn.0.q.weight" in tensors for level in range(levels)]
    if True not in attends and settings.image_size is None:
        raise UserError(
            "no level of this network attends, so its picture's size is unknown; add --image-size"
        )
    size = chosen(
        facts, "picture size", settings.image_size, 16 * 2 ** (attends.index(True) if any(attends) else 0)
    )
    facts["attention heads"] = Fact("1, as everywhere in this layout", "read")
    config = unet_config(
        [shape(tensors, f"down.{level}.block.0.conv1.weight")[0] for level in range(levels)],
        attends,
        size,
        in_channels=shape(tensors, "conv_in.weight")[1],
        out_channels=shape(tensors, "conv_out.weight")[0],
        layers_per_block=layers,
        attention_head_dim=None,
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=0,
        norm_eps=1e-6,
    )
    # table 1 and appendix B of the paper: sigma^2 = beta on CIFAR-10, the posterior's on the large pictures
    variance_type = "fixed_large" if size <= 32 else "fixed_small"
    return Converted(config, renamed(tensors, BLOCKS | places(levels, layers), LAYERS), variance_type)


def places(levels: int, layers: int) -> dict[str, str]:
    """Where each block of the two arms stands in UNet2DModel, whose way up counts from the coarsest."""
    result = {}
    for level in range(levels):
        up = levels - 1 - level
        for index in range(layers + 1):
            result[f"down.{level}.block.{index}"] = f"down_blocks.{level}.resnets.{index}"
            result[f"down.{level}.attn.{index}"] = f"down_blocks.{level}.attentions.{index}"
            result[f"up.{level}.block.{index}"] = f"up_blocks.{up}.resnets.{index}"
            result[f"up.{level}.attn.{index}"] = f"up_blocks.{up}.attentions.{index}"
        result[f"down.{level}.downsample"] = f"down_blocks.{level}.downsamplers.0"
        result[f"up.{level}.upsample"] = f"up_blocks.{up}.upsamplers.0"
    return result


HO = Layout("Ho's U-Net (pytorch_diffusion, ddim)", "temb.dense.0.weight", read)
