"""A data set's repository on the Hub: the list of its files, each fetched into the cache when asked for.

Through huggingface_hub alone: its files are then read as those of a folder are, one at a time.
"""

__all__ = ["Repository", "converted", "repository"]

from dataclasses import dataclass
from pathlib import Path

from ddpm_app.models.hub import refusals_told

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

        with refusals_told(self.name, self.commit, "data set"):
            return Path(hf_hub_download(self.name, file, repo_type="dataset", revision=self.commit))


def repository(name: str, revision: str = "main") -> Repository:
    """The data set `owner/name` at a branch, tag or commit; UserError says what to do."""
    from huggingface_hub import HfApi

    with refusals_told(name, revision, "data set"):
        commit = HfApi().dataset_info(name, revision=revision).sha or ""
        files = HfApi().list_repo_files(name, repo_type="dataset", revision=commit)
    return Repository(name, commit, tuple(sorted(files)))


def converted(name: str) -> Repository | None:
    """The Hub's own parquet copy of the data set, where it made a whole one."""
    from huggingface_hub import HfApi

    with refusals_told(name, CONVERTED, "data set"):
        if not HfApi().revision_exists(name, CONVERTED, repo_type="dataset"):
            return None
    copy = repository(name, CONVERTED)
    return None if any("/partial-" in file for file in copy.files) else copy
