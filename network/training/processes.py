"""The processes of a run under Lightning: how they are started, and who handles signals and the loss of a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.strategies.launchers.subprocess_script import _launch_process_observer
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from utils.command import stopping


class Launcher(_SubprocessScriptLauncher):
    """Lightning's launcher, except that `stopping` watches the processes.

    Lightning's own observer kills the run without a message when a process is lost.
    """

    _watched = False

    def launch(self, function: Callable[..., Any], *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any) -> Any:
        """Starts the other processes, has them watched, and runs the function in this one."""
        if not self.cluster_environment.creates_processes_externally:
            with stopping.launching():
                self._call_children_scripts()
            self._watched = stopping.watch(self.procs)
            if not self._watched:
                _launch_process_observer(self.procs)
        return super().launch(function, *args, trainer=trainer, **kwargs)

    def kill(self, signum: int) -> None:  # type: ignore[override]
        """Ends the processes after Ctrl-C; watched processes have been told already and end with their loaders."""
        if not self._watched:
            super().kill(signum)


class Processes(DDPStrategy):
    """DDP with processes that end together."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


def leave_signals_alone(trainer: pl.Trainer) -> None:
    """Keeps the signal handlers of `utils.command.stopping`, where Lightning would install its own.

    Lightning's handler of SIGTERM waits for all other processes, which may be gone, and then ends the command as if it
    had succeeded. It also makes all processes wait for each other once more in every training step.
    """
    trainer._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    pass
