"""The U-Net of lucidrains/denoising-diffusion-pytorch, which diffusers' UNet2DModel cannot express."""

__all__ = ["LUCIDRAINS"]

from typing import NoReturn

from ddpm_app.errors import UserError
from ddpm_app.models.convert.layout import Facts, Layout, Settings, Tensors

# the tensor that shows it -> the layer; the first convolution is in every version of that library
OBSTACLES = {
    "init_conv.weight": "a first convolution of 7 x 7 (init_conv)",
    "time_mlp.0.weights": "a learned or random sinusoidal embedding (time_mlp.0)",
    "downs.0.2.fn.norm.g": "linear attention behind a norm of its own (downs.0.2)",
    "downs.0.2.norm.g": "linear attention behind RMSNorm (downs.0.2)",
    "downs.0.2.mem_kv": "memory keys and values in attention (downs.0.2.mem_kv)",
    "downs.0.0.block1.norm.g": "RMSNorm in the residual blocks (downs.0.0.block1.norm)",
    "final_res_block.block1.proj.weight": "a residual block after the last level (final_res_block)",
}


def read(tensors: Tensors, settings: Settings, facts: Facts) -> NoReturn:
    """UserError with the layers that stand in the way."""
    found = [layer for key, layer in OBSTACLES.items() if key in tensors]
    raise UserError(
        f"this is a U-Net of denoising-diffusion-pytorch, which has {', '.join(found)}; "
        "diffusers' UNet2DModel has none of these, so it cannot be converted"
    )


LUCIDRAINS = Layout("the U-Net of denoising-diffusion-pytorch", "init_conv.weight", read)
