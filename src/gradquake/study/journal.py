"""Unfinished runs in a study file, each owned by the process that began it last."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gradquake.errors import RunTakenError, StudyError, require
from gradquake.study.configuration import (
    Config,
    checked_key,
    config_key,
    label_text,
    read_config,
    read_json,
)
from gradquake.study.recording import Measured, RunRecord
from gradquake.study.runs import FinishedRuns
from gradquake.study.schema import StudyFile, checksum_of, damaged
from gradquake.study.wide import WIDE, checked_tensors

__all__ = ["Snapshots", "UnfinishedRuns"]

# The values of the snapshots of one run, by step and name.
Snapshots = Mapping[int, Mapping[str, Measured]]


class _Header(NamedTuple):
    """The row of an unfinished run. Its id is the token of the run's owner."""

    token: int
    key: str
    grokking_epoch: int | None
    tensors: str
    n_snapshots: int


class UnfinishedRuns:
    """The unfinished runs of a study file; ``Study`` documents the methods of the same names."""

    def __init__(self, file: StudyFile, finished: FinishedRuns) -> None:
        self._file = file
        self._finished = finished

    def begin(
        self, configs: Sequence[Config], step: int | None, tensors: Mapping[str, int]
    ) -> list[int]:
        """Begin or continue runs, and return a token for each."""
        tokens, of_tensors = [], json.dumps(dict(tensors))
        with self._file.writing():
            for config in configs:
                key = checked_key(config)
                self._reopen(key, step)
                row = self._file.execute("SELECT id FROM unfinished WHERE key = ?", key).fetchone()
                token = _new_token()
                if row is None:
                    self._insert(token, key, None, of_tensors)
                else:
                    self._take_over(key, row[0], token, step, of_tensors)
                self._seal(token)
                tokens.append(token)
        return tokens

    def grokking_epoch(self, token: int) -> int | None:
        """Return the grokking epoch of a run that was begun."""
        epoch = self._owned(token).grokking_epoch
        return None if epoch is None else int(epoch)

    def reached(self, config: Config) -> int | None:
        """Return the last step at which a run was measured, finished or not."""
        key = config_key(config)
        with self._file.moment():
            [(last,)] = self._file.query(
                "SELECT max(epoch) FROM snapshots JOIN unfinished ON run = id WHERE key = ?", key
            )
            if last is None:
                records = map(self._finished.record, self._finished.with_key(key))
                last = max(map(_last_epoch, records), default=-1)
        return last if isinstance(last, int) and last >= 0 else None

    def append(self, snapshots: Mapping[int, Snapshots], grokking_epoch: int | None) -> None:
        """Write snapshots of runs that were begun."""
        with self._file.writing():
            for token, of_run in snapshots.items():
                header = self._owned(token)
                self._add(token, header.key, of_run, self._tensors(header))
                self._file.execute(
                    "UPDATE unfinished SET grokking_epoch = ? WHERE id = ?", grokking_epoch, token
                )
                self._seal(token)

    def finish(self, tokens: Iterable[int]) -> None:
        """Turn unfinished runs into finished ones."""
        with self._file.writing():
            # Read in the same transaction, or another process could take a run over in between.
            for header in map(self._owned, tokens):
                self._finished.add(self._so_far(header))
                self.forget(header.key)

    def forget(self, key: str) -> None:
        """Remove an unfinished run, if there is one of this key, within a transaction."""
        row = self._file.execute("SELECT id FROM unfinished WHERE key = ?", key).fetchone()
        if row is not None:
            self._file.execute("DELETE FROM snapshots WHERE run = ?", *row)
            self._file.execute("DELETE FROM unfinished WHERE id = ?", *row)

    def records(self) -> list[RunRecord]:
        """Return the unfinished runs that have a snapshot, ordered by key."""
        with self._file.moment():
            found = [record for header in self.headers() for record in self._so_far(header)]
        return sorted(found, key=lambda record: record.key)

    def last_steps(self) -> list[tuple[Config, int]]:
        """Return the configuration and the last step of every unfinished run that has a snapshot."""
        found = []
        for header in self.headers():
            config = self._config(header)
            steps = [step for step, _ in self._snapshots(header)]
            if steps:
                found.append((config, max(steps)))
        return sorted(found, key=lambda pair: config_key(pair[0]))

    # Ownership

    def _owned(self, token: int) -> _Header:
        rows = self._file.rows_with("unfinished", "id", token)
        if not rows:
            raise RunTakenError(
                f"{self._file.path} no longer holds the run that was begun here: it was removed, or "
                "another process continued it"
            )
        return _Header(*rows[0])

    def _reopen(self, key: str, step: int | None) -> None:
        """Turn the finished run of this key into an unfinished one, to be continued at a step."""
        for run in self._finished.with_key(key):
            record = self._finished.record(run)
            self._check_continues(record, step)
            token = _new_token()
            self._insert(token, key, record.grokking_epoch, json.dumps(dict(record.tensors)))
            columns = {name: column.tolist() for name, column in record.values.items()}
            snapshots = {
                epoch: {name: column[i] for name, column in columns.items()}
                for i, epoch in enumerate(record.epochs.tolist())
            }
            self._add(token, key, snapshots, record.tensors)
            self._finished.remove(run)

    def _check_continues(self, record: RunRecord, step: int | None) -> None:
        """Raise StudyError if a finished run would lose measurements."""
        holds = f"{self._file.path} holds the finished run {label_text(record.config)} already"
        if step is None:
            raise StudyError(
                f"{holds}; to continue it, give a step; to measure it again, use another label or "
                "another study"
            )
        last = max(_last_epoch(record), record.grokking_epoch or 0)
        if step <= last:
            raise StudyError(
                f"{holds}, to step {last}; continuing it at step {step} would remove finished "
                f"measurements: give step {last + 1} or a later one, or use another label or "
                "another study"
            )

    def _insert(self, token: int, key: str, grokking_epoch: int | None, tensors: str) -> None:
        self._file.execute(
            "INSERT INTO unfinished VALUES (?, ?, ?, ?, 0, 0)", token, key, grokking_epoch, tensors
        )

    def _take_over(self, key: str, run: int, token: int, step: int | None, tensors: str) -> None:
        """Give an unfinished run a new owner, and remove what will be measured again."""
        execute = self._file.execute
        (last,) = execute("SELECT max(epoch) FROM snapshots WHERE run = ?", run).fetchone()
        if step is None and last is not None:
            raise StudyError(
                f"{self._file.path} holds the unfinished run {label_text(json.loads(key))}, measured to "
                f"step {last}; give the step to continue it from, 0 to start over, or use another label "
                "or another study"
            )
        step = step or 0
        execute("DELETE FROM snapshots WHERE run = ? AND epoch >= ?", run, step)
        (kept,) = execute("SELECT count(*) FROM snapshots WHERE run = ?", run).fetchone()
        (before,) = execute("SELECT tensors FROM unfinished WHERE id = ?", run).fetchone()
        if kept and before != tensors:
            raise StudyError(
                f"{self._file.path} holds the run {label_text(json.loads(key))} of other tensors; "
                "continue it with the same model, or use another label or another study"
            )
        execute("UPDATE snapshots SET run = ? WHERE run = ?", token, run)
        execute(
            "UPDATE unfinished SET id = ?1, tensors = ?4, "
            "grokking_epoch = CASE WHEN grokking_epoch < ?2 THEN grokking_epoch END WHERE id = ?3",
            token,
            step,
            run,
            tensors,
        )

    # Rows

    def _add(self, token: int, key: str, snapshots: Snapshots, tensors: Mapping[str, int]) -> None:
        # Raises if a snapshot could not be read back.
        RunRecord.of_snapshots({}, None, snapshots, tensors)
        for step, values in snapshots.items():
            data = json.dumps(dict(values), default=np.generic.item)
            self._file.execute(
                "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?)",
                token,
                int(step),
                data,
                checksum_of(key, int(step), data),
            )

    def _seal(self, token: int) -> None:
        """Bring the number of snapshots and the checksum of an unfinished run up to date."""
        self._file.execute(
            "UPDATE unfinished SET snapshots = (SELECT count(*) FROM snapshots WHERE run = ?1) "
            "WHERE id = ?1",
            token,
        )
        columns = self._file.execute(
            "SELECT key, grokking_epoch, tensors, snapshots FROM unfinished WHERE id = ?", token
        ).fetchone()
        self._file.execute(
            "UPDATE unfinished SET checksum = ? WHERE id = ?", checksum_of(*columns), token
        )

    def headers(self) -> list[_Header]:
        """Return the rows of all unfinished runs, checked."""
        return [_Header(*row) for row in self._file.rows("unfinished")]

    def _config(self, header: _Header) -> Config:
        return self._file.checked("unfinished", read_config, header.key, header.grokking_epoch)

    def _tensors(self, header: _Header) -> dict[str, int]:
        read = self._file.checked("unfinished", read_json, header.tensors)
        return self._file.checked("unfinished", checked_tensors, read)

    def _so_far(self, header: _Header) -> list[RunRecord]:
        """Return the record of an unfinished run, or none if it has no snapshot."""
        config = self._config(header)
        snapshots = {
            step: self._file.checked("snapshots", _read_snapshot, data)
            for step, data in self._snapshots(header)
        }
        if not snapshots:
            return []
        record = RunRecord.of_snapshots
        columns = config, header.grokking_epoch, snapshots, self._tensors(header)
        return [self._file.checked("snapshots", record, *columns)]

    def _snapshots(self, header: _Header) -> list[tuple[int, str]]:
        """Return the steps of an unfinished run and their data, none missing or changed."""
        rows = self._file.query(
            "SELECT epoch, data, checksum FROM snapshots WHERE run = ?", header.token
        )
        for step, data, checksum in rows:
            if not isinstance(step, int) or checksum_of(header.key, step, data) != checksum:
                raise damaged(
                    self._file.path, f"step {step} of an unfinished run does not match its checksum"
                )
        if len(rows) != header.n_snapshots:
            raise damaged(
                self._file.path,
                f"an unfinished run has {len(rows)} of its {header.n_snapshots} snapshots",
            )
        return [(step, data) for step, data, _ in rows]


def _new_token() -> int:
    return secrets.randbits(62)


def _last_epoch(record: RunRecord) -> int:
    return int(record.epochs.max(initial=-1))


def _read_snapshot(text: object) -> dict[str, Measured]:
    """Return the values of a snapshot by name, or raise InputError."""
    values = read_json(text)
    require(isinstance(values, dict), "no snapshot of numbers")
    for name, value in values.items():
        numbers = value if name in WIDE and isinstance(value, list) else [value]
        require(all(isinstance(one, int | float) for one in numbers), "no snapshot of numbers")
    return dict(values)
