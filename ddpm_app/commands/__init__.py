"""The command line: python -m ddpm_app COMMAND; COMMANDS lists them."""

__all__ = ["main"]

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ddpm_app.commands import ablate, bench, convert, deploy, evaluate, models, push, sample, train
from ddpm_app.errors import UserError

COMMANDS = {
    "sample": sample,
    "train": train,
    "push": push,
    "deploy": deploy,
    "evaluate": evaluate,
    "ablate": ablate,
    "bench": bench,
    "models": models,
    "models convert": convert,
}


class Parser(argparse.ArgumentParser):
    """argparse in one line, as every other message about what the user can mend."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 on success, 2 with one line on stderr for what the user can mend."""
    parser = Parser("python -m ddpm_app", description="The interactive DDPM paper, without a browser.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="end with one machine-readable line")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:2] == ["models", "convert"]:  # a model's name may stand there too
        given[:2] = ["models convert"]
    options = parser.parse_args(given)
    try:
        COMMANDS[options.command].run(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
