"""The measurement of the loaders; see `options`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dataloader.datamodule import DataModule
from tools.benchmarking.frame import Origin, configure, prepare
from tools.benchmarking.loader.options import COLD
from tools.benchmarking.loader.page_cache import evict, separate
from tools.benchmarking.loader.row import Row, measure
from tools.benchmarking.machine import machine
from tools.benchmarking.report import NONE, Column, Report, Table, console, growing, milliseconds
from utils.labels import LabelMap
from utils.paths import resolve_path

_STAYED = 0.05  # share of the pages that may stay in memory for a cache to be called cold


def run(args: argparse.Namespace) -> None:
    """Measures the loaders that the flags ask for."""
    terminal = console()
    with tempfile.TemporaryDirectory() as name, terminal.status("making scans") as status:
        folder = Path(name)
        subject = prepare(
            Origin(args.data_path, args.sequence, args.frame), args.config, args.set, folder, None, (args.scans,) * 2
        )
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        separate(files)
        size = sum(file.stat().st_size for file in files)
        data = subject.config.dataset_params
        batch = data.train_data_loader.batch_size, data.val_data_loader.batch_size
        facts = [
            machine(),
            f"Scans: {args.scans} for training, as many for evaluation; their files have {size / 1e6:,.0f} MB. "
            f"Scans per batch: {batch[0]} in training, {batch[1]} in evaluation.",
        ]
        rows: list[Row] = []
        with growing(terminal, args.output, lambda: report(facts, rows, args.runs)) as row_done:
            for items in dict.fromkeys(args.items):
                for cache in dict.fromkeys(args.caches):
                    for workers in dict.fromkeys(args.workers):
                        status.update(f"{items}, {cache}, {workers} processes")
                        rows.append(_row(args, folder, files, items, cache, workers))
                        row_done()


def _row(args: argparse.Namespace, folder: Path, files: Sequence[Path], items: str, cache: str, workers: int) -> Row:
    if cache == COLD:
        stayed = evict(files)
        if stayed is None or stayed > _STAYED:
            why = "has no posix_fadvise" if stayed is None else f"keeps {stayed:.0%} of the files (a disk in memory?)"
            return Row(items, workers, cache, remark=f"the system {why}")
    processes = [f"dataset_params.{part}_data_loader.num_workers={workers}" for part in ("train", "val")]
    config = configure(args.config, [*args.set, *processes], folder)
    label_map = LabelMap.load(resolve_path(config.dataset_params.label_mapping))
    data = DataModule(config, label_map, fit=True)
    return measure(data, items, workers, cache, args.runs, (lambda: evict(files)) if cache == COLD else (lambda: None))


def report(facts: Sequence[str], rows: Sequence[Row], runs: int) -> Report:
    """Reports the finished rows as a table, with an explanation."""
    columns = [Column("items"), Column("files"), Column("processes", True), Column("scans/s", True)]
    columns += [Column("ms per scan", True), Column("MB per batch", True), Column("MB/s", True)]
    table = Table.with_remarks(columns, [_cells(row) for row in rows], [row.remark for row in rows])
    closing = [
        f"Medians of {runs} passes over all scans, after one that starts the processes. 0 processes: the program reads "
        "its scans itself.",
        "Cold: the files are dropped from the page cache before each pass; what a host or a disk keeps is not.",
        "MB: what the batches hold, as they come from the loader processes.",
    ]
    return Report(facts, [table] if rows else [], closing)


def _cells(row: Row) -> list[str]:
    name = [row.items, row.cache, str(row.workers)]
    if row.seconds is None:
        return [*name, NONE, NONE, NONE, NONE]
    moved = row.moved / 1e6
    rate = f"{row.scans / row.seconds:,.0f}"
    per_batch, per_second = f"{moved / row.batches:.1f}", f"{moved / row.seconds:,.0f}"
    return [*name, rate, milliseconds(row.seconds / row.scans), per_batch, per_second]
