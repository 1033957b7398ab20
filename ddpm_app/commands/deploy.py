"""Run this app as a Space on the Hub, in your name: the program and its bundled models are uploaded."""

import argparse

from ddpm_app.commands.report import result
from ddpm_app.models.deploy import deploy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, for whom, and on what."""
    parser.add_argument("space", help="owner/name on the Hub, made where there is none")
    parser.add_argument("--private", action="store_true", help="for you and your organization alone")
    parser.add_argument("--hardware", help="cpu-basic, zero-a10g (ZeroGPU), t4-small, ...; else as it is")
    parser.add_argument("--token", help="instead of the one of `hf auth login` or HF_TOKEN")


def run(options: argparse.Namespace) -> None:
    """The address of the Space."""
    address = deploy(options.space, token=options.token, private=options.private, hardware=options.hardware)
    values = {"address": address, "space": options.space, "private": options.private}
    result(options, f"the app is being built at {address}", values | {"hardware": options.hardware})
