"""A study on disk: one SQLite file with the runs of any number of sweeps.

A run is written in one transaction when it is done. One that is measured while it trains is written
snapshot by snapshot as an unfinished run, which others can read meanwhile and which becomes a run when
it is done. So, whenever a writer was stopped, a file holds whole runs and whole snapshots only.
Measurements of runs are stored as little-endian arrays with a checksum each.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from platform import python_version
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gradquake.errors import InputError, RunTakenError, StudyError, printable, told
from gradquake.study.recording import (
    RUN_KEYS,
    RunRecord,
    as_stored,
    checked_key,
    config_key,
    differing,
    label_text,
    read_config,
    read_names,
    read_snapshot,
    same,
    stored_type,
    sweep_settings,
    to_dataset,
)

if TYPE_CHECKING:
    import xarray as xr

APPLICATION_ID = 0x47514B45  # "GQKE"
SCHEMA = 3

# How SQLite calls it where it cannot make the study, its log or the log's index larger.
NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")

# SQLite's error names for a log that cannot be made in a folder without write access.
NO_LOG = ("SQLITE_READONLY_DIRECTORY", "SQLITE_CANTOPEN")

# Seconds to wait for another process that writes.
PATIENCE = 30.0

# The columns of a finished and of an unfinished run, each protected by the checksum of its row.
HEADER = "id, key, grokking_epoch, software, measured"
UNFINISHED = "key, grokking_epoch, snapshots"

TABLES = (
    "CREATE TABLE planned (key TEXT PRIMARY KEY, checksum INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        grokking_epoch INTEGER,
        software TEXT NOT NULL,
        measured TEXT NOT NULL,
        checksum INTEGER NOT NULL
    )""",
    """CREATE TABLE measurements (
        run INTEGER PRIMARY KEY REFERENCES runs (id),
        data BLOB NOT NULL,
        checksum INTEGER NOT NULL
    )""",
    """CREATE TABLE unfinished (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        grokking_epoch INTEGER,
        snapshots INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    )""",
    """CREATE TABLE snapshots (
        run INTEGER NOT NULL REFERENCES unfinished (id),
        epoch INTEGER NOT NULL,
        data TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (run, epoch)
    ) WITHOUT ROWID""",
    # What SQLite cannot tell of a damaged file: whether rows are missing.
    "CREATE TABLE tallies (name TEXT PRIMARY KEY, rows INTEGER, total INTEGER) WITHOUT ROWID",
)
TALLIED = ("planned", "runs", "unfinished")
TALLY = (
    "CREATE TRIGGER {0}_added AFTER INSERT ON {0} BEGIN UPDATE tallies "
    "SET rows = rows + 1, total = total + new.checksum WHERE name = '{0}'; END",
    "CREATE TRIGGER {0}_removed AFTER DELETE ON {0} BEGIN UPDATE tallies "
    "SET rows = rows - 1, total = total - old.checksum WHERE name = '{0}'; END",
    "CREATE TRIGGER {0}_changed AFTER UPDATE OF checksum ON {0} BEGIN UPDATE tallies "
    "SET total = total + new.checksum - old.checksum WHERE name = '{0}'; END",
)
# All that a file's schema says; whoever changes it gives SCHEMA another number.
SCRIPT = (*TABLES, *(text.format(table) for table in TALLIED for text in TALLY))


