"""Publish a trained model on the Hub: weights, card and samples, not what training keeps beside them."""

import argparse

from ddpm_app.commands.report import result
from ddpm_app.models.publish import push


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which folder, where to, and in whose name."""
    parser.add_argument("folder", help="the folder of a trained model")
    parser.add_argument("repository", help="owner/name on the Hub, made where there is none")
    parser.add_argument("--private", action="store_true", help="for you and your organization alone")
    parser.add_argument("--token", help="instead of the one of `hf auth login` or HF_TOKEN")


def run(options: argparse.Namespace) -> None:
    """The address of the repository."""
    address = push(options.folder, options.repository, token=options.token, private=options.private)
    result(
        options,
        f"the model is at {address}",
        {"address": address, "repository": options.repository, "private": options.private},
    )
