"""The model card of a trained folder: a README.md with the Hub's front matter, from the run's own figures.

It is written anew at each save. Two things in it belong to people and stay: all from a line `## Notes` on,
and a `license:` in the front matter.
"""

__all__ = ["CardFacts", "write_card"]

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ddpm_app.training.checkpoints import SAMPLES, UPLOADS
from ddpm_app.training.config import TrainingConfig

CARD = "README.md"
NOTES = re.compile(r"^## Notes[ \t]*$.*", re.MULTILINE | re.DOTALL)
LICENSE = re.compile(r"\A---\n(?:(?!---\n).*\n)*?license: *(\S+)")
UNKNOWN_TO_DIFFUSERS = {"variance_type": "learned", "prediction_type": "posterior_mean"}
TARGETS = {
    "epsilon": "the noise",
    "sample": "the picture",
    "v_prediction": "v, a mix of noise and picture",
    "posterior_mean": "the mean of the next step",
}
FIELDS = "data", "out"  # of the configuration, told elsewhere and as names


@dataclass(frozen=True)
class CardFacts:
    """What a run knows of itself beyond its configuration.

    `loss` is the objective's, `held_out_loss` always L_simple, every t alike, of the averaged weights.
    `hub_dataset` is the data's `owner/name` where it came from the Hub, `license` the Hub's word for one.
    """

    steps_done: int
    seconds: float
    loss: float
    num_images: int
    num_parameters: int
    held_out_loss: float | None = None
    num_held_out: int = 0
    hub_dataset: str | None = None
    license: str | None = None


def write_card(out: Path, config: TrainingConfig, facts: CardFacts) -> None:
    """`out/README.md` about the model that training has come to; notes and a license in it are kept."""
    out = out.resolve()
    card = out / CARD
    before = card.read_text("utf-8") if card.exists() else ""
    stated = LICENSE.search(before)
    notes = NOTES.search(before)
    settings = asdict(config)
    parts = [
        _front_matter(facts, facts.license or (stated and stated[1])),
        _heading(out, settings, facts),
        _table(_summary(out, settings, facts)),
        _use(out.name, settings),
        _limits(settings, facts),
        "## Settings\n\n" + _table(_settings(settings)),
        "<!-- Written anew at each save; what stands below a line `## Notes` is kept. -->",
    ]
    partial = out / f"{CARD}.partial"
    partial.write_text("\n\n".join([*parts, *([notes[0].rstrip()] if notes else [])]) + "\n", "utf-8")
    os.replace(partial, card)


def _front_matter(facts: CardFacts, license: str | None) -> str:
    lines = ["---", *([f"license: {license}"] if license else [])]
    lines += ["library_name: diffusers", "pipeline_tag: unconditional-image-generation"]
    lines += ["tags:", "- ddpm", "- diffusion-models", "- unconditional-image-generation"]
    if facts.hub_dataset:
        lines += ["datasets:", f"- {facts.hub_dataset}"]
    return "\n".join([*lines, "---"])


def _heading(out: Path, settings: dict[str, Any], facts: CardFacts) -> str:
    edge, colour = settings["image_size"], "gray" if settings["channels"] == 1 else "colour"
    lines = [f"# {out.name}", f"A DDPM of {edge} x {edge} pictures in {colour}, without conditioning."]
    if (out / SAMPLES).exists():
        lines.append(f"![Samples of this model]({SAMPLES})")
    return "\n\n".join(lines)