class Study:
    """The runs in one study file; made by ``open_study``, and a context manager that closes it.

    Raises
    ------
    StudyError
        From every method, where the file is damaged, locked by another writer, or cannot be written.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._file = _file_at(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r})"

    def close(self) -> None:
        """Close the file; nothing is lost where this is not called."""
        self._connection.close()

    def plan(self, configs: Iterable[Mapping[str, Any]]) -> None:
        """Note runs as wanted, so that the missing ones are known.

        Raises
        ------
        InputError
            For a configuration that ``recording.read_config`` does not read.
        """
        rows = [(key, _checksum(key)) for key in map(checked_key, configs)]
        with self._writing():
            self._connection.executemany("INSERT OR IGNORE INTO planned VALUES (?, ?)", rows)

    @contextmanager
    def sole_sweep(self) -> Iterator[None]:
        """Keep other processes from running a sweep on this study.

        The lock is the operating system's, on a file beside the study (``-lock``), and ends with the
        process, however it ends.

        Raises
        ------
        StudyError
            Where another process, or another sweep of this one, holds it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(f"{self.path}-lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise StudyError(
                f"another process runs a sweep on {self.path}; wait until it is done, or write to "
                "another study"
            ) from None
        except OSError as error:
            raise StudyError(f"{lock.lock_file} cannot be written: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    def write(self, records: Sequence[RunRecord]) -> None:
        """Write finished runs in one transaction: all of them, or on any failure none.

        Raises
        ------
        InputError
            For a configuration that ``recording.read_config`` does not read, or a measurement that its
            type cannot hold.
        """
        with self._writing():
            self._insert(records)

    def _insert(self, records: Iterable[RunRecord]) -> None:
        software = json.dumps(software_versions())
        for record in records:
            arrays = {"epoch": record.epochs, **record.values}
            names = sorted(arrays)
            data = b"".join(as_stored(name, np.asarray(arrays[name])).tobytes() for name in names)
            header = (checked_key(record.config), record.grokking_epoch, software, json.dumps(names))
            checksum = _checksum(*header)
            cursor = self._connection.execute(
                "INSERT INTO runs (key, grokking_epoch, software, measured, checksum) "
                "VALUES (?, ?, ?, ?, ?)",
                (*header, checksum),
            )
            self._connection.execute(
                "INSERT INTO measurements VALUES (?, ?, ?)",
                (cursor.lastrowid, data, zlib.crc32(data, checksum)),
            )
            self._forget(record.key)

    def begin(self, configs: Sequence[Mapping[str, Any]], step: int | None = None) -> list[int]:
        """Begin runs that will be written snapshot by snapshot.

        An unfinished run without snapshots begins anew, with or without a step.

        Parameters
        ----------
        configs : sequence of mapping
            Of the runs, as in ``RunRecord``.
        step : int, optional
            Continue the runs of these configurations. An unfinished run keeps its snapshots before
            ``step``; the later ones, which will be measured again, are removed. A finished run that
            holds nothing at ``step`` or later becomes unfinished again, with all its snapshots.

        Returns
        -------
        list of int
            One token per run, to pass to ``append`` and ``finish``. It revokes the token of the
            previous writer.

        Raises
        ------
        InputError
            For a configuration that ``recording.read_config`` does not read.
        StudyError
            If a run has snapshots and no step is given, or a finished run holds ``step`` or a later
            one; then no run is begun.
        """
        owned = []
        with self._writing():
            execute = self._connection.execute
            for config in configs:
                key = checked_key(config)
                self._reopen(key, step)
                row = execute("SELECT id FROM unfinished WHERE key = ?", (key,)).fetchone()
                owner = secrets.randbits(62)
                if row is None:
                    execute("INSERT INTO unfinished VALUES (?, ?, NULL, 0, 0)", (owner, key))
                else:
                    self._take_over(key, row[0], owner, step)
                self._seal(owner)
                owned.append(owner)
        return owned

    def grokking_epoch(self, run: int) -> int | None:
        """Return the grokking epoch of a run that was begun, as ``begin`` found or ``append`` left it.

        Raises
        ------
        StudyError
            As ``append`` does.
        """
        epoch = self._owned(run)[1]
        return None if epoch is None else int(epoch)

    def reached(self, config: Mapping[str, Any]) -> int | None:
        """Return the last step at which a run was measured, finished or not; None if there is none."""
        key = config_key(config)
        with self._moment():
            [(last,)] = self._query(
                "SELECT max(epoch) FROM snapshots JOIN unfinished ON run = id WHERE key = ?", key
            )
            if last is None:
                last = max((int(run.epochs.max(initial=-1)) for run in self._finished(key)), default=-1)
        return last if isinstance(last, int) and last >= 0 else None

    def _finished(self, key: str) -> list[RunRecord]:
        """Return the finished run of this key, if there is one."""
        rows = self._query(f"SELECT {HEADER}, checksum FROM runs WHERE key = ?", key)  # noqa: S608
        return [self._record(self._run(row[:-1])) for row in self._intact("runs", rows)]

    def _reopen(self, key: str, step: int | None) -> None:
        """Make a finished run unfinished, to be continued at a step."""
        for run in self._finished(key):
            holds = f"{self.path} holds the finished run {label_text(run.config)} already"
            if step is None:
                raise StudyError(
                    f"{holds}; to continue it, give a step; to measure it again, use another label or "
                    "another study"
                )
            last = int(max(run.epochs.max(initial=-1), run.grokking_epoch or 0))
            if step <= last:
                raise StudyError(
                    f"{holds}, to step {last}; continuing it at step {step} would remove finished "
                    f"measurements: give step {last + 1} or a later one, or use another label or "
                    "another study"
                )
            execute, owner = self._connection.execute, secrets.randbits(62)
            execute("INSERT INTO unfinished VALUES (?, ?, ?, 0, 0)", (owner, key, run.grokking_epoch))
            columns = {name: column.tolist() for name, column in run.values.items()}
            self._add(
                owner,
                key,
                {
                    epoch: {name: column[i] for name, column in columns.items()}
                    for i, epoch in enumerate(run.epochs.tolist())
                },
            )
            row = execute("SELECT id FROM runs WHERE key = ?", (key,)).fetchone()
            execute("DELETE FROM measurements WHERE run = ?", row)
            execute("DELETE FROM runs WHERE id = ?", row)

    def _take_over(self, key: str, run: int, owner: int, step: int | None) -> None:
        execute = self._connection.execute
        (last,) = execute("SELECT max(epoch) FROM snapshots WHERE run = ?", (run,)).fetchone()
        if step is None and last is not None:
            raise StudyError(
                f"{self.path} holds the unfinished run {label_text(json.loads(key))}, measured to step "
                f"{last}; give the step to continue it from, 0 to begin anew, or use another label or "
                "another study"
            )
        step = step or 0
        execute("DELETE FROM snapshots WHERE run = ? AND epoch >= ?", (run, step))
        execute("UPDATE snapshots SET run = ? WHERE run = ?", (owner, run))
        execute(
            "UPDATE unfinished SET id = ?1, "
            "grokking_epoch = CASE WHEN grokking_epoch < ?2 THEN grokking_epoch END WHERE id = ?3",
            (owner, step, run),
        )

    def append(
        self,
        snapshots: Mapping[int, Mapping[int, Mapping[str, float]]],
        grokking_epoch: int | None = None,
    ) -> None:
        """Write snapshots of runs that were begun, all of them or on any failure none.

        Parameters
        ----------
        snapshots : mapping
            By run, as ``begin`` returned it, then by step; one that is there is replaced.
        grokking_epoch : int, optional
            Of the runs, as it is known now; it replaces what they have.

        Raises
        ------
        InputError
            For a step that is no integer, or a number that its variable cannot be.
        StudyError
            Where a run was not begun, is finished, or was begun again by another.
        """
        with self._writing():
            for run, of_run in snapshots.items():
                key, *_ = self._owned(run)
                self._add(run, key, of_run)
                self._connection.execute(
                    "UPDATE unfinished SET grokking_epoch = ? WHERE id = ?",
                    (grokking_epoch, run),
                )
                self._seal(run)

    def _add(self, run: int, key: str, snapshots: Mapping[int, Mapping[str, float]]) -> None:
        # Raises for what could not be read back.
        RunRecord.of_snapshots({}, None, snapshots)
        rows = []
        for step, values in snapshots.items():
            data = json.dumps(dict(values), default=np.generic.item)
            rows.append((run, int(step), data, _checksum(key, int(step), data)))
        self._connection.executemany("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?)", rows)

    def _seal(self, run: int) -> None:
        """Make the checksum of an unfinished run that of what it is now."""
        self._connection.execute(
            "UPDATE unfinished SET snapshots = (SELECT count(*) FROM snapshots WHERE run = ?1) "
            "WHERE id = ?1",
            (run,),
        )
        header = self._connection.execute(
            "SELECT key, grokking_epoch, snapshots FROM unfinished WHERE id = ?", (run,)
        ).fetchone()
        self._connection.execute(
            "UPDATE unfinished SET checksum = ? WHERE id = ?", (_checksum(*header), run)
        )

    def finish(self, runs: Iterable[int]) -> None:
        """Make unfinished runs finished ones, all of them or on any failure none.

        A run without snapshots is removed.

        Raises
        ------
        StudyError
            As ``append`` does.
        """
        self._unfinished()  # Nothing is written into a damaged study.
        with self._writing():
            # Read under the same lock, or another process could take a run over in between.
            for header in map(self._owned, runs):
                self._insert(self._so_far(header))
                self._forget(header[0])

    def _owned(self, run: int) -> tuple[Any, ...]:
        """Return the key, the grokking epoch, the number of snapshots and the token of a run."""
        rows = self._query(f"SELECT id, {UNFINISHED}, checksum FROM unfinished WHERE id = ?", run)  # noqa: S608
        if not rows:
            raise RunTakenError(
                f"{self.path} no longer holds the run that was begun here: it was removed, or another "
                "process continued it"
            )
        [(_, *header, _)] = self._intact("unfinished", rows)
        return (*header, run)

    def unfinished(self) -> list[RunRecord]:
        """Return the runs that are being written, or whose writer was stopped, as far as they are."""
        with self._moment():
            found = [self._so_far((*header, run)) for run, *header in self._unfinished()]
        return sorted((record for of_run in found for record in of_run), key=lambda record: record.key)

    def _unfinished(self) -> list[tuple[Any, ...]]:
        with self._moment():
            return self._tallied("unfinished", f"id, {UNFINISHED}")

    def _so_far(self, header: tuple[Any, ...]) -> list[RunRecord]:
        """Return the record of an unfinished run; none if it has no snapshot."""
        key, grokking_epoch, *_ = header
        config = self._checked("unfinished", read_config, key, grokking_epoch)
        snapshots = {
            step: self._checked("snapshots", read_snapshot, step, data)
            for step, data in self._snapshots(header)
        }
        if not snapshots:
            return []
        return [self._checked("snapshots", RunRecord.of_snapshots, config, grokking_epoch, snapshots)]

    def _snapshots(self, header: tuple[Any, ...]) -> list[tuple[int, str]]:
        """Return the steps of an unfinished run and what was measured, none missing or changed."""
        key, _, count, run = header
        rows = self._query("SELECT epoch, data, checksum FROM snapshots WHERE run = ?", run)
        for step, data, checksum in rows:
            if not isinstance(step, int) or _checksum(key, step, data) != checksum:
                raise _damaged(
                    self.path, f"step {step} of an unfinished run does not match its checksum"
                )
        if len(rows) != count:
            raise _damaged(self.path, f"an unfinished run has {len(rows)} of its {count} snapshots")
        return [(step, data) for step, data, _ in rows]

    def _forget(self, key: str) -> None:
        """Remove an unfinished run, once it is finished."""
        row = self._connection.execute("SELECT id FROM unfinished WHERE key = ?", (key,)).fetchone()
        if row is not None:
            self._connection.execute("DELETE FROM snapshots WHERE run = ?", row)
            self._connection.execute("DELETE FROM unfinished WHERE id = ?", row)

    def keys(self) -> set[str]:
        """Return the keys (canonical configurations) of all finished runs."""
        return {key for _, key, *_ in self._headers()}

    def missing(self) -> list[dict[str, Any]]:
        """Return the configurations of the runs that were planned and are not done."""
        with self._moment():
            done = self.keys()
            planned = [key for (key,) in self._tallied("planned", "key")]
        wanted = sorted((key for key in planned if key not in done), key=str)
        return [self._checked("planned", read_config, key) for key in wanted]

    @property
    def sweeps(self) -> list[dict[str, Any]]:
        """The settings of every sweep with a finished run: all that its runs share."""
        return [sweep["settings"] for sweep in self.contents() if sweep["runs"]]

    def contents(self) -> list[dict[str, Any]]:
        """Return a summary of every sweep, planned or begun.

        Each a dict of ``settings``, ``runs`` (finished), ``n_parameters`` and ``seeds`` (of the
        finished runs, ascending), ``grokked`` (finished runs that reached 100 %), ``missing`` (the
        size and seed of each run that was planned and is not finished), and ``unfinished`` (the size,
        seed and labels of each run that is being written, or whose writer was stopped, and the last
        epoch that it was measured at).
        """
        found: dict[str, dict[str, Any]] = {}

        def sweep_of(config: Mapping[str, Any]) -> dict[str, Any]:
            settings = sweep_settings(config)
            empty = {"settings": settings, "runs": 0, "n_parameters": set(), "seeds": set()}
            empty |= {"grokked": 0, "missing": [], "unfinished": []}
            return found.setdefault(config_key(settings), empty)

        # At one moment, or a run that is finished meanwhile would be in none of the three.
        with self._moment():
            runs, missing, unfinished = self._runs(), self.missing(), self._last_steps()
        for run in runs:
            sweep = sweep_of(run.config)
            sweep["runs"] += 1
            sweep["n_parameters"].add(run.config["n_parameters"])
            sweep["seeds"].add(run.config["seed"])
            sweep["grokked"] += run.grokking_epoch is not None
        for config in missing:
            wanted = {name: config[name] for name in ("n_parameters", "seed")}
            sweep_of(config)["missing"].append(wanted)
        for config, last in unfinished:
            known = {name: config[name] for name in RUN_KEYS if name in config}
            sweep_of(config)["unfinished"].append({**known, "epoch": last})
        return [
            sweep | {"n_parameters": sorted(sweep["n_parameters"]), "seeds": sorted(sweep["seeds"])}
            for sweep in found.values()
        ]

    def _last_steps(self) -> list[tuple[dict[str, Any], int]]:
        """Return the configuration and the last step of every unfinished run that has snapshots."""
        found = []
        for run, *header in self._unfinished():
            config = self._checked("unfinished", read_config, *header[:2])
            steps = [step for step, _ in self._snapshots((*header, run))]
            if steps:
                found.append((config, max(steps)))
        return sorted(found, key=lambda pair: config_key(pair[0]))

    @property
    def dataset(self) -> xr.Dataset:
        """The study's only sweep as a Dataset (see ``gradquake.study.recording``).

        Raises
        ------
        StudyError
            Where the study holds no run, or several sweeps; then ``select`` chooses one.
        """
        return self.select()

    def select(self, /, **settings: Any) -> xr.Dataset:
        """Return the one sweep whose settings include those given, as a Dataset.

        Raises
        ------
        StudyError
            Where no sweep or more than one fits.
        """
        sweeps = self._by_sweep()
        chosen = choose(self.path, [of[0].settings for of in sweeps.values()], settings, "finished run")
        return self._dataset(sweeps[config_key(chosen)])

    def _by_sweep(self) -> dict[str, list[_Run]]:
        found: dict[str, list[_Run]] = {}
        for run in self._runs():
            found.setdefault(config_key(run.settings), []).append(run)
        if not found and self._last_steps():
            raise StudyError(
                f"{self.path} holds unfinished runs only; a run that `attach` measures is finished once "
                "training leaves its `with` block without an exception, or calls detach()"
            )
        return found

    def with_nulls(self, /, **settings: Any) -> tuple[xr.Dataset, dict[str, xr.Dataset]]:
        """Return the one sweep of real gradients that fits, and by name the nulls stored beside it.

        Raises
        ------
        StudyError
            As ``select`` does.
        """
        sweeps = self._by_sweep()
        asked = settings if "surrogate" in settings else {**settings, "surrogate": "real"}
        chosen = choose(self.path, [of[0].settings for of in sweeps.values()], asked, "finished run")
        own = config_key(chosen)
        nulls = {
            runs[0].settings["surrogate"]: runs
            for key, runs in sweeps.items()
            if runs[0].settings.get("surrogate", "real") != "real"
            and config_key({**runs[0].settings, "surrogate": "real"}) == own
        }
        return self._dataset(sweeps[own]), {rung: self._dataset(of) for rung, of in nulls.items()}

    def dataset_of(self, configs: Iterable[Mapping[str, Any]]) -> xr.Dataset:
        """Return exactly the runs of these configurations, of one sweep, as a Dataset.

        Raises
        ------
        StudyError
            Where one of them is not finished.
        """
        finished = {run.key: run for run in self._runs()}
        keys = [config_key(config) for config in configs]
        for key in keys:
            if key not in finished:
                raise StudyError(f"{self.path} does not hold the run {key}")
        return self._dataset([finished[key] for key in keys])

    def records(self) -> list[RunRecord]:
        """Return every finished run, in the order in which they were written."""
        return [self._record(run) for run in self._runs()]

    def _record(self, run: _Run) -> RunRecord:
        values = self._arrays(run)
        epochs = values.pop("epoch")
        whole: RunRecord = self._checked(
            "measurements", RunRecord, run.config, run.grokking_epoch, epochs, values
        )
        return whole

    def _dataset(self, runs: Iterable[_Run]) -> xr.Dataset:
        return to_dataset([self._record(run) for run in runs])

    def _runs(self) -> list[_Run]:
        return [self._run(header) for header in self._headers()]

    def _run(self, header: Sequence[Any]) -> _Run:
        row, key, grokking_epoch, _, measured = header
        return _Run(
            row,
            key,
            self._checked("runs", read_config, key, grokking_epoch),
            grokking_epoch,
            self._checked("runs", read_names, measured),
            _checksum(*header[1:]),
        )

    def _checked(self, table: str, read: Callable[..., Any], *columns: object) -> Any:
        """Return what columns say; a checksum only tells that they are as somebody wrote them."""
        try:
            return read(*columns)
        except InputError as error:
            raise _damaged(self.path, f"a row of {table} holds {error}") from error

    def _headers(self) -> list[tuple[Any, ...]]:
        with self._moment():
            return self._tallied("runs", HEADER)

    def _tallied(self, table: str, columns: str) -> list[tuple[Any, ...]]:
        """Return the rows of a table in order, none missing and none changed."""
        rows = self._query(f"SELECT {columns}, checksum FROM {table} NOT INDEXED")  # noqa: S608
        of_key = columns.startswith("id, ")
        self._intact(table, rows, of_key)
        tally = self._query("SELECT rows, total FROM tallies WHERE name = ?", table)
        keys = {row[of_key] for row in rows}
        if len(keys) != len(rows) or tally != [(len(rows), sum(row[-1] for row in rows))]:
            raise _damaged(self.path, f"rows of {table} are missing")
        if of_key and any(row[0] >= following[0] for row, following in pairwise(rows)):
            raise _damaged(self.path, f"rows of {table} are out of order")
        return [row[:-1] for row in rows]

    def _intact(
        self, table: str, rows: list[tuple[Any, ...]], of_key: bool = True
    ) -> list[tuple[Any, ...]]:
        """Return rows, each of which matches the checksum at its end."""
        for *header, checksum in rows:
            if _checksum(*header[of_key:]) != checksum:
                raise _damaged(self.path, f"a row of {table} does not match its checksum")
        return rows

    def _arrays(self, run: _Run) -> dict[str, NDArray[Any]]:
        rows = self._query("SELECT data, checksum FROM measurements WHERE run = ?", run.row)
        if len(rows) != 1:
            raise _damaged(self.path, f"the measurements of run {run.row} are missing")
        [(data, checksum)] = rows
        if not isinstance(data, bytes) or zlib.crc32(data, run.checksum) != checksum:
            raise _damaged(self.path, f"the measurements of run {run.row} do not match their checksum")
        kinds = [np.dtype(stored_type(name)) for name in run.measured]
        snapshots, rest = divmod(len(data), sum(kind.itemsize for kind in kinds))
        if rest:
            raise _damaged(self.path, f"the measurements of run {run.row} are of no number of snapshots")
        edges = np.cumsum([0, *(snapshots * kind.itemsize for kind in kinds)]).tolist()
        return {
            name: np.frombuffer(data[start:stop], kind)
            for name, kind, start, stop in zip(run.measured, kinds, edges, edges[1:], strict=False)
        }

    def _query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._clear():
            return self._connection.execute(sql, parameters).fetchall()

    @contextmanager
    def _clear(self) -> Iterator[None]:
        """Turn errors into sentences; SQLite does not say that the file is gone, and writes are lost."""
        if _file_at(self.path) != self._file:
            raise StudyError(
                f"{self.path} was removed or replaced while it was open; put it back, or open it again"
            )
        with _clear_errors(self.path):
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Read and write in one transaction, in which no other process writes."""
        with self._clear(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """Read all tables as they were at one moment, whoever writes meanwhile."""
        with self._clear():
            within = self._connection.in_transaction
            if not within:
                self._connection.execute("BEGIN")
        if within:
            yield
            return
        try:
            yield
        finally:
            self._connection.rollback()


class _Run(NamedTuple):
    """A finished run as its row says, checked."""

    row: int
    key: str
    config: dict[str, Any]
    grokking_epoch: int | None
    measured: list[str]
    checksum: int

    @property
    def settings(self) -> dict[str, Any]:
        return sweep_settings(self.config)


def choose(
    path: Path, sweeps: Sequence[dict[str, Any]], settings: Mapping[str, Any], what: str = "run"
) -> dict[str, Any]:
    """Return the settings of the one sweep, of those of a study, that include those given.

    Raises
    ------
    StudyError
        Where none fits, or several; it says what there is to choose from.
    """
    fitting = [
        sweep
        for sweep in sweeps
        if all(name in sweep and same(sweep[name], value) for name, value in settings.items())
    ]
    asked = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    asked = f" with {asked}" if asked else ""
    if not fitting:
        names = sorted({name for sweep in sweeps for name in sweep})
        known = f"; its settings are {', '.join(names)}" if names else ""
        raise StudyError(f"{path} holds no {what}{printable(asked + known)}")
    if len(fitting) > 1:
        values = differing(fitting)
        choices = "; ".join(f"{name} ({', '.join(found)})" for name, found in values.items())
        raise StudyError(
            f"{path} holds {len(fitting)} sweeps{printable(asked)}; choose one with name=value by a "
            f"setting in which they differ: {printable(choices)}"
        )
    return fitting[0]


def open_study(path: str | Path, *, create: bool = False, patience: float = PATIENCE) -> Study:
    """Open a study file.

    Parameters
    ----------
    path : str or Path
        The file. SQLite keeps two files beside it (``-wal`` and ``-shm``) while it is open. In a folder
        without write access a study that is not being written can still be read.
    create : bool
        Whether to make a new, empty study where there is no file; say so where you mean to write.
    patience : float
        Seconds to wait for another process that writes, here and in every method of the study.

    Raises
    ------
    StudyError
        Where there is no file (and ``create`` is false), or it is not a study, is of another schema,
        or is damaged.
    """
    try:
        # Absolute, since the folder of this process may change.
        path = Path(path).absolute()
        if path.is_dir():
            raise StudyError(f"{path} is a folder; a study is a file")
        if create and not path.parent.is_dir():
            raise StudyError(f"{path} cannot be made: there is no folder {path.parent}")
        exists = path.exists()
    except OSError as error:
        raise StudyError(f"{path} cannot be reached: {error.strerror}") from error
    if not exists and not create:
        raise StudyError(f"{path} does not exist; a study file is needed")
    try:
        return _opened(path, _connected(path, patience), create=create, patience=patience)
    except _UnwritableError:
        return _opened(path, _immutable(path), create=False, patience=patience)


class _UnwritableError(Exception):
    """A study with write-ahead logging, in a place where its log cannot be made."""


def _connected(path: Path, patience: float) -> sqlite3.Connection:
    with _clear_errors(path):
        try:
            return sqlite3.connect(path, timeout=patience)
        except sqlite3.OperationalError as error:
            raise StudyError(f"{path} cannot be opened: {told(error)}") from error


def _immutable(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads, for a folder in which SQLite cannot keep its log."""
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size > 0:
        raise StudyError(
            f"{log} may hold measurements that {path.name} lacks, and a folder without write access "
            "does not let them be read; copy both files to a folder with write access and open the copy"
        )
    with _clear_errors(path):
        return sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)


