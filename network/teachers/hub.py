"""Files of the Hugging Face hub: from its cache on this machine, else downloaded into it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from utils.command.devices import say_first
from utils.errors import UserError
from utils.fetching.hub import PATIENCE, quiet, reason_of, settings


def find(key: str, repository: str, files: Sequence[str], gated: bool) -> list[Path]:
    """Finds files of a repository of the hub; what the cache has is not asked for again.

    Args:
        key: the key of the config that wants them, with its value, for messages.
        repository: its name on the hub.
        files: names in it.
        gated: whether the hub gives them only to those who have accepted a licence.

    Returns:
        The paths of the files in the hub's cache.

    Raises:
        UserError: they are not there and cannot be downloaded; the line says where to put them.
    """
    constants = settings(f"{key}: {repository}")
    cache = constants.HF_HUB_CACHE
    try:
        return _cached(repository, files) or _downloaded(repository, files)
    except Exception as error:  # of the network, the hub or the disk: which ones, depends on the library's version
        login = f"accept the licence on {constants.ENDPOINT}/{repository}, `hf auth login`, and " if gated else ""
        raise UserError(
            f"{key}: {repository} is not in {cache} and could not be downloaded ({reason_of(error)}); where there is a "
            f"network, {login}run `hf download {repository} {' '.join(files)}` and copy the folder "
            f"models--{repository.replace('/', '--')} of its cache into {cache}, or let HF_HOME name a folder whose "
            "hub/ has it"
        ) from None


def _cached(repository: str, files: Sequence[str]) -> list[Path]:
    """Finds the files in the hub's cache; none if it has not all of them."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    cache = constants.HF_HUB_CACHE
    try:
        return [Path(hf_hub_download(repository, file, cache_dir=cache, local_files_only=True)) for file in files]
    except LocalEntryNotFoundError:
        return []


def _downloaded(repository: str, files: Sequence[str]) -> list[Path]:
    """Downloads the files into the hub's cache."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    with quiet():
        if not constants.HF_HUB_OFFLINE:
            # A download tries again and again for half a minute; whether the hub answers is seen at once.
            get_hf_file_metadata(hf_hub_url(repository, files[0]), timeout=PATIENCE)
            say_first(f"downloading {' and '.join(files)} of {repository} into {constants.HF_HUB_CACHE}")
        return [Path(hf_hub_download(repository, file, cache_dir=constants.HF_HUB_CACHE)) for file in files]
