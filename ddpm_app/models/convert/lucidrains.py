"""The U-Net of lucidrains/denoising-diffusion-pytorch 2.x, with the chain that lies beside it in the file."""

__all__ = ["LUCIDRAINS"]

from typing import Any

from ddpm_app.errors import UserError
from ddpm_app.models.convert.layout import Converted, Fact, Facts, Layout, Settings, Tensors, count, shape

KIND = "LucidrainsUNet"
# what another version or an option has -> its name
OTHERS = {
    "time_mlp.0.weights": "a learned or random embedding of t",
    "downs.0.2.fn.norm.g": "the attention of an older version",
    "downs.0.0.block1.norm.weight": "the group norms of an older version",
}


def read(tensors: Tensors, beside: Tensors, settings: Settings, facts: Facts) -> Converted:
    """The LucidrainsUNet that equals this network, and its chain where the file has it."""
    strange = [what for key, what in OTHERS.items() if key in tensors]
    if strange or "mid_attn.mem_kv" not in tensors:
        what = (strange or ["attention without memories"])[0]
        raise UserError(
            f"this U-Net of denoising-diffusion-pytorch has {what}; "
            "what can be converted is the newest one, with RMSNorm and with memories in its attention"
        )
    if settings.image_size is None:
        raise UserError("no tensor of this network tells its picture's size; add --image-size")
    if settings.num_heads or settings.num_head_channels or settings.new_attention_order:
        raise UserError("this network's attention heads are read from its memories; leave their flags out")
    if settings.rescale_timesteps:
        raise UserError("--rescale-timesteps is of OpenAI's layout; leave it out")
    levels = count(tensors, r"downs\.(\d{1,3})\.")
    _, heads, memories, head_channels = shape(tensors, "mid_attn.mem_kv")
    stem, channels, *_ = shape(tensors, "init_conv.weight")
    outputs = shape(tensors, "final_conv.weight")[0]
    if channels not in (outputs, outputs // 2):
        raise UserError(
            "this network is given its last guess of x0 too (self_condition), which is not done here"
        )
    ends = [f"downs.{level}.3.1.weight" for level in range(levels - 1)] + [f"downs.{levels - 1}.3.weight"]
    widths = [shape(tensors, end)[0] for end in ends]
    full = [f"downs.{level}.2.to_out.weight" in tensors for level in range(levels)]
    facts["channels"] = Fact(f"{channels} in, {outputs} out", "read")
    facts["block_out_channels"] = Fact(str(tuple(widths)), "read")
    sizes = [str(settings.image_size >> level) for level, here in enumerate(full) if here]
    facts["attention"] = Fact(f"full at {', '.join([*sizes, 'the middle'])}, linear at the others", "read")
    facts["attention heads"] = Fact(f"{heads} of {head_channels} channels", "read")
    facts["picture size"] = Fact(str(settings.image_size), "given")
    config = {
        "_class_name": KIND,
        "sample_size": settings.image_size,
        "in_channels": channels,
        "out_channels": outputs,
        "stem_channels": stem,
        "embedding_channels": shape(tensors, "time_mlp.1.weight")[1],
        "block_out_channels": widths,
        "full_attention": full,
        "num_heads": heads,
        "attention_head_dim": head_channels,
        "num_memories": memories,
    }
    learned = outputs == 2 * channels
    variance_type = "learned_range" if learned else "fixed_small"
    return Converted(config, dict(tensors), variance_type, chain(beside, facts, learned), schedule="sigmoid")


def chain(beside: Tensors, facts: Facts, learned: bool) -> dict[str, Any]:
    """The scheduler's arguments that a saved GaussianDiffusion tells: its betas, and what is predicted.

    Its loss weights are functions of the SNR that differ by what is predicted (Hang et al. 2023, clipped or
    not): at an SNR of 1/2 they are 1, 1/2 or 1/3. The learned variance is trained with eps alone, by a loss
    that leaves these weights unused.
    """
    if learned:
        facts["prediction_type"] = Fact("epsilon, by twice the channels out", "read")
    if "betas" not in beside:
        return {"prediction_type": "epsilon" if learned else "v_prediction"}  # the library's default
    facts["schedule"] = Fact(f"{len(beside['betas'])} betas", "read")
    read = {"trained_betas": beside["betas"].tolist()}
    if learned or "loss_weight" not in beside:
        return read
    snr = (beside["alphas_cumprod"] / (1 - beside["alphas_cumprod"])).double()
    t = (snr - 0.5).abs().argmin()
    weights = {"epsilon": 1.0, "sample": snr[t].item(), "v_prediction": (snr[t] / (snr[t] + 1)).item()}
    weight = beside["loss_weight"][t].item()
    prediction_type = min(weights, key=lambda kind: abs(weights[kind] - weight))
    facts["prediction_type"] = Fact(f"{prediction_type}, by the weights of its loss", "read")
    return read | {"prediction_type": prediction_type}


LUCIDRAINS = Layout("the U-Net of denoising-diffusion-pytorch", "init_conv.weight", read)
