"""Draw images from a model into a folder of PNG files, a sheet and an array."""

import argparse
import time
from dataclasses import fields
from pathlib import Path

import numpy as np

from ddpm_app.commands.report import add_model_arguments, loaded, progress, result, writable_folder
from ddpm_app.core.langevin import DEFAULT_SNR
from ddpm_app.engine import EVERY_SAMPLER, REVERSE_VARIANCES, Engine, SampleRequest, flag, visited, visits
from ddpm_app.pictures import carries_recipe, counted, save_png, sheet, to_picture
from ddpm_app.training.checkpoints import AGAIN, writing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The fields of a SampleRequest, and where the pictures go."""
    add_model_arguments(parser)
    parser.add_argument("--sampler", default="ddpm", choices=EVERY_SAMPLER, help="the reverse step")
    parser.add_argument("--steps", type=int, default=1000, help="how many timesteps are visited")
    parser.add_argument("--eta", type=float, default=0.0, help="ddim only: 0 deterministic, 1 like ddpm")
    parser.add_argument("--variance", default="auto", help=f"ddpm only: {', '.join(REVERSE_VARIANCES)}")
    parser.add_argument("--langevin-steps", type=int, default=0, help="corrections after each reverse step")
    parser.add_argument(
        "--langevin-snr", type=float, default=DEFAULT_SNR, help="their signal-to-noise ratio r"
    )
    parser.add_argument(
        "--rederive-eps",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ddim only: eps follows the clipped x0-hat",
    )
    parser.add_argument("--spacing", default="auto", help="auto, leading, trailing or linspace")
    parser.add_argument("--num-images", type=int, default=16, help="how many pictures")
    parser.add_argument("--out", default="outputs", help="the folder to write into")


def left_over(out: Path, num_images: int) -> list[Path]:
    """The pictures that a longer run of ours has left: beside those of a new one they would mislead."""
    numbered = [file for file in out.glob("[0-9]" * 5 + ".png") if int(file.stem) >= num_images]
    return [file for file in numbered if carries_recipe(file)]


def run(options: argparse.Namespace) -> None:
    """00000.png ..., grid.png and samples.npz (`arr_0`, uint8 NHWC)."""
    said = vars(options)
    request = SampleRequest(**{each.name: said[flag(each.name)] for each in fields(SampleRequest)})
    engine = Engine(options.device, Path(options.checkpoints))
    model = loaded(engine, options)
    visits(request, model)  # refuses a number of steps that the chain has not, before there is a folder
    out = writable_folder(options.out)
    started = time.perf_counter()
    for step, num_steps in engine.measuring(request):
        progress(step, num_steps, started, "measuring the variance")
    for frame in engine.run(request):
        progress(frame.step, frame.num_steps, started)
    seconds = time.perf_counter() - started
    with writing(out, AGAIN):
        for file in left_over(out, request.num_images):
            file.unlink()
        for k, (seed, image) in enumerate(zip(request.seeds, frame.images, strict=True)):
            recipe = request.recipe() | {"seed": seed, "num_images": 1}
            save_png(to_picture(image), out / f"{k:05d}.png", recipe)
        save_png(sheet(frame.images), out / "grid.png", request.recipe())
        np.savez(out / "samples.npz", frame.images.permute(0, 2, 3, 1).numpy())
    result(
        options,
        f"{counted(request.num_images)} in {out} after {seconds:.1f} s ({model.backend})\n"
        f"visited {visits(request, model)}",
        request.recipe()
        | {
            "out": str(out),
            "seconds": round(seconds, 3),
            "backend": model.backend,
            "visits": visits(request, model),
            "visited": visited(request, model),
        },
    )
