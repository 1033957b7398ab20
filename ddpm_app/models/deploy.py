"""This repository as a Space of its reader's own: the app with its models, not what lies beside."""

__all__ = ["deploy"]

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_app.errors import UserError, one_of
from ddpm_app.models.hub import CONFIGURATION
from ddpm_app.models.publish import BESIDE, upload
from ddpm_app.models.weights import WEIGHTS

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ROOT = Path(__file__).parents[2]
APP = (
    "app.py",
    "README.md",
    "LICENSE",
    "SECURITY.md",
    "requirements.txt",
    "docs/*.png",
    "docs/*.webp",
    "docs/ablation.md",
    "docs/api.md",
    "ddpm_app/*",
)
# those of the repository; a reader's own are not sent
MODELS = ("emoji-32", "emoji-32-plain", "mnist-28", "mnist-28-hybrid")

PARTS = (*CONFIGURATION, WEIGHTS[0], f"unet/{WEIGHTS[0]}", *BESIDE)


def deploy(
    repo_id: str, *, token: str | None = None, private: bool = False, hardware: str | None = None
) -> str:
    """The address of the Space `owner/name`, made where there is none, which will run this app.

    `hardware` is one of the Hub's, by default what the Space has or cpu-basic. Raises UserError for what the
    Hub refuses.
    """
    from huggingface_hub import SpaceHardware

    if hardware is not None:
        one_of("hardware", hardware, [each.value for each in SpaceHardware])
    if not (ROOT / "app.py").is_file():
        raise UserError("only a checkout of this repository can be deployed; run the command in one")
    return upload(
        ROOT,
        repo_id,
        [*APP, *(f"checkpoints/{name}/{file}" for name in MODELS for file in PARTS)],
        token=token,
        private=private,
        space=True,
        first=partial(_asked_for, hardware=hardware) if hardware else None,
    )


def _asked_for(api: "HfApi", repo_id: str, hardware: str) -> None:
    """The Space's hardware, before the files, so that it is built once."""
    api.request_space_hardware(repo_id, hardware)  # type: ignore[arg-type]  # its value is as good
