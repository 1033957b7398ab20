"""Convert a checkpoint of another program to a diffusers folder."""

import argparse
from dataclasses import asdict, fields

from ddpm_app.commands.report import result
from ddpm_app.models.convert import SCHEDULES, Settings, convert


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, the folder, and what weights alone may not tell."""
    parser.add_argument("checkpoint", help=".pt, .pth, .ckpt, .bin or .safetensors; read as tensors only")
    parser.add_argument("--out", required=True, help="the diffusers folder to write; must not be there yet")
    parser.add_argument("--image-size", type=int, help="edge in pixels; by default from where it attends")
    parser.add_argument("--num-heads", type=int, help="attention heads of OpenAI's layout")
    parser.add_argument("--num-head-channels", type=int, help="or the channels of each")
    parser.add_argument(
        "--new-attention-order", action="store_true", help="qkv as in use_new_attention_order"
    )
    parser.add_argument("--num-train-timesteps", type=int, help="T; 1000 is assumed")
    parser.add_argument(
        "--schedule", choices=SCHEDULES, help="linear is assumed, sigmoid of denoising-diffusion-pytorch"
    )
    parser.add_argument(
        "--rescale-timesteps",
        action=argparse.BooleanOptionalAction,
        help="OpenAI's network saw 1000 t / T; assumed unless T is 1000",
    )
    parser.add_argument(
        "--prediction-type", choices=["epsilon", "sample", "v_prediction"], help="epsilon is assumed"
    )
    parser.add_argument(
        "--variance-type",
        choices=["fixed_small", "fixed_large", "learned_range", "learned"],
        help="of sampling",
    )
    parser.add_argument(
        "--raw", action="store_true", help="the weights as trained, where their EMA lies beside"
    )


def run(options: argparse.Namespace) -> None:
    """What was found out, a line each with how it is known."""
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    facts = convert(options.checkpoint, options.out, settings)
    lines = [f"{what}: {fact.value} ({fact.source})" for what, fact in facts.items()]
    found = {what: asdict(fact) for what, fact in facts.items()}
    result(options, "\n".join([*lines, f"written to {options.out}"]), {"out": options.out, "facts": found})
