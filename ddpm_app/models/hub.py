"""A Hub repository as a folder on disk: configuration first, so that nothing large is fetched in vain."""

__all__ = ["download"]

from pathlib import Path

from ddpm_app.errors import UserError
from ddpm_app.models import folder

CONFIGURATION = ["model_index.json", *folder.NETWORK_FILES, *folder.SCHEDULER_FILES]


def download(name: str) -> Path:
    """The folder of `owner/repo` or `owner/repo@revision` in the Hub's cache; UserError says what to do."""
    repository, _, revision = name.partition("@")
    path = _snapshot(repository, revision, CONFIGURATION)
    network_file = next((file for file in folder.NETWORK_FILES if (path / file).is_file()), None)
    if network_file is None:
        raise UserError(f"{name} is not a diffusers pipeline with a UNet; {folder.NOT_A_DDPM}")
    scheduler = next((path / file for file in folder.SCHEDULER_FILES if (path / file).is_file()), None)
    settings = folder.read_config(scheduler) if scheduler else {"beta_schedule": "unknown"}
    folder.check_network(name, folder.read_config(path / network_file), settings)
    prefix = network_file.removesuffix("config.json")
    for weights in folder.WEIGHTS:  # .bin only where there is no .safetensors
        path = _snapshot(repository, revision, [prefix + weights])
        if (path / prefix / weights).is_file():
            break
    return path


def _snapshot(repository: str, revision: str, files: list[str]) -> Path:
    """Those of `files` that the repository has, in the cache; without a network, those cached before."""
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=files))
    except GatedRepoError as error:
        raise UserError(
            f"{repository} is gated: accept its terms on its page, then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"the Hub has no repository {repository!r}; check the spelling, or log in if it is private"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{repository} has no revision {revision!r}; leave it out for the newest") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise UserError(
            f"{repository} could not be fetched from the Hub and is not cached here; "
            "check the network, or choose a bundled model"
        ) from error