def _opened(path: Path, connection: sqlite3.Connection, *, create: bool, patience: float) -> Study:
    try:
        with _clear_errors(path):
            # Undoes what a killed process left half done, even the making of the tables.
            try:
                connection.execute("PRAGMA schema_version")
            except sqlite3.OperationalError as error:
                if create or error.sqlite_errorname not in NO_LOG:
                    raise
                raise _UnwritableError from error
            if create and path.stat().st_size == 0:
                _make_tables(connection)
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            if path.stat().st_size == 0:
                raise StudyError(f"{path} is empty; a study file is needed")
            if application != APPLICATION_ID:
                raise StudyError(f"{path} is an SQLite file, but not a gradquake study")
            if schema != SCHEMA:
                raise StudyError(
                    f"{path} has schema {schema}; this version of gradquake reads schema {SCHEMA}"
                )
            if create:
                # Others can read meanwhile.
                _write_ahead(connection, patience)
            # With a log, a killed process loses nothing that was committed, though no commit waits for
            # the disk.
            connection.execute("PRAGMA synchronous = NORMAL")
            _check_tables(path, connection)
            # Not joined: that would count every pair of them.
            for table in ("runs", "planned"):
                connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608
    except BaseException:
        connection.close()
        raise
    return Study(path, connection)


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from any other, None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_tables(path: Path, connection: sqlite3.Connection) -> None:
    """Raise StudyError unless the tables are those of a study: a view may take any time and memory."""
    sql = "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_stat%'"
    found = [" ".join(str(text).split()) for (text,) in connection.execute(sql)]
    if sorted(found) != sorted(" ".join(text.split()) for text in SCRIPT):
        raise _damaged(path, "its tables are not those of a study")


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have made them since this one looked.
    if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
        for statement in SCRIPT:
            connection.execute(statement)
        connection.executemany("INSERT INTO tallies VALUES (?, 0, 0)", [(name,) for name in TALLIED])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.commit()


