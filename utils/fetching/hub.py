"""Models of the Hugging Face hub, by its library and in its cache, which other programs share.

The library resumes a cut connection and honours HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE. What
it has downloaded is compared with the digests that the hub gives: SHA-256 of large files, git's SHA-1 of small ones.
"""

from __future__ import annotations

import errno
import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging import CRITICAL
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.fetching.references import HubModel, Note, shown
from utils.fetching.sizes import LARGEST, megabytes
from utils.files import require_regular, sha256_of
from utils.text import shortened

PATIENCE = 5.0  # seconds for the hub to answer
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a write, which have no name of a file
_COMMIT = re.compile("[0-9a-f]{40}")
_DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


def fetch_model(model: HubModel, files: Sequence[str], note: Note) -> Path:
    """Returns the folder of a model in the hub's cache; what is not there is downloaded.

    Where the hub cannot be asked, the commit counts that was fetched last.

    Args:
        model: the model.
        files: what is fetched of it, as far as it is there. The last one are the weights, without which it is no model;
            where the cache has them, the others have come before.
        note: called with each line for the user.

    Raises:
        UserError: huggingface_hub is not installed; or the model cannot be had, is none, or is damaged.
    """
    constants = settings(str(model))
    with _explained(model), quiet():
        is_commit = model.revision is not None and _COMMIT.fullmatch(model.revision) is not None
        if (
            is_commit
            and (folder := _cached(model, files[-1])) is not None
            and not _damaged(folder, _names_of_blobs(folder, files))
        ):
            return folder  # a commit does not change, so the hub is not asked
        try:
            facts = _ask(model)
        except Exception as error:
            folder = _cached(model, files[-1]) if _is_unreachable(error) else None
            if folder is None:
                raise
            _refuse_damaged(model, folder, _names_of_blobs(folder, files))
            where = f"{shown(constants.ENDPOINT)} cannot be asked ({reason_of(error)})"
            note(f"note: {where}; {model} is the commit that was fetched last, {folder.name}")
            return folder
        return _complete(model, files, facts, note)


def settings(wanted: str) -> Any:
    """Returns the settings of the hub's library, which it takes from the environment.

    Args:
        wanted: what is to come from the hub, for messages.

    Raises:
        UserError: huggingface_hub is not installed, or a variable has a value that it cannot read.
    """
    try:
        from huggingface_hub import constants
    except ImportError:
        raise UserError(
            f"{wanted}: needs the package huggingface_hub; run `pip install -r requirements.txt`, or download the "
            "folder and give its path"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{wanted}: huggingface_hub does not start ({shortened(str(error), 80)}); correct the variable HF_... of "
            "the environment that says so"
        ) from None
    return constants


def _ask(model: HubModel) -> Any:
    """Returns what the hub says of a model: its commit, and size and digest of each file."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    return HfApi().model_info(model.repository, revision=model.revision, timeout=PATIENCE, files_metadata=True)


def _complete(model: HubModel, files: Sequence[str], facts: Any, note: Note) -> Path:
    """Downloads the files of a commit, as far as the cache has not got them, and checks all of them."""
    from huggingface_hub import constants

    weights, listed = files[-1], {file.rfilename: file for file in facts.siblings or ()}
    if weights not in listed:
        raise UserError(
            f"{model}: has no {weights}, so it is no model of this program; tools/publish.py makes a folder of one"
        )
    names = [name for name in files if name in listed]
    size = sum(listed[name].size or 0 for name in names)
    if size > LARGEST:
        raise UserError(f"{model}: has {megabytes(size)} MB; checkpoints of up to {LARGEST >> 30} GiB are read")
    digests = {name: lfs.sha256 if (lfs := listed[name].lfs) else listed[name].blob_id for name in names}
    folder = _cached(model, weights, facts.sha)
    if folder is None or not all((folder / name).exists() for name in names):
        note(f"fetching {model}, commit {facts.sha} ({megabytes(size)} MB), into {constants.HF_HUB_CACHE}")
    for name in names:
        # The last one by the name of its revision: the library then remembers which commit that is.
        folder = _get(model, name, model.revision if name == weights else facts.sha).parent
    assert folder is not None
    if folder.name != facts.sha:
        raise UserError(f"{model}: has changed at this moment; run the same command again")
    if damaged := _damaged(folder, digests):
        note(f"note: {folder / damaged[0]} is damaged, and is fetched again")
        for name in damaged:
            _get(model, name, facts.sha, force_download=True)
        _refuse_damaged(model, folder, digests)
    return folder


def _cached(model: HubModel, weights: str, commit: str | None = None) -> Path | None:
    """Returns the folder of a commit, or of the last one known of the revision, if the cache has its weights."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return _get(model, weights, commit or model.revision, local_files_only=True).parent
    except LocalEntryNotFoundError:
        return None


