"""One large file of the Hub into its client's cache: resumed where it broke off, held against its checksum.

The client begins anew after a reset connection or a killed process, and compares sizes alone.
Here the part that has come lies as `<etag>.incomplete` among the blobs; whole and right, it becomes the blob
that the client finds there.
"""

__all__ = ["Report", "fetch", "spoilt", "unwatched"]

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ddpm_app.errors import UserError

Report = Callable[[int, int], None]  # takes the bytes that are here, and how many there will be
PATIENCE = 5  # attempts in a row that bring nothing
PAUSE = 1.0  # seconds before the second of them, doubled before each next one
LOCK_SECONDS = 0.5
PASSING = (408, 429, 500, 502, 503, 504)  # from a server that may answer a moment later
SHA256 = re.compile("[0-9a-f]{64}")


def unwatched(here: int, size: int) -> None:
    """The report that tells nobody."""


def fetch(repository: str, commit: str, file: str, storage: Path, report: Report = unwatched) -> None:
    """Puts `file` of the repository at `commit` into its `storage` folder of the Hub's cache.

    Raises UserError when the disk is full, or what arrives is twice not what the Hub has; the client's own
    errors say what the Hub refuses.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    address = hf_hub_url(repository, file, revision=commit)
    told = get_hf_file_metadata(address)
    if told.etag and told.size:
        blob = storage / "blobs" / told.etag
        part = blob.with_name(f"{told.etag}.incomplete")
        blob.parent.mkdir(parents=True, exist_ok=True)
        with _alone(storage.parent / ".locks" / storage.name / f"{told.etag}.lock", part, told.size, report):
            if not blob.exists():
                for _ in range(2):
                    _fill(address, part, told.size, report)
                    if not _wrong(part, told.etag):
                        break
                    part.unlink()
                else:
                    raise UserError(changed(file))
                part.replace(blob)
    hf_hub_download(repository, file, revision=commit)  # gives the blob its place in the snapshot


def changed(file: str) -> str:
    """The sentence for a file that twice was not what the Hub has."""
    return (
        f"{file} did not arrive as it is on the Hub, twice; try later, or without the proxy or mirror between"
    )


def spoilt(file: Path, blob_id: str | None) -> bool:
    """Whether a file of the cache differs from the Hub's, by its sha256, the name of the blob of a large one.

    A small one is told by its `blob_id`, as git counts it. What has no known checksum passes.
    """
    from huggingface_hub.utils.sha import git_hash

    if not file.is_symlink():  # where there are none, no name tells the checksum
        return False
    etag = Path(os.readlink(file)).name
    if SHA256.fullmatch(etag):
        return _wrong(file, etag)
    return blob_id is not None and git_hash(file.read_bytes()) != blob_id


def _wrong(file: Path, etag: str) -> bool:
    """Whether `file` is not the one with this etag, where that is a sha256."""
    from huggingface_hub.utils.sha import sha_fileobj

    if not SHA256.fullmatch(etag):
        return False
    with file.open("rb") as opened:
        return sha_fileobj(opened).hex() != etag


@contextlib.contextmanager
def _alone(lock: Path, part: Path, size: int, report: Report) -> Iterator[None]:
    """Within the block nobody else fetches this file, in any process; before it, how far they are."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(WeakFileLock(lock, timeout=LOCK_SECONDS))
                break
            except Timeout:
                report(_length(part), size)
        yield


def _fill(address: str, part: Path, size: int, report: Report) -> None:
    """Goes on with `part` until it is as long as the file, over as many connections as that takes."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    fruitless = 0
    while (before := _length(part)) < size:
        check_room(size - before, part.parent)
        try:
            _append(address, part, size, report)
            problem: Exception = OSError(f"the connection ends after {_length(part)} of {size} bytes")
        except HfHubHTTPError as error:
            if error.response.status_code not in PASSING:
                raise
            problem = error
        except HTTPError as error:  # what breaks on the way
            problem = error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                part.unlink(missing_ok=True)  # else nothing else could write there
            raise
        if _length(part) >= size:
            return
        fruitless = 0 if _length(part) > before else fruitless + 1
        if fruitless == PATIENCE:
            raise problem
        time.sleep(PAUSE * 2**fruitless)


def _append(address: str, part: Path, size: int, report: Report) -> None:
    """What one connection brings of the rest of the file."""
    from huggingface_hub import constants, get_session, hf_raise_for_status
    from huggingface_hub.utils import build_hf_headers

    here = _length(part)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
    report(here, size)
    with get_session().stream(
        "GET", address, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        if response.status_code != 206:  # the whole file, whatever was asked for
            here = 0
        with part.open("r+b" if here else "wb") as opened:
            opened.seek(here)
            for piece in response.iter_bytes():
                opened.write(piece)
                here += len(piece)
                report(here, size)
                if here > size:
                    return


def check_room(needed: int, folder: Path) -> None:
    """UserError where the disk of the Hub's cache has not so many bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{needed / 1e6:,.0f} MB are still to come, and the disk of the Hub's cache has "
            f"{free / 1e6:,.0f} MB free; make room there, or set HF_HOME to another disk"
        )


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
