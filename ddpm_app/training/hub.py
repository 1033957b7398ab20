"""A data set's repository on the Hub: the list of its files, each fetched into the cache when asked for.

Through huggingface_hub alone: its files are then read as those of a folder are, one at a time.
"""

__all__ = ["Repository", "converted", "repository"]

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddpm_app.errors import UserError

CONVERTED = "refs/convert/parquet"  # the branch where the Hub keeps its own parquet copy of a data set


@dataclass(frozen=True)
class Repository:
    """The files of the data set `name` at one commit."""

    name: str
    commit: str
    files: tuple[str, ...]

    def fetch(self, file: str) -> Path:
        """Where `file` lies in the Hub's cache, from which it comes without the network a second time."""
        from huggingface_hub import hf_hub_download

        with _told(self.name, self.commit):
            return Path(hf_hub_download(self.name, file, repo_type="dataset", revision=self.commit))


def repository(name: str, revision: str = "main") -> Repository:
    """The data set `owner/name` at a branch, tag or commit; UserError says what to do."""
    from huggingface_hub import HfApi

    with _told(name, revision):
        commit = HfApi().dataset_info(name, revision=revision).sha or ""
        files = HfApi().list_repo_files(name, repo_type="dataset", revision=commit)
    return Repository(name, commit, tuple(sorted(files)))


def converted(name: str) -> Repository | None:
    """The Hub's own parquet copy of the data set, where it made a whole one."""
    from huggingface_hub import HfApi

    with _told(name, CONVERTED):
        if not HfApi().revision_exists(name, CONVERTED, repo_type="dataset"):
            return None
    copy = repository(name, CONVERTED)
    return None if any("/partial-" in file for file in copy.files) else copy


@contextlib.contextmanager
def _told(name: str, revision: str) -> Iterator[None]:
    """Within the block what the Hub, the network or the disk refuses is a UserError."""
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
        raise UserError(f"{name!r} is neither a folder here nor a Hub data set; write owner/name") from error
    except GatedRepoError as error:
        raise UserError(
            f"{name} is gated: accept its terms on its page, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"there is no folder {name} here and no data set of that name on the Hub; check the spelling, "
            "or log in with `hf auth login` if it is private"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{name} has no revision {revision!r}; leave it out for the newest") from error
    except (HTTPError, OSError) as error:
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
            f"there is no folder {name} here, and the Hub could not be reached for a data set of that name; "
            "check the network, or give a folder, a .zip, a .parquet file or shapes"
        ) from error
