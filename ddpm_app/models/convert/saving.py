"""A converted network as a diffusers folder, with its scheduler and a card of what is known and how."""

__all__ = ["SCHEDULES", "save"]

import tempfile
from pathlib import Path
from typing import Any

import torch

from ddpm_app.errors import UserError, one_of
from ddpm_app.models import folder as diffusers_folder
from ddpm_app.models.convert.layout import Converted, Fact, Facts, Settings, chosen
from ddpm_app.models.weights import misfit

SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
HOW = {"read": "read from the file", "given": "given", "assumed": "**assumed**"}


def save(out: Path, checkpoint: str, converted: Converted, settings: Settings, facts: Facts) -> None:
    """`out`, whole or not at all, and the facts of the network and of its chain added to `facts`."""
    from diffusers import DDPMPipeline, DDPMScheduler

    tell_network(converted.config, facts)
    chain = scheduler_settings(converted, settings, facts)
    diffusers_folder.check_network(checkpoint, converted.config, chain)
    diffusers_folder.read_diffusion(checkpoint, chain, [])
    pipeline: Any = DDPMPipeline(filled(checkpoint, converted), DDPMScheduler(**chain))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".converting-") as partial:
            pipeline.save_pretrained(Path(partial, "model"))
            Path(partial, "model", "README.md").write_text(
                card(out.resolve().name, checkpoint, facts), "utf-8"
            )
            Path(partial, "model").rename(out)
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror}); give another folder") from error


def filled(checkpoint: str, converted: Converted) -> torch.nn.Module:
    """diffusers' network with every tensor in its place; UserError when one is missing or does not fit."""
    from diffusers import UNet2DModel

    try:
        with torch.device("meta"):
            network = UNet2DModel.from_config(converted.config)
        problem = misfit(network.state_dict(), converted.tensors)
    except (ArithmeticError, RuntimeError, ValueError) as error:  # widths that no network can have
        problem = str(error).splitlines()[0]
    if problem:
        raise UserError(
            f"the network of {checkpoint} is damaged or one that diffusers' UNet2DModel cannot express: "
            f"{problem} (as UNet2DModel names it)"
        )
    apart = {
        key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in converted.tensors.items()
    }
    network.load_state_dict(apart, assign=True)
    return network.eval()


def tell_network(config: dict[str, Any], facts: Facts) -> None:
    """The facts that the network's arguments hold, all read from the shapes of its tensors."""
    size, kinds = config["sample_size"], config["down_block_types"]
    attends = [f"{size >> level}" for level, kind in enumerate(kinds) if kind.startswith("Attn")]
    read = {
        "channels": f"{config['in_channels']} in, {config['out_channels']} out",
        "block_out_channels": f"{tuple(config['block_out_channels'])}",
        "residual blocks per level": f"{config['layers_per_block']}",
        "attention at": ", ".join([*attends, "the middle"]),
        "time in the blocks": config.get("resnet_time_scale_shift", "default").replace("default", "shift"),
        "resampling by": config.get("downsample_type", "conv"),
    }
    facts |= {what: Fact(value, "read") for what, value in read.items()}


def scheduler_settings(converted: Converted, settings: Settings, facts: Facts) -> dict[str, Any]:
    """DDPMScheduler's arguments; the linear schedule of T steps is the paper's, scaled by 1000 / T."""
    length = chosen(facts, "T", settings.num_train_timesteps, 1000)
    schedule = one_of("schedule", chosen(facts, "schedule", settings.schedule, "linear"), SCHEDULES)
    learned = converted.config["out_channels"] == 2 * converted.config["in_channels"]
    variance = chosen(facts, "variance_type", settings.variance_type, converted.variance_type)
    if not learned and variance.startswith("learned"):
        raise UserError(f"--variance-type {variance} needs as many channels again out; give a fixed one")
    if learned and settings.variance_type is None:
        facts["variance_type"] = Fact(f"{variance}, by twice the channels out", "read")
    return {
        "num_train_timesteps": length,
        "beta_schedule": SCHEDULES[schedule],
        "beta_start": 0.1 / length,
        "beta_end": 20 / length,
        "prediction_type": chosen(facts, "prediction_type", settings.prediction_type, "epsilon"),
        "variance_type": variance,
        "clip_sample": True,
        "timestep_spacing": "trailing",
    }


def card(name: str, checkpoint: str, facts: Facts) -> str:
    """The README.md of the folder."""
    rows = "\n".join(f"| {what} | {fact.value} | {HOW[fact.source]} |" for what, fact in facts.items())
    return f"""---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags:
- ddpm
- diffusion-models
- unconditional-image-generation
---

# {name}

`{checkpoint}`, converted to diffusers: the same network, tensor by tensor. What its weights do not tell was
given or assumed; convert again with what it was trained with where an assumption is wrong.

| | | how it is known |
|---|---|---|
{rows}

```python
from diffusers import DDPMPipeline

pipeline = DDPMPipeline.from_pretrained("{name}")  # this folder, or owner/name on the Hub
pipeline(batch_size=4, num_inference_steps={facts["T"].value}).images[0].save("sample.png")
```

The license is that of the original checkpoint.
"""
