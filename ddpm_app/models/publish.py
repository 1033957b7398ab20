"""A model folder to the Hub: the model, its card and its samples, and nothing else that lies beside them."""

__all__ = ["push", "upload"]

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_app.errors import UserError
from ddpm_app.models import folder as diffusers_folder
from ddpm_app.models.hub import CONFIGURATION, NOT_THE_HUB
from ddpm_app.models.weights import weight_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BESIDE = ("README.md", "training.json", "samples.png", "examples/*.png")
MODEL = [*CONFIGURATION, "diffusion_pytorch_model*", "unet/diffusion_pytorch_model*"]  # in any form
HIDDEN = ["*__pycache__/*", ".*", "*/.*"]
TOKEN = re.compile(r"[!-~]+")  # what a header can carry


def push(folder: str | Path, repo_id: str, *, token: str | None = None, private: bool = False) -> str:
    """The address of Hub repository `owner/name`, made where there is none, with the model in `folder`.

    Without a token it is that of `hf auth login` or HF_TOKEN, so a server must pass its visitor's own. Raises
    UserError, before anything is sent when the folder holds no whole model.
    """
    path = Path(os.path.expanduser(folder))
    return upload(path, repo_id, publishable(path), token=token, private=private)


def upload(
    path: Path,
    repo_id: str,
    files: list[str],
    *,
    token: str | None,
    private: bool,
    space: bool = False,
    first: Callable[["HfApi", str], object] | None = None,
) -> str:
    """The address of the model or Gradio Space `owner/name`, with those of `files` that `path` has.

    `files` are patterns, in which * stands for folders too; `first` is done before they are sent. UserError
    says what the Hub refuses.
    """
    from huggingface_hub import HfApi

    repo_id = repo_id.strip()
    check_repository(repo_id)
    api = HfApi(token=usable_token(token), library_name="ddpm_app")
    kind, sdk = ("space", "gradio") if space else ("model", None)
    with _refusals(repo_id):
        address = str(api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk))
        public = private and not api.repo_info(repo_id, repo_type=kind).private
    if public:
        raise UserError(f"{repo_id} is there already and public; choose another name, or make it private")
    with _refusals(repo_id):
        if first:
            first(api, repo_id)
        api.upload_folder(
            repo_id=repo_id,
            repo_type=kind,
            folder_path=path,
            allow_patterns=files,
            ignore_patterns=HIDDEN,
            delete_patterns=None if space else MODEL,
            commit_message=f"Upload {path.resolve().name}",
        )
    return address


def publishable(path: Path) -> list[str]:
    """The patterns of what may leave `path`; UserError unless it is a whole model that diffusers loads."""
    if not os.path.isdir(path):
        raise UserError(f"there is no folder {str(path)[:200]!r}; give that of a trained model")
    if not diffusers_folder.is_pipeline(path) or not os.path.isfile(path / diffusers_folder.INDEX_FILE):
        raise UserError(
            f"{path} holds no whole diffusers model; give a folder with {diffusers_folder.INDEX_FILE}, "
            "unet/ and scheduler/"
        )
    description = diffusers_folder.describe(path.name, path)
    diffusers_folder.read_network(path.name, description)  # every tensor is there and fits
    weights = [file.relative_to(path).as_posix() for file in weight_files(description.weights_folder)]
    return [*CONFIGURATION, *weights, *BESIDE]


def check_repository(repo_id: str) -> None:
    """UserError unless `repo_id` is a name that a repository on the Hub can have, with its owner."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"{repo_id[:100]!r} can be no repository on the Hub; write owner/name") from error
    if "/" not in repo_id:
        raise UserError(f"{repo_id!r} does not say whose repository it is; write owner/{repo_id}")


def usable_token(token: str | None) -> str:
    """The token given, or the one of this machine's login; UserError when there is none."""
    from huggingface_hub import get_token

    found = (token or get_token() or "").strip()
    if not found:
        raise UserError("the Hub takes nothing without a token; log in with `hf auth login`, or give one")
    if not TOKEN.fullmatch(found):
        raise UserError("this is no token, since it has blanks or letters that none has; copy it again")
    return found


@contextlib.contextmanager
def _refusals(repo_id: str) -> Iterator[None]:
    """Within the block what the Hub or the way to it refuses is told in one sentence."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        yield
    except HfHubHTTPError as error:
        raise UserError(_reason(repo_id, error.response.status_code, error.server_message)) from error
    except (HTTPError, OSError) as error:
        raise UserError(f"the Hub could not be reached for {repo_id}; check the network") from error
    except RuntimeError as error:  # of the transfer of large files
        raise UserError(f"the upload to {repo_id} broke off ({_line(error)}); send it again") from error
    except (json.JSONDecodeError, KeyError) as error:
        raise UserError(NOT_THE_HUB) from error
    except ValueError as error:
        if "README.md" not in str(error):
            raise
        raise UserError(f"the Hub does not accept this card: {_line(error)}; correct it") from error


def _reason(repo_id: str, status: int, message: str | None) -> str:
    if status == 401:
        return "the Hub does not accept this token; make a new one that may write"
    if status == 403:
        owner = repo_id.partition("/")[0]
        return f"this token may not write to {owner}; give a namespace of yours, or a token that may write"
    return (
        f"the Hub refused {repo_id} with status {status} ({_line(message) or 'no reason given'}); try later"
    )


def _line(message: object) -> str:
    return " ".join(str(message or "").split())[:200]
