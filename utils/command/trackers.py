"""The experiment trackers that --logger names, and what each needs before a training begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from utils.errors import UserError
from utils.files import read_text

NO_TRACKER = "none"
DEFAULT_TRACKERS = ("tensorboard",)
_PACKAGES = {"tensorboard": ["tensorboard"], "csv": [], "wandb": ["wandb"], "mlflow": ["mlflow"]}
TRACKERS = tuple(_PACKAGES)
"""Names of the trackers."""

LOGS = Path("logs")
"""The folder with the runs of all data sets."""

_DATABASES = ("sqlite", "mysql", "postgresql", "mssql")
_WITHOUT_A_KEY = ("offline", "dryrun", "disabled")


def chosen_trackers(names: Sequence[str]) -> list[str]:
    """Returns the trackers that --logger names; checks that they can be used, without importing them.

    Raises:
        UserError: a tracker is named twice or beside "none", its package is not installed, or it has no key.
    """
    shown = f"--logger {' '.join(names)}"
    if len(set(names)) < len(names):
        raise UserError(f"{shown}: a tracker is named twice")
    if NO_TRACKER in names:
        if len(names) > 1:
            raise UserError(f"{shown}: {NO_TRACKER} stands alone; leave it out, or the others")
        return []
    for name in names:
        packages = [*_PACKAGES[name], *(("sqlalchemy", "alembic") if name == "mlflow" and _in_a_database() else ())]
        if absent := [package for package in packages if find_spec(package) is None]:
            file = "requirements.txt" if name == "tensorboard" else "requirements-trackers.txt"
            raise UserError(
                f"--logger {name}: {' and '.join(absent)} is not installed; pip install -r {file}, or leave out {name}"
            )
    if "wandb" in names and not _wandb_can_log_in():
        raise UserError(
            "--logger wandb: W&B has no key on this machine; run `wandb login`, set WANDB_API_KEY, or set "
            "WANDB_MODE=offline to keep the run here"
        )
    return list(names)


def mlflow_address() -> str:
    """Returns where MLflow keeps its runs: MLFLOW_TRACKING_URI, or else a database in logs/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{LOGS}/mlflow.db"


def _in_a_database() -> bool:
    return mlflow_address().partition(":")[0].partition("+")[0] in _DATABASES


def _wandb_can_log_in() -> bool:
    """Returns whether W&B needs no key, or may find one; without one it would ask for it on the terminal.

    A key is in the environment, in .netrc, or in the settings of W&B, which may also say that it is offline.
    """
    if os.environ.get("WANDB_MODE") in _WITHOUT_A_KEY:
        return True
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    address = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    host = address.rpartition("://")[2].partition("/")[0].partition(":")[0]
    logins = [Path(os.environ.get("NETRC") or "~/.netrc"), Path("~/_netrc")]
    settings = [Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb") / "settings", Path("wandb/settings")]
    said = "".join(map(_text_of, settings))
    return host in "".join(map(_text_of, logins)) or "api_key" in said or "offline" in said


def _text_of(path: Path) -> str:
    try:
        return read_text(path.expanduser(), errors="replace")
    except (OSError, RuntimeError):  # no home
        return ""
