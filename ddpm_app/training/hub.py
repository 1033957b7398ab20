"""A data set's repository on the Hub: the list of its files, each fetched into the cache when asked for.

Through huggingface_hub alone: its files are then read as those of a folder are, one at a time.
"""

__all__ = ["Repository", "converted", "repository"]

from dataclasses import dataclass
from pathlib import Path

from ddpm_app.errors import UserError
from ddpm_app.models.hub import refusals_told

SMALL = ["README.md", ".gitattributes"]
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
    """The data set `owner/name` at a branch, tag or commit; UserError says what to do.

    Without a network it is as it was when the client last asked for it.
    """
    from huggingface_hub import get_cached_repo_tree, snapshot_download

    with refusals_told(name, revision, "data set"):
        # of the files these alone, but the list of all, which the client keeps
        folder = snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=SMALL)
        commit = Path(folder).name
        files = get_cached_repo_tree(name, repo_type="dataset", revision=commit)
    return Repository(name, commit, tuple(sorted(file.path for file in files)))


def converted(name: str) -> Repository | None:
    """The Hub's own parquet copy of the data set, where it made a whole one."""
    from huggingface_hub import constants
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        copy = repository(name, CONVERTED)
    except UserError as error:  # none was made, or without a network none is here
        if isinstance(error.__cause__, RevisionNotFoundError) or constants.HF_HUB_OFFLINE:
            return None
        raise
    return None if any("/partial-" in file for file in copy.files) else copy
