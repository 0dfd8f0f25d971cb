"""The sweeps of a study while they are being written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gradquake.analysis.live import LiveSweep
from gradquake.avalanche.surrogates import REAL
from gradquake.study.configuration import choose as choose_settings
from gradquake.study.configuration import config_key, sweep_settings
from gradquake.study.recording import RunRecord
from gradquake.study.study import open_study

__all__ = ["choose", "read"]


def read(path: str | Path) -> list[LiveSweep]:
    """Return every sweep of a study, with the runs that are still being written.

    Raises
    ------
    StudyError
        If the study cannot be read.
    """
    with open_study(path) as study:
        # In this order, a run that is finished in between is found twice instead of missed.
        unfinished = study.unfinished()
        finished = study.records()
    done = {record.key for record in finished}
    unfinished = [record for record in unfinished if record.key not in done]
    found: dict[str, LiveSweep] = {}
    for record in sorted([*finished, *unfinished], key=_place):
        settings = sweep_settings({**record.config, "surrogate": REAL})
        sweep = found.setdefault(config_key(settings), LiveSweep(settings, [], set(), {}))
        rung = record.config.get("surrogate", REAL)
        (sweep.runs if rung == REAL else sweep.nulls.setdefault(rung, [])).append(record)
    for record in unfinished:
        settings = sweep_settings({**record.config, "surrogate": REAL})
        found[config_key(settings)].unfinished.add(record.key)
    return [sweep for sweep in found.values() if sweep.runs]


def choose(study: str | Path, settings: Mapping[str, object]) -> LiveSweep:
    """Return the one sweep of a study whose settings include those given.

    Raises
    ------
    StudyError
        If the study cannot be read, or no sweep or several fit.
    """
    sweeps = read(study)
    chosen = choose_settings(Path(study), [sweep.settings for sweep in sweeps], settings)
    return next(sweep for sweep in sweeps if sweep.settings is chosen)


def _place(run: RunRecord) -> tuple[int, int, str]:
    return run.config["n_parameters"], run.config["seed"], run.key
