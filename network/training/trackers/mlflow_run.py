"""MLflow: a run on a tracking server, or in a database beside the logs."""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger

from network.training.trackers.run import Ending, Training
from network.training.trackers.run_ids import keep_run, known_run
from network.training.trackers.tracker import without_login
from utils.command.trackers import LOGS, mlflow_address
from utils.locks import Lock
from utils.results.run_settings import Plain
from utils.text import shortened

_STATES: Mapping[Ending, str] = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_LONGEST = 250  # characters of a value that every version takes


class MLflowRun:
    """A run of MLflow at MLFLOW_TRACKING_URI, by default in logs/mlflow.db, in the experiment of the data set.

    Args:
        training: the training.
    """

    def __init__(self, training: Training) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow  # noqa: F401  # here: it is optional, and sets the levels that are set here

        for library in ("mlflow", "alembic", "pytorch_lightning.loggers.mlflow"):
            logging.getLogger(library).setLevel(logging.WARNING if library == "alembic" else logging.ERROR)
        address = mlflow_address()
        own = "MLFLOW_TRACKING_URI" not in os.environ
        if hasty := _RETRIES not in os.environ:
            os.environ[_RETRIES] = "2"  # later it may try longer, as nobody waits
        lock = Lock(LOGS / ".mlflow.lock")  # two trainings would both make the tables
        lock.acquire()
        try:
            self._open(training, address, (LOGS / "mlflow").resolve().as_uri() if own else None)
        finally:
            lock.release()
            if hasty:
                del os.environ[_RETRIES]
        keep_run(training.folder, "mlflow", self._id)
        self._there = self._numbers_from(training.steps)
        self.where = f"run {self._id} in {without_login(address)}"

    def _open(self, training: Training, address: str, artifacts: str | None) -> None:
        from mlflow.tracking import MlflowClient

        known = known_run(training.folder, "mlflow")
        if known is not None and not _is_there(MlflowClient(address), known):
            known = None
        self._logger = MLFlowLogger(
            os.environ.get("MLFLOW_EXPERIMENT_NAME") or training.dataset,
            run_name=training.name,
            tracking_uri=address,
            artifact_location=artifacts,
            run_id=known,
        )
        self._client: Any = self._logger.experiment
        assert self._logger.run_id is not None
        self._id: str = self._logger.run_id
        if known is not None:
            self._client.update_run(self._id, status="RUNNING")

    def _numbers_from(self, steps: int) -> dict[tuple[str, int], set[float]]:
        """Reads the numbers that are there of the steps that a resumed training repeats, by name and step."""
        found: dict[tuple[str, int], set[float]] = defaultdict(set)
        for name in self._client.get_run(self._id).data.metrics:
            for metric in self._client.get_metric_history(self._id, name):
                if metric.step >= steps:
                    found[name, metric.step].add(metric.value)
        return found

    def settings(self, values: Mapping[str, Plain], step: int) -> None:
        """Takes the settings as parameters. These cannot change: what a resumed training changes is a tag as well."""
        known = self._client.get_run(self._id).data.params
        shown = {name_for_mlflow(name): str(value)[:_LONGEST] for name, value in values.items()}
        self._logger.log_hyperparams({name: value for name, value in shown.items() if name not in known})
        for name, value in shown.items():
            if known.get(name, value) != value:
                self._client.set_tag(self._id, f"{name} from step {step}", value)

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Takes numbers, but for those that are there: a resumed training repeats what was not in its checkpoint."""
        named = {name_for_mlflow(name): float(value) for name, value in values.items()}
        new = {name: value for name, value in named.items() if value not in self._there.get((name, step), ())}
        if new:
            self._logger.log_metrics(new, step)

    def text(self, name: str, text: str, step: int) -> None:
        """Takes a text as a tag."""
        self._client.set_tag(self._id, name_for_mlflow(name), shortened(text, 5000))

    def picture(self, name: str, path: Path, step: int) -> None:
        """Takes a picture as an artifact."""
        self._client.log_artifact(self._id, str(path), f"pictures/{path.parent.name}")

    def close(self, ending: Ending) -> None:
        """Ends the run."""
        self._client.set_terminated(self._id, _STATES[ending])


def name_for_mlflow(name: str) -> str:
    """Returns a name in the characters that MLflow takes; any other becomes its number, so that names stay apart."""
    named = re.sub(r"[^a-zA-Z0-9_/. -]", _numbered, name)
    if posixpath.normpath(named) != named:  # it takes them for paths
        section, slash, rest = named.partition("/")
        named = section + slash + re.sub(r"[/.]", _numbered, rest)
    return named[:_LONGEST]


def _numbered(found: re.Match[str]) -> str:
    return f"_x{ord(found[0]):x}"


def _is_there(client: Any, run: str) -> bool:
    """Returns whether a run can go on: it may have been deleted, or kept in another database."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
