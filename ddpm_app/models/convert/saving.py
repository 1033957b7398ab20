"""A converted network as a diffusers folder, with its scheduler and a card of what is known and how."""

__all__ = ["SCHEDULES", "save"]

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from ddpm_app.core.schedules import sigmoid_alpha_bar_betas
from ddpm_app.errors import UserError, one_of
from ddpm_app.models import folder as diffusers_folder
from ddpm_app.models.convert.layout import Converted, Fact, Facts, Settings, chosen
from ddpm_app.models.weights import WEIGHTS, misfit, new_network

SCHEDULES = {  # T -> the arguments of DDPMScheduler; the linear one is the paper's, times 1000 / T
    "linear": lambda length: {"beta_schedule": "linear", "beta_start": 0.1 / length, "beta_end": 20 / length},
    "cosine": lambda length: {"beta_schedule": "squaredcos_cap_v2"},
    "sigmoid": lambda length: {"trained_betas": sigmoid_alpha_bar_betas(length).tolist()},
}
USAGE = """```python
from diffusers import DDPMPipeline

pipeline = DDPMPipeline.from_pretrained("{name}")  # this folder, or owner/name on the Hub
pipeline(batch_size=4, num_inference_steps={steps}).images[0].save("sample.png")
```
"""
OWN = "diffusers has no {kind}: the folder is laid out as one of its own, for the app that wrote it.\n"
HOW = {"read": "read from the file", "given": "given", "assumed": "**assumed**"}


def save(out: Path, checkpoint: str, converted: Converted, settings: Settings, facts: Facts) -> None:
    """`out`, whole or not at all, and the facts of the network and of its chain added to `facts`."""
    from diffusers import DDPMScheduler
    from safetensors import SafetensorError

    if type_of(converted.config) == "UNet2DModel":
        tell_network(converted.config, facts)
    chain = scheduler_settings(converted, settings, facts)
    diffusers_folder.check_network(checkpoint, converted.config, chain)
    diffusers_folder.read_diffusion(checkpoint, chain, [])
    network, scheduler = filled(checkpoint, converted), DDPMScheduler(**chain)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".converting-") as partial:
            write(Path(partial, "model"), network, scheduler, converted.config)
            text = card(out.resolve().name, checkpoint, type_of(converted.config), facts)
            Path(partial, "model", "README.md").write_text(text, "utf-8")
            Path(partial, "model").rename(out)
    except (OSError, RuntimeError, SafetensorError) as error:  # the latter two of a full disk
        raise UserError(
            f"--out {out} cannot be written ({str(error).splitlines()[0]}); "
            "make room there, or give another folder"
        ) from error


def filled(checkpoint: str, converted: Converted) -> torch.nn.Module:
    """The network with every tensor in its place; UserError when one is missing or does not fit."""
    try:
        network = new_network(converted.config)
        problem = misfit(network.state_dict(), converted.tensors)
    except (ArithmeticError, RuntimeError, ValueError) as error:  # widths that no network can have
        problem = str(error).splitlines()[0]
    if problem:
        raise UserError(
            f"the network of {checkpoint} is damaged or one that {type_of(converted.config)} cannot express: "
            f"{problem} (as {type_of(converted.config)} names it)"
        )
    strange = [key for key, tensor in converted.tensors.items() if not tensor.isfinite().all()]
    if strange:
        raise UserError(f"{checkpoint} holds what is no number in {strange[0]}; take an earlier checkpoint")
    apart = {
        key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in converted.tensors.items()
    }
    network.load_state_dict(apart, assign=True)
    return network.eval()


def type_of(config: dict[str, Any]) -> str:
    """The class of a network's configuration."""
    return config.get("_class_name", "UNet2DModel")


def write(folder: Path, network: Any, scheduler: Any, config: dict[str, Any]) -> None:
    """Network and scheduler as diffusers lays them out, a pipeline of its own where it knows the network."""
    from diffusers import DDPMPipeline
    from safetensors.torch import save_file

    if type_of(config) == "UNet2DModel":
        pipeline: Any = DDPMPipeline(network, scheduler)
        pipeline.save_pretrained(folder)
        return
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "unet").mkdir()
    (folder / "unet" / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    save_file(network.state_dict(), folder / "unet" / WEIGHTS[0])


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
    """DDPMScheduler's arguments."""
    learned = converted.config["out_channels"] == 2 * converted.config["in_channels"]
    variance = chosen(facts, "variance_type", settings.variance_type, converted.variance_type)
    if not learned and variance.startswith("learned"):
        raise UserError(f"--variance-type {variance} needs as many channels again out; give a fixed one")
    if learned and settings.variance_type is None:
        facts["variance_type"] = Fact(f"{variance}, by twice the channels out", "read")
    prediction_type = converted.chain.get("prediction_type", "epsilon")
    if settings.prediction_type or "prediction_type" not in facts:
        prediction_type = chosen(facts, "prediction_type", settings.prediction_type, prediction_type)
    return betas_settings(converted, settings, facts) | {
        "prediction_type": prediction_type,
        "variance_type": variance,
        "clip_sample": True,
        "timestep_spacing": "trailing",
    }


def betas_settings(converted: Converted, settings: Settings, facts: Facts) -> dict[str, Any]:
    """The betas of the file, else a schedule."""
    betas = converted.chain.get("trained_betas")
    if betas:
        if settings.schedule or settings.num_train_timesteps:
            raise UserError(
                "this file holds the betas of its chain; leave --schedule and --num-train-timesteps out"
            )
        facts["T"] = Fact(str(len(betas)), "read")
        return {"num_train_timesteps": len(betas), "trained_betas": betas}
    length = chosen(facts, "T", settings.num_train_timesteps, 1000)
    schedule = chosen(facts, "schedule", settings.schedule, converted.schedule)
    return {"num_train_timesteps": length, **SCHEDULES[one_of("schedule", schedule, SCHEDULES)](length)}


def card(name: str, checkpoint: str, kind: str, facts: Facts) -> str:
    """The README.md of the folder, with how to sample where diffusers knows the network."""
    diffusers = kind == "UNet2DModel"
    library = "library_name: diffusers\n" if diffusers else ""
    usage = USAGE.format(name=name, steps=facts["T"].value) if diffusers else OWN.format(kind=kind)
    rows = "\n".join(f"| {what} | {fact.value} | {HOW[fact.source]} |" for what, fact in facts.items())
    return f"""---
{library}pipeline_tag: unconditional-image-generation
tags:
- ddpm
- diffusion-models
- unconditional-image-generation
---

# {name}

`{checkpoint}`, converted: the same network, tensor by tensor. What its weights do not tell was
given or assumed; convert again with what it was trained with where an assumption is wrong.

| | | how it is known |
|---|---|---|
{rows}

{usage}
The license is that of the original checkpoint.
"""