def _write_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """Turn write-ahead logging on, for which SQLite itself does not wait until others let go."""
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            held = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
            if not held or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def software_versions() -> dict[str, str]:
    """Return the versions of gradquake, Python and the libraries that its numbers rest on."""
    packages = ("gradquake", "numpy", "scipy", "numba")
    return {"python": python_version()} | {package: version(package) for package in packages}


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite says, which may quote a damaged file, into one line that names the file."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise StudyError(f"{path} already holds this run: {told(error)}") from error
    except sqlite3.OperationalError as error:
        name = getattr(error, "sqlite_errorname", None)
        if name is None:  # of Python, that what was read is no text
            raise _damaged(path, told(error)) from error
        if name in NO_ROOM:
            raise StudyError(
                f"{path} cannot be written ({told(error)}): the disk is full or has a limit; what the "
                "study holds is kept, and the same command continues once there is room"
            ) from error
        raise StudyError(f"{path} cannot be used: {told(error)}") from error
    except sqlite3.ProgrammingError as error:
        raise StudyError(f"{path} cannot be used ({told(error)}); open it again") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if "not a database" in str(error):
            raise StudyError(f"{path} is not a gradquake study ({told(error)})") from error
        raise _damaged(path, told(error)) from error


def _checksum(*values: object) -> int:
    return zlib.crc32(repr(values).encode())


def _damaged(path: Path, what: str) -> StudyError:
    # What is wrong may quote what the file holds.
    return StudyError(f"{path} is damaged: {printable(what)}; restore it from a copy or make it anew")
