"""A study on disk: one SQLite file with the runs of any number of sweeps.

A finished run is written in one transaction. A run that is measured while it trains is written snapshot
by snapshot as an unfinished run, which others can read meanwhile. So, whenever a writer is stopped, the
file holds whole runs and whole snapshots only. All rows and arrays have checksums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from gradquake.errors import StudyError
from gradquake.study.configuration import (
    RUN_KEYS,
    Config,
    checked_key,
    choose,
    config_key,
    read_config,
    sweep_settings,
)
from gradquake.study.journal import Snapshots, UnfinishedRuns
from gradquake.study.recording import RunRecord, to_dataset
from gradquake.study.runs import FinishedRun, FinishedRuns
from gradquake.study.schema import PATIENCE, StudyFile, checksum_of, open_file

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["PATIENCE", "Study", "open_study"]


class Study:
    """The runs in one study file; made by ``open_study``, and a context manager that closes it.

    Raises
    ------
    StudyError
        From every method, if the file is damaged, locked by another writer, or cannot be written.
    """

    def __init__(self, file: StudyFile) -> None:
        self.path = file.path
        self._file = file
        self._finished = FinishedRuns(file)
        self._journal = UnfinishedRuns(file, self._finished)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r})"

    def close(self) -> None:
        """Close the file; nothing is lost without this call."""
        self._file.close()

    # Planned and finished runs

    def plan(self, configs: Iterable[Config]) -> None:
        """Note runs as planned, so that the missing ones are known.

        Raises
        ------
        InputError
            For a configuration that ``configuration.read_config`` does not read.
        """
        keys = [checked_key(config) for config in configs]
        with self._file.writing():
            for key in keys:
                self._file.execute("INSERT OR IGNORE INTO planned VALUES (?, ?)", key, checksum_of(key))

    def write(self, records: Sequence[RunRecord]) -> None:
        """Write finished runs in one transaction: all of them, or none if anything fails.

        Raises
        ------
        InputError
            For a configuration that ``configuration.read_config`` does not read, or a measurement that
            does not fit its stored type.
        """
        with self._file.writing():
            self._finished.add(records)
            for record in records:
                self._journal.forget(record.key)

    def keys(self) -> set[str]:
        """Return the keys (canonical configurations) of all finished runs."""
        return self._finished.keys()

    def records(self) -> list[RunRecord]:
        """Return every finished run, in the order in which they were written."""
        return [self._finished.record(run) for run in self._finished.all()]

    def missing(self) -> list[Config]:
        """Return the configurations of the runs that were planned and are not finished."""
        with self._file.moment():
            done = self.keys()
            planned = [key for (key,) in self._file.rows("planned")]
        missing = sorted((key for key in planned if key not in done), key=str)
        return [self._file.checked("planned", read_config, key) for key in missing]

    # Unfinished runs

    def begin(
        self,
        configs: Sequence[Config],
        step: int | None = None,
        tensors: Mapping[str, int] | None = None,
    ) -> list[int]:
        """Begin runs that will be written snapshot by snapshot.

        An unfinished run without snapshots starts over, with or without a step.

        Parameters
        ----------
        configs : sequence of mapping
            The configurations of the runs, as in ``RunRecord``.
        step : int, optional
            Continue the runs of these configurations. An unfinished run keeps its snapshots before
            ``step``; later ones are removed, since they will be measured again. A finished run that
            holds nothing at ``step`` or later becomes unfinished again, with all its snapshots.
        tensors : mapping of str to int, optional
            As in ``RunRecord``, of all these runs; needed to append what is measured by tensor.

        Returns
        -------
        list of int
            One token per run, to pass to ``append`` and ``finish``. It revokes the token of the
            previous writer.

        Raises
        ------
        InputError
            For a configuration that ``configuration.read_config`` does not read.
        StudyError
            If a run has snapshots and no step is given, a finished run holds ``step`` or a later one,
            or a run has snapshots of other tensors; then no run is begun.
        """
        return self._journal.begin(configs, step, tensors or {})

    def grokking_epoch(self, token: int) -> int | None:
        """Return the grokking epoch of a run that was begun, as the study holds it now.

        Raises
        ------
        StudyError
            As ``append`` does.
        """
        return self._journal.grokking_epoch(token)

    def reached(self, config: Config) -> int | None:
        """Return the last step at which a run was measured, finished or not; None if it never was."""
        return self._journal.reached(config)

    def append(self, snapshots: Mapping[int, Snapshots], grokking_epoch: int | None = None) -> None:
        """Write snapshots of runs that were begun: all of them, or none if anything fails.

        Parameters
        ----------
        snapshots : mapping
            By token, as ``begin`` returned it, then by step. A snapshot of the same step is replaced.
        grokking_epoch : int, optional
            The grokking epoch of these runs, as it is known now. It replaces the recorded one.

        Raises
        ------
        InputError
            For a step that is not an integer, or a number that does not fit its variable.
        StudyError
            If a run was not begun, is finished, or was begun again by another process.
        """
        self._journal.append(snapshots, grokking_epoch)

    def finish(self, tokens: Iterable[int]) -> None:
        """Turn unfinished runs into finished ones: all of them, or none if anything fails.

        A run without snapshots is removed.

        Raises
        ------
        StudyError
            As ``append`` does.
        """
        self._unfinished()  # A damaged study raises here: nothing is written into it.
        self._journal.finish(tokens)

    def unfinished(self) -> list[RunRecord]:
        """Return the runs that are being written, or whose writer was stopped, as far as they are."""
        return self._journal.records()

    def _unfinished(self) -> list[str]:
        """Return the keys of the unfinished runs; StudyError if one of them is damaged."""
        return [header.key for header in self._journal.headers()]

    # Sweeps

    @property
    def sweeps(self) -> list[Config]:
        """The settings of every sweep with a finished run."""
        return [sweep["settings"] for sweep in self.contents() if sweep["runs"]]

    def contents(self) -> list[dict[str, Any]]:
        """Return a summary of every sweep, planned or begun.

        Returns
        -------
        list of dict
            - ``settings``;
            - ``runs``, the number of finished runs, and ``grokked``, the number of those that grokked;
            - ``n_parameters`` and ``seeds`` of the finished runs, ascending;
            - ``missing``, the size and seed of each run that was planned and is not finished;
            - ``unfinished``, the size, seed and labels of each run that is being written, or whose
              writer was stopped, and the last ``epoch`` at which it was measured.
        """
        # At one moment, or a run that another process finishes meanwhile would be in none of the three.
        with self._file.moment():
            runs, missing = self._finished.all(), self.missing()
            unfinished = self._journal.last_steps()
        found: dict[str, dict[str, Any]] = {}

        def sweep_of(config: Config) -> dict[str, Any]:
            settings = sweep_settings(config)
            empty = {"settings": settings, "runs": 0, "n_parameters": set(), "seeds": set()}
            empty |= {"grokked": 0, "missing": [], "unfinished": []}
            return found.setdefault(config_key(settings), empty)

        for run in runs:
            sweep = sweep_of(run.config)
            sweep["runs"] += 1
            sweep["n_parameters"].add(run.config["n_parameters"])
            sweep["seeds"].add(run.config["seed"])
            sweep["grokked"] += run.grokking_epoch is not None
        for config in missing:
            sweep_of(config)["missing"].append({name: config[name] for name in ("n_parameters", "seed")})
        for config, last in unfinished:
            known = {name: config[name] for name in RUN_KEYS if name in config}
            sweep_of(config)["unfinished"].append({**known, "epoch": last})
        return [
            sweep | {"n_parameters": sorted(sweep["n_parameters"]), "seeds": sorted(sweep["seeds"])}
            for sweep in found.values()
        ]

    @property
    def dataset(self) -> xr.Dataset:
        """The study's only sweep as a Dataset (see ``gradquake.study.recording``).

        Raises
        ------
        StudyError
            If the study holds no run, or several sweeps; then ``select`` chooses one.
        """
        return self.select()

    def select(self, /, **settings: Any) -> xr.Dataset:
        """Return the one sweep whose settings include those given, as a Dataset.

        Raises
        ------
        StudyError
            If no sweep or more than one fits.
        """
        sweeps = self._by_sweep()
        chosen = choose(self.path, [of[0].settings for of in sweeps.values()], settings, "finished run")
        return self._dataset(sweeps[config_key(chosen)])

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
            for runs in sweeps.values()
            if runs[0].settings.get("surrogate", "real") != "real"
            and config_key({**runs[0].settings, "surrogate": "real"}) == own
        }
        return self._dataset(sweeps[own]), {rung: self._dataset(of) for rung, of in nulls.items()}

    def dataset_of(self, configs: Iterable[Config]) -> xr.Dataset:
        """Return exactly the runs of these configurations, of one sweep, as a Dataset.

        Raises
        ------
        StudyError
            If one of them is not finished.
        """
        runs = []
        for key in map(config_key, configs):
            # By their keys, since a study may hold many more runs than were asked for.
            found = self._finished.with_key(key)
            if not found:
                raise StudyError(f"{self.path} does not hold the run {key}")
            runs += found
        return self._dataset(runs)

    def _by_sweep(self) -> dict[str, list[FinishedRun]]:
        found: dict[str, list[FinishedRun]] = {}
        for run in self._finished.all():
            found.setdefault(config_key(run.settings), []).append(run)
        if not found and self._journal.last_steps():
            raise StudyError(
                f"{self.path} holds unfinished runs only; a run that `attach` measures is finished once "
                "training leaves its `with` block without an exception, or calls detach()"
            )
        return found

    def _dataset(self, runs: Iterable[FinishedRun]) -> xr.Dataset:
        return to_dataset([self._finished.record(run) for run in runs])


def open_study(path: str | Path, *, create: bool = False, patience: float = PATIENCE) -> Study:
    """Open a study file.

    Parameters
    ----------
    path : str or Path
        The file. SQLite keeps two files beside it (``-wal`` and ``-shm``) while it is open. In a folder
        without write access, a study that nobody is writing can still be read.
    create : bool
        Whether to make a new, empty study if there is no file. Set it if you mean to write.
    patience : float
        Seconds to wait for another process that writes, here and in every method of the study.

    Raises
    ------
    StudyError
        If there is no file (and ``create`` is false), or the file is not a study, has another schema,
        or is damaged.
    """
    return Study(open_file(path, create=create, patience=patience))