def _summary(out: Path, settings: dict[str, Any], facts: CardFacts) -> dict[str, str]:
    """The rows of the first table: what a reader asks about a model, in the order of asking."""
    edge, widths = settings["image_size"], settings["block_out_channels"]
    sizes = [edge // 2**level for level in range(len(widths))]
    attends = [f"{size} x {size}" for size in sizes if size in settings["attention_resolutions"]]
    objective, predicted = _objective(settings), settings["prediction_type"]
    steps = f"{facts.steps_done:,} of {settings['num_steps']:,} steps of {settings['batch_size']} pictures"
    rows = {
        "data": f"{_data(out, settings, facts)}: {facts.num_images:,} pictures"
        + (", mirrored at random" if settings.get("flip") else ""),
        "network": f"UNet2DModel, {facts.num_parameters:,} parameters, block_out_channels {tuple(widths)}, "
        f"layers per block {settings['layers_per_block']}, "
        + (f"attention at {' and '.join(attends)}" if attends else "attention in the middle alone")
        + "; the averaged weights, in half precision",
        "process": f"{settings['schedule']} schedule, T = {settings['num_train_timesteps']:,}, "
        f"reverse variance {settings['variance_type']}",
        "objective": f"{objective}{_guidance(settings)}; the network predicts "
        f"{TARGETS.get(predicted, predicted)} ({predicted})",
        "training": f"{steps}, each seen about {_times_seen(settings, facts)}; {_duration(facts.seconds)}",
        "training loss": f"{facts.loss:.4g} at the end, {objective}",
    }
    if facts.held_out_loss is not None:
        rows["held-out loss"] = (
            f"{facts.held_out_loss:.4g}, L_simple, every t alike, of the averaged weights, "
            f"on {facts.num_held_out:,} pictures kept out of the training"
        )
    return rows


def _objective(settings: dict[str, Any]) -> str:
    """The objective's name, with what its timesteps weigh."""
    name, gamma = f"L_{settings['objective']}", settings["min_snr_gamma"]
    return f"{name} weighted by min(SNR, {gamma:g})" if gamma else name


def _guidance(settings: dict[str, Any]) -> str:
    """Of a run that was guided, what it learned instead of the pictures, and where."""
    if not settings["guide"]:
        return ""
    first = round(settings["guidance_from"] * settings["num_train_timesteps"])
    return (
        f", from t = {first} on of what `{_name(settings['init_from'])}` sees when it is led away from "
        f"`{_name(settings['guide'])}`, a weaker model, by a guidance scale of {settings['guidance_scale']:g}"
    )


def _data(out: Path, settings: dict[str, Any], facts: CardFacts) -> str:
    """The data set's name, never the place where it lay."""
    if facts.hub_dataset:
        return f"[{facts.hub_dataset}](https://huggingface.co/datasets/{facts.hub_dataset})"
    if Path(settings["data"]).resolve() == out / UPLOADS:
        return "uploaded pictures"
    return f"`{_name(settings['data'])}`"


def _use(name: str, settings: dict[str, Any]) -> str:
    length = settings["num_train_timesteps"]
    run = f"--sampler ddim --steps {min(50, length)} --num-images 16 --out samples"
    diffusers = f"""In diffusers:

```python
from diffusers import DDPMPipeline

pipeline = DDPMPipeline.from_pretrained("{name}")  # this folder, or owner/name on the Hub
pipeline(batch_size=4, num_inference_steps={length}).images[0].save("sample.png")
```"""
    for setting, meaning in UNKNOWN_TO_DIFFUSERS.items():
        if settings[setting] == meaning:
            diffusers = f"diffusers loads this folder, but has no {setting} `{meaning}` as it is meant here."
    return f"""## Use

{diffusers}

In the interactive DDPM paper, where any sampler and number of steps can be had:

```
python -m ddpm_app sample --model {name} {run}
```"""


def _limits(settings: dict[str, Any], facts: CardFacts) -> str:
    edge, left = settings["image_size"], settings["num_steps"] - facts.steps_done
    lines = [
        f"It makes pictures of {edge} x {edge} like those it learned from and nothing else: no prompt, "
        "no class, no other size. What is rare or one-sided in its data is so in its samples.",
        f"Each picture was seen about {_times_seen(settings, facts)}. The fewer the pictures "
        "and the longer the training, the likelier a sample repeats one; compare before you call it new.",
    ]
    if settings["guide"]:
        lines.append("It was guided: its samples are clearer, and less various, than what it learned from.")
    if left > 0:
        lines.append(f"The run was not at its end: {left:,} of its steps were still to do.")
    if facts.held_out_loss is None:
        lines.append("No loss on held-out pictures is known, so nothing here tells learning from memorising.")
    elif _objective(settings) != "L_simple":
        lines.append("The two losses are of different kinds, so they do not tell learning from memorising.")
    lines.append("No FID and no likelihood was measured in training; judge it by its samples.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _settings(settings: dict[str, Any]) -> dict[str, str]:
    """Every field of the configuration by its name, so that a new one appears unasked."""
    return {f"`{key}`": f"`{_name(value)}`" for key, value in settings.items() if key not in FIELDS}


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _name(value: Any) -> str:
    """`value` in words; of a path its last part, since the folder may be published."""
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if isinstance(value, str) else str(value)


def _times_seen(settings: dict[str, Any], facts: CardFacts) -> str:
    times = facts.steps_done * settings["batch_size"] / facts.num_images
    told = f"{times:,.0f} times" if times >= 10 else f"{times:.2g} times"
    return f"{told} in this run alone" if settings.get("init_from") else told


def _duration(seconds: float) -> str:
    """Hours and minutes, or seconds where it took less than two minutes."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
