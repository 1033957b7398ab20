"""The U-Net of a training run."""

__all__ = ["build_unet"]

from typing import Any

import torch

from ddpm_app.errors import UserError
from ddpm_app.models import read_network
from ddpm_app.training.config import LEARNED, TrainingConfig

UNSEEN = ("norm_num_groups", "attention_head_dim")  # they change what weights of the same shapes mean


def build_unet(config: TrainingConfig):
    """A diffusers UNet2DModel with attention where the picture has shrunk to `attention_resolutions`.

    Its weights are those of `init_from`, else drawn from torch's global generator. With a learned variance
    it has twice the image's channels. Raises UserError where the weights to begin with do not fit.
    """
    from diffusers import UNet2DModel

    depth = len(config.block_out_channels)
    attends = [config.image_size // 2**level in config.attention_resolutions for level in range(depth)]
    settings = {
        "sample_size": config.image_size,
        "in_channels": config.channels,
        "out_channels": config.channels * (2 if config.variance_type in LEARNED else 1),
        "block_out_channels": config.block_out_channels,
        "layers_per_block": config.layers_per_block,
        "down_block_types": tuple("AttnDownBlock2D" if here else "DownBlock2D" for here in attends),
        "up_block_types": tuple("AttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attends)),
        "norm_num_groups": config.norm_num_groups,
        "attention_head_dim": config.attention_head_dim or None,
        "dropout": config.dropout,
    }
    if not config.init_from:
        return UNet2DModel(**settings)
    given, diffusion = read_network(config.init_from)
    if not isinstance(given, UNet2DModel):
        raise UserError(f"init_from {config.init_from} is no UNet2DModel, which is what is trained here")
    if diffusion.prediction_type != config.prediction_type:
        raise UserError(
            f"init_from {config.init_from} learned to predict another thing; "
            f"take its prediction_type, {diffusion.prediction_type}"
        )
    # what no setting names is the given network's, but for the place where that lay
    inherited: Any = given.config
    own = {name: value for name, value in inherited.items() if name != "_name_or_path"}
    unet = UNet2DModel.from_config(own, **settings)
    begin_with(unet, given, config.init_from)
    return unet


def begin_with(unet, network, model: str) -> None:
    """Copies the weights of `model`'s network; outputs that it lacks, those for a variance, begin at zero."""
    given, wanted = network.state_dict(), unet.state_dict()
    same = all(unet.config[name] == network.config[name] for name in UNSEEN)
    for name in ("conv_out.weight", "conv_out.bias"):
        if name in given and 2 * len(given[name]) == len(wanted[name]):
            given[name] = torch.cat([given[name], torch.zeros_like(given[name])])
    if not same or {k: v.shape for k, v in given.items()} != {k: v.shape for k, v in wanted.items()}:
        raise UserError(
            f"init_from {model} is another network; take its block_out_channels, layers_per_block, "
            "attention_resolutions, attention_head_dim, norm_num_groups and channels"
        )
    unet.load_state_dict(given)
