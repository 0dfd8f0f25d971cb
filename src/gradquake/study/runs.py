"""Finished runs in a study file, each written in one transaction with all its measurements."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from gradquake.errors import require
from gradquake.study.configuration import Config, checked_key, read_config, read_json, sweep_settings
from gradquake.study.recording import RunRecord, Values, as_stored, stored_type
from gradquake.study.schema import Row, StudyFile, checksum_of, damaged, software_versions

__all__ = ["FinishedRun", "FinishedRuns"]


class FinishedRun(NamedTuple):
    """A finished run without its measurements, as its checked row says."""

    row: int
    key: str
    config: Config
    grokking_epoch: int | None
    measured: list[str]
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
            "measurements", RunRecord, run.config, run.grokking_epoch, epochs, values
        )

    def add(self, records: Iterable[RunRecord]) -> None:
        """Write runs, within a transaction."""
        software = json.dumps(software_versions())
        for record in records:
            arrays = {"epoch": record.epochs, **record.values}
            names = sorted(arrays)
            data = b"".join(as_stored(name, np.asarray(arrays[name])).tobytes() for name in names)
            columns = (checked_key(record.config), record.grokking_epoch, software, json.dumps(names))
            checksum = checksum_of(*columns)
            cursor = self._file.execute(
                "INSERT INTO runs (key, grokking_epoch, software, measured, checksum) "
                "VALUES (?, ?, ?, ?, ?)",
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
        row, key, grokking_epoch, _, measured = columns
        return FinishedRun(
            row,
            key,
            self._file.checked("runs", read_config, key, grokking_epoch),
            grokking_epoch,
            self._file.checked("runs", _read_names, measured),
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
        kinds = [np.dtype(stored_type(name)) for name in run.measured]
        snapshots, rest = divmod(len(data), sum(kind.itemsize for kind in kinds))
        if rest:
            raise damaged(path, f"the measurements of run {run.row} have different lengths")
        edges = np.cumsum([0, *(snapshots * kind.itemsize for kind in kinds)]).tolist()
        return {
            name: np.frombuffer(data[start:stop], kind)
            for name, kind, start, stop in zip(run.measured, kinds, edges, edges[1:], strict=False)
        }


def _read_names(text: object) -> list[str]:
    """Return the names of a run's measurements, with "epoch" among them, or raise InputError."""
    names = read_json(text)
    require(
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and len(set(names)) == len(names)
        and "epoch" in names,
        "no list of the measurements",
    )
    return list(names)