def _get(model: HubModel, name: str, revision: str | None, **how: Any) -> Path:
    """Lets the library find a file in the cache, or download it."""
    from huggingface_hub import constants, hf_hub_download
    from tqdm.auto import tqdm

    class Silent(tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **{**settings, "disable": True})

    return Path(
        hf_hub_download(
            model.repository,
            name,
            revision=revision,
            cache_dir=constants.HF_HUB_CACHE,
            etag_timeout=PATIENCE,
            tqdm_class=Silent,
            **how,
        )
    )


# ---- digests


def _names_of_blobs(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """Returns the digests by which the library keeps files: those that their links point to."""
    links = {name: folder / name for name in files if (folder / name).is_symlink()}
    return {name: link.resolve().name for name, link in links.items()}


def _damaged(folder: Path, digests: Mapping[str, str | None]) -> list[str]:
    """Lists the files that have other digests than these."""
    wanted = {name: digest for name, digest in digests.items() if digest and _DIGEST.fullmatch(digest)}
    return [name for name, digest in wanted.items() if _digest_of(folder / name, len(digest)) != digest]


def _digest_of(path: Path, digits: int) -> str:
    """Computes the digest of so many digits: SHA-256, or git's SHA-1, which begins with the size; "" without a file."""
    if not path.exists():
        return ""
    if digits == 64:
        return sha256_of(path)
    require_regular(path)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _refuse_damaged(model: HubModel, folder: Path, digests: Mapping[str, str | None]) -> None:
    if damaged := _damaged(folder, digests):
        raise UserError(
            f"{model}: refused, {folder / damaged[0]} is not what the hub says by its digest; where there is a "
            "network, remove the file and run the same command again"
        )


# ---- what can go wrong


def _is_unreachable(error: Exception) -> bool:
    """Returns whether a hub did not answer, or not as one; its library raises errors of several others."""
    from huggingface_hub.errors import HfHubHTTPError

    if not isinstance(error, HfHubHTTPError):
        return True
    return error.response.status_code == 429 or error.response.status_code >= 500


@contextmanager
def _explained(model: HubModel) -> Iterator[None]:
    """Turns what the library raises into one line."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    hub = shown(constants.ENDPOINT)
    page, login = f"{hub}/{model.repository}", "`hf auth login`, or HF_TOKEN"
    try:
        yield
    except UserError:
        raise
    except GatedRepoError:
        raise UserError(f"{model}: wants an accepted licence; accept it on {page}, and log in ({login})") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{model}: {hub} has no such model, or it is private; check the name, or log in ({login})"
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            f"{model}: has no revision {model.revision}; {page}/tree/main lists those that there are"
        ) from None
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, HfHubHTTPError):
            _refuse_cache(error)
        raise UserError(
            f"{model}: is not in {constants.HF_HUB_CACHE} and could not be downloaded from {hub} ({reason_of(error)}); "
            "run the same command again where the hub can be reached, or give the path of a downloaded folder"
        ) from None


def _refuse_cache(error: OSError) -> None:
    """Explains an error of the cache; one of the network passes."""
    from huggingface_hub import constants

    if error.errno in (errno.EINVAL, errno.EISDIR) and error.filename:
        raise UserError(f"{error.filename}: {error.strerror}; remove it, and run the same command again") from None
    if error.errno in _FULL or (error.errno and error.filename):
        at = f": {error.filename}" if error.filename else ""
        raise UserError(
            f"{constants.HF_HUB_CACHE}: cannot be used ({error.strerror}{at}); make room there or see to its "
            "permissions, or let HF_HOME name another folder"
        ) from None


def reason_of(error: Exception) -> str:
    """Describes in a few words why the hub or its library failed."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, GatedRepoError):
        return "the hub wants a login and an accepted licence"
    if isinstance(error, HfHubHTTPError):
        return f"the hub answers with {error.response.status_code}"
    if isinstance(error, LocalEntryNotFoundError):
        return "the hub cannot be reached"
    said = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return shortened(said or type(error).__name__, 80)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the hub's library from writing of every attempt; what went wrong is said in one line afterwards."""
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logging.set_verbosity(level)
