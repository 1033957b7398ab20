"""List the models at hand, or show how one of them is understood."""

import argparse
from pathlib import Path

from ddpm_app.commands.report import fetching, result
from ddpm_app.models import BUNDLED, HUB_MODELS, available_models, load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One model to look into, or none for the list."""
    parser.add_argument("model", nargs="?", help="a name, a folder or owner/repo on the Hub")
    parser.add_argument("--checkpoints", default=str(BUNDLED), help="the folder of named models")


def run(options: argparse.Namespace) -> None:
    """The list, or the model's shape, chain and notes."""
    checkpoints = Path(options.checkpoints)
    if options.model is None:
        names = available_models(checkpoints)
        lines = [*names, *(f"{name} (Hub)" for name in HUB_MODELS)]
        result(options, "\n".join(lines), {"models": names, "hub_models": list(HUB_MODELS)})
        return
    model = load_model(options.model, "cpu", checkpoints=checkpoints, report=fetching)
    facts = {
        "name": model.name,
        "image_shape": list(model.image_shape),
        "num_parameters": model.num_parameters,
        "num_train_timesteps": len(model.diffusion),
        "prediction_type": model.diffusion.prediction_type,
        "variance_type": model.diffusion.variance_type,
        "clip_denoised": model.diffusion.clip_denoised,
        "timestep_spacing": model.diffusion.timestep_spacing,
        "notes": list(model.notes),
    }
    result(options, "\n".join(f"{key}: {value}" for key, value in facts.items()), facts)
