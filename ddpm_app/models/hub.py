"""A Hub repository as a folder on disk: configuration first, so that nothing large is fetched in vain."""

__all__ = ["download", "refusals_told"]

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ddpm_app.errors import UserError
from ddpm_app.models import folder
from ddpm_app.models.weights import WEIGHTS, weight_files

CONFIGURATION = [folder.INDEX_FILE, *folder.NETWORK_FILES, *folder.SCHEDULER_FILES]


def download(name: str) -> Path:
    """The folder of `owner/repo` or `owner/repo@revision` in the Hub's cache; UserError says what to do."""
    repository, _, revision = name.partition("@")
    path = _snapshot(repository, revision, CONFIGURATION)
    if not folder.is_pipeline(path):
        raise UserError(f"{name} has no network that this app can run; {folder.WANTED}")
    weights_folder = folder.describe(name, path).weights_folder
    prefix = weights_folder.relative_to(path).as_posix() + "/" if weights_folder != path else ""
    for pattern in WEIGHTS:  # .bin only where there is no .safetensors
        _snapshot(repository, path.name, [prefix + pattern])  # the commit that was just described
        if weight_files(weights_folder):
            break
    return path


def _snapshot(repository: str, revision: str, files: list[str]) -> Path:
    """Those of `files` that the repository has, in the cache; without a network, those cached before."""
    from huggingface_hub import snapshot_download

    with refusals_told(repository, revision, "model"):
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=files))


@contextlib.contextmanager
def refusals_told(name: str, revision: str, kind: str) -> Iterator[None]:
    """Within the block what the Hub, the way to it or the disk refuses of a `kind` is a UserError."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,  # of the HTTP client that this huggingface_hub is built on
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise UserError(
            f"{name!r} is neither a {kind} here nor a name that one on the Hub can have; write owner/repo"
        ) from error
    except GatedRepoError as error:
        raise UserError(
            f"{name} is gated: accept its terms on its page, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"there is no {kind} {name} here, and none on the Hub; check the spelling, "
            "or log in with `hf auth login` if it is private"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{name} has no revision {revision!r}; leave it out for the newest") from error
    except (HTTPError, OSError) as error:  # an OSError also where a file is neither reachable nor cached
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            raise UserError(
                f"the Hub does not accept your login for {name}; renew it with `hf auth login`"
            ) from error
        if getattr(error, "errno", None):
            raise UserError(
                f"{name} could not be written to the Hub's cache ({getattr(error, 'strerror', '')}); "
                "make room there, or set HF_HOME to another disk"
            ) from error
        raise UserError(
            f"{name} could not be fetched from the Hub and is not cached here; "
            f"check the network, or choose a {kind} that lies here"
        ) from error
