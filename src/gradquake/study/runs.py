"""Finished runs in a study file, each written in one transaction with all its measurements."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gradquake.errors import require
from gradquake.study.configuration import (
    Config,
    checked_key,
    is_integer,
    read_config,
    read_json,
    sweep_settings,
)
from gradquake.study.recording import RunRecord, as_stored, stored_type
from gradquake.study.schema import Row, StudyFile, checksum_of, damaged, software_versions
from gradquake.study.wide import WIDE, Values, checked_tensors

__all__ = ["FinishedRun", "FinishedRuns"]


# The most numbers of a measurement that a snapshot has.
MOST_NUMBERS = 1 << 20


class FinishedRun(NamedTuple):
    """A finished run without its measurements, as its checked row says.

    ``measured`` holds the names of the measurements, and how many numbers of each a snapshot has.
    """

    row: int
    key: str
    config: Config
    grokking_epoch: int | None
    measured: dict[str, int]
    tensors: dict[str, int]
    checksum: int

    @property
    def settings(self) -> Config:
        """The settings that the run shares with its sweep."""
        return sweep_settings(self.config)


class FinishedRuns:
    """The finished runs of a study file.

    Measurements are little-endian arrays, laid end to end in the order of their names.
    """

    def __init__(self, file: StudyFile) -> None:
        self._file = file

    def keys(self) -> set[str]:
        """Return the keys of all finished runs."""
        return {key for _, key, *_ in self._file.rows("runs")}

    def all(self) -> list[FinishedRun]:
        """Return all finished runs, in the order in which they were written."""
        return [self._run(row) for row in self._file.rows("runs")]

    def with_key(self, key: str) -> list[FinishedRun]:
        """Return the finished run of this key, if there is one."""
        return [self._run(row) for row in self._file.rows_with("runs", "key", key)]

    def record(self, run: FinishedRun) -> RunRecord:
        """Return a run with its measurements."""
        values = self._arrays(run)
        epochs = values.pop("epoch")
        return self._file.checked(
            "measurements", RunRecord, run.config, run.grokking_epoch, epochs, values, run.tensors
        )

    def add(self, records: Iterable[RunRecord]) -> None:
        """Write runs, within a transaction."""
        software = json.dumps(software_versions())
        for record in records:
            arrays = {"epoch": record.epochs, **record.values}
            widths = {name: arrays[name].shape[1] if name in WIDE else 1 for name in sorted(arrays)}
            data = b"".join(as_stored(name, np.asarray(arrays[name])).tobytes() for name in widths)
            columns = (
                checked_key(record.config), record.grokking_epoch, software, json.dumps(widths),
                json.dumps(dict(record.tensors)),
            )  # fmt: skip
            checksum = checksum_of(*columns)
            cursor = self._file.execute(
                "INSERT INTO runs (key, grokking_epoch, software, measured, tensors, checksum) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                *columns,
                checksum,
            )
            self._file.execute(
                "INSERT INTO measurements VALUES (?, ?, ?)",
                cursor.lastrowid,
                data,
                zlib.crc32(data, checksum),
            )

    def remove(self, run: FinishedRun) -> None:
        """Remove a run, within a transaction."""
        self._file.execute("DELETE FROM measurements WHERE run = ?", run.row)
        self._file.execute("DELETE FROM runs WHERE id = ?", run.row)

    def _run(self, columns: Row) -> FinishedRun:
        row, key, grokking_epoch, _, measured, tensors = columns
        return FinishedRun(
            row,
            key,
            self._file.checked("runs", read_config, key, grokking_epoch),
            grokking_epoch,
            self._file.checked("runs", _read_widths, measured),
            self._file.checked("runs", checked_tensors, self._file.checked("runs", read_json, tensors)),
            checksum_of(*columns[1:]),
        )

    def _arrays(self, run: FinishedRun) -> dict[str, Values]:
        path = self._file.path
        rows = self._file.query("SELECT data, checksum FROM measurements WHERE run = ?", run.row)
        if len(rows) != 1:
            raise damaged(path, f"the measurements of run {run.row} are missing")
        [(data, checksum)] = rows
        if not isinstance(data, bytes) or zlib.crc32(data, run.checksum) != checksum:
            raise damaged(path, f"the measurements of run {run.row} do not match their checksum")
        # The bytes that a snapshot takes of each measurement.
        sizes = {
            name: np.dtype(stored_type(name)).itemsize * width for name, width in run.measured.items()
        }
        snapshots, rest = divmod(len(data), sum(sizes.values()))
        if rest:
            raise damaged(path, f"the measurements of run {run.row} have different lengths")
        found, start = {}, 0
        for name, width in run.measured.items():
            stop = start + snapshots * sizes[name]
            flat = np.frombuffer(data[start:stop], stored_type(name))
            found[name] = flat.reshape(snapshots, width) if name in WIDE else flat
            start = stop
        return found


def _read_widths(text: object) -> dict[str, int]:
    """Return the names of a run's measurements and the numbers of each, or raise InputError."""
    widths = read_json(text)
    require(
        isinstance(widths, dict)
        and "epoch" in widths
        and all(
            is_integer(n, 1) and n <= (MOST_NUMBERS if name in WIDE else 1) for name, n in widths.items()
        ),
        "no list of the measurements",
    )
    return dict(widths)
