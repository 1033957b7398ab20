"""A Hub repository as a folder on disk: configuration first, so that nothing large is fetched in vain."""

__all__ = ["discard_spoilt", "download", "refusals_told"]

import contextlib
import json
import os
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ddpm_app.errors import UserError
from ddpm_app.models import folder
from ddpm_app.models.transfer import Report, changed, fetch, spoilt, unwatched
from ddpm_app.models.weights import INDEX, weights_among

if TYPE_CHECKING:
    from huggingface_hub import RepoFile

CONFIGURATION = [folder.INDEX_FILE, *folder.NETWORK_FILES, *folder.SCHEDULER_FILES, INDEX, f"unet/{INDEX}"]
NOT_THE_HUB = "what answers at the Hub's address is not the Hub; is there a login page between?"


class Quiet(tqdm):
    """Bars of the client that nobody sees: a command has one line for what it says."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": True})


def download(name: str, report: Report = unwatched) -> Path:
    """The folder of `owner/repo` or `owner/repo@revision` in the Hub's cache; UserError says what to do.

    `report` is told how much of the weights is here, while they come.
    """
    repository, _, revision = name.partition("@")
    path = _configuration(repository, revision)
    if not folder.is_pipeline(path):
        raise UserError(f"{name} has no network that this app can run; {folder.WANTED}")
    where = folder.describe(name, path).weights_folder.relative_to(path)
    listed = _listing(repository, path.name)
    there = {Path(file.path).name: file for file in listed if Path(file.path).parent == where}
    files = [there[name] for name in weights_among(there, path / where / INDEX)]
    total = sum(file.size for file in files)
    for file, here in zip(files, accumulate((file.size for file in files), initial=0), strict=False):
        if not (path / file.path).exists():
            with refusals_told(repository, revision, "model"):  # at the commit that was just described
                fetch(repository, path.name, file.path, path.parents[1], _beyond(here, total, report))
    return path


def discard_spoilt(name: str, path: Path) -> bool:
    """Whether something in the folder of `name` was not as the Hub has it; it is in the cache no more."""
    return bool(_discard(name.partition("@")[0], path, [file for file in path.rglob("*") if file.is_file()]))


def _configuration(repository: str, revision: str) -> Path:
    """The repository's folder, its configuration as on the Hub; without a network, as cached before."""
    for _ in range(2):
        path = _snapshot(repository, revision)
        wrong = _discard(repository, path, [path / file for file in CONFIGURATION if (path / file).exists()])
        if not wrong:
            return path
    raise UserError(changed(wrong[0]))


def _discard(repository: str, path: Path, files: list[Path]) -> list[str]:
    """The names of those `files` in folder `path` that were not as on the Hub; they are cached no more."""
    known = {file.path: file.blob_id for file in _listing(repository, path.name)}
    names = {file.relative_to(path).as_posix(): file for file in files}
    wrong = [name for name, file in names.items() if spoilt(file, known.get(name))]
    for name in wrong:
        (names[name].parent / os.readlink(names[name])).unlink()
        names[name].unlink()
    return wrong


def _beyond(before: int, total: int, report: Report) -> Report:
    """The report of one file among several, which make `total`."""
    return lambda here, size: report(before + here, total)


def _snapshot(repository: str, revision: str) -> Path:
    """The repository's folder in the cache, with its CONFIGURATION; as it is where nothing answers."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

    asked: dict[str, Any] = {
        "revision": revision or None,
        "allow_patterns": CONFIGURATION,
        "tqdm_class": Quiet,
    }
    with refusals_told(repository, revision, "model"):
        try:
            return Path(snapshot_download(repository, **asked))
        except (HTTPError, json.JSONDecodeError, KeyError) as error:
            if isinstance(error, HfHubHTTPError):  # the Hub itself has refused
                raise
            with contextlib.suppress(LocalEntryNotFoundError):
                return Path(snapshot_download(repository, **asked, local_files_only=True))
            if isinstance(error, HTTPError):
                raise
            raise UserError(NOT_THE_HUB) from error


def _listing(repository: str, commit: str) -> list["RepoFile"]:
    """The files of the repository, as the client keeps their names and checksums with what it fetched."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return get_cached_repo_tree(repository, revision=commit)
    except CachedRepoTreeNotFoundError:  # of an older client, and now there is no network
        return []


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
        answers = (getattr(each, "response", None) for each in (error, error.__cause__))
        status = next((each.status_code for each in answers if each is not None), None)
        if status == 401:
            raise UserError(
                f"the Hub does not accept your login for {name}; renew it with `hf auth login`"
            ) from error
        if getattr(error, "errno", None):
            raise UserError(
                f"{name} could not be written to the Hub's cache ({getattr(error, 'strerror', '')}); "
                "make room there, or set HF_HOME to another disk"
            ) from error
        if status:
            raise UserError(
                f"the Hub answers {status} for {name}, which is not cached here; "
                "try again later, or log in with `hf auth login`"
            ) from error
        raise UserError(
            f"{name} could not be fetched from the Hub and is not cached here; "
            f"check the network, or choose a {kind} that lies here"
        ) from error
