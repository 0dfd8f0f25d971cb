"""Measure a gradient, or the gradients that files hold."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from gradquake.avalanche.cascade import Avalanche
from gradquake.avalanche.graphs import Graph
from gradquake.avalanche.probe import Probe
from gradquake.avalanche.sums import Gradient
from gradquake.avalanche.surrogates import REAL, checked_rungs, seed_at, surrogate
from gradquake.avalanche.topologies import Builder
from gradquake.errors import InputError, require, require_count
from gradquake.files.saved import SavedGradients, open_gradients
from gradquake.files.series import Measurement, Null, RecordedAvalanche, Series
from gradquake.study.configuration import config_key, label_text
from gradquake.study.execution import Progress, silent
from gradquake.study.labels import checked_labels, labelled
from gradquake.study.recording import RunRecord
from gradquake.study.study import open_study

__all__ = ["NULLS", "measure"]

# The nulls that are measured unless others are chosen.
NULLS = ("gaussian", "permuted", "sign_flipped")

# A single gradient has no other step that shows how much a null scatters, so it gets more draws.
DRAWS_OF_ONE = 20

Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@overload
def measure(
    gradient: Files,
    *,
    graph: str | Graph | Builder = ...,
    alpha: float = ...,
    quantile: float = ...,
    max_steps: int = ...,
    seed: int = ...,
    differences: bool = ...,
    match: Sequence[str] = ...,
    sample: int | None = ...,
    nulls: Sequence[str] | None = ...,
    draws: int | None = ...,
    out: str | Path | None = ...,
    labels: Mapping[str, Any] | None = ...,
    progress: Progress = ...,
) -> Series: ...


@overload
def measure(
    gradient: Gradient | Sequence[float],
    *,
    graph: str | Graph | Builder = ...,
    alpha: float = ...,
    quantile: float = ...,
    max_steps: int = ...,
    seed: int = ...,
    tensors: Mapping[str, int] | None = ...,
) -> Avalanche: ...


def measure(
    gradient: Files | Gradient | Sequence[float],
    *,
    graph: str | Graph | Builder = Probe.graph,
    alpha: float = Probe.alpha,
    quantile: float = Probe.quantile,
    max_steps: int = Probe.max_steps,
    seed: int = Probe.seed,
    differences: bool = False,
    match: Sequence[str] = (),
    sample: int | None = None,
    nulls: Sequence[str] | None = None,
    draws: int | None = None,
    out: str | Path | None = None,
    labels: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    tensors: Mapping[str, int] | None = None,
) -> Avalanche | Series:
    """Measure a gradient; or the gradients that files hold, each beside its nulls.

    >>> import numpy as np
    >>> measure(np.array([1.0, -2.0, 0.5, 4.0, 0.1, -0.3]), graph="ring").size
    1

    Parameters
    ----------
    gradient : array of float32 or float64, shape (N,); or a path, or a list of paths
        A gradient; or files in any order, or one folder of them: .npy, .npz, .safetensors, .pt, .pth,
        .bin, .ckpt, .tar, or the .index.json of a checkpoint in parts. Each file holds one gradient, all
        of the same tensors. The files are taken in the order of the steps in their names or folders.
    graph, alpha, quantile, max_steps, seed
        The settings of a ``Probe``. For files the seed draws the nulls and the sample too.
    differences : bool
        Whether the files are checkpoints: one minus the one before is then measured.
    match : sequence of str
        Only tensors whose names fit one of these patterns, such as ``"*.weight"``.
    sample : int, optional
        Measure a fixed random subset of this many entries.
    nulls : sequence of str, optional
        Names in ``surrogates.RUNGS``; by default ``NULLS``.
    draws : int, optional
        The number of surrogates of each gradient and null; by default 20 for a single gradient, and 1
        for each of several.
    out : path, optional
        Record the series, and its nulls beside it, in this study. It is made if it does not exist.
    labels : mapping of str to text or number, optional
        What tells the recorded run from the other runs of the study, such as its width.
    progress : Progress
        Called with the name of a stage, the number of its steps just done, and that of all its steps
        (see ``study.execution.Progress``).
    tensors : mapping of str to int, optional
        Of an array: the number of entries of each tensor by name, in order, so that the avalanche says
        where it topples (``tensors``).

    Returns
    -------
    Avalanche or Series
        An ``Avalanche`` for an array, a ``Series`` for files.

    Raises
    ------
    InputError
        For a gradient that cannot be measured; files that do not exist, cannot be read or are not
        alike; an option out of range, or one for files that is given with an array; or a study that
        holds this run already.
    StudyError
        If the study cannot be written.
    """
    probe = Probe(graph, alpha=alpha, quantile=quantile, max_steps=max_steps, seed=seed)
    if not _are_files(gradient):
        of_files = {
            "differences": differences, "match": match, "sample": sample, "nulls": nulls, "draws": draws,
            "out": out, "labels": labels, "progress": progress,
        }  # fmt: skip
        _refuse_options_of_files(of_files)
        return probe.measure(gradient, tensors=tensors)  # type: ignore[arg-type]
    require(tensors is None, "tensors are those of an array, and the gradient is in files; leave it out")
    if isinstance(match, str):
        raise InputError(f"match is {match!r}; a list of patterns is needed, such as [{match!r}]")
    rungs = NULLS if nulls is None else checked_rungs(nulls)
    require(bool(rungs) or draws is None, "draws is given without nulls; leave it out, or choose nulls")
    require(out is not None or not labels, "labels tell recorded runs apart; the study out is needed")
    paths = [gradient] if isinstance(gradient, str | os.PathLike) else gradient
    saved = open_gradients(
        [Path(path) for path in paths],  # type: ignore[arg-type]
        match=match, differences=differences, sample=sample, seed=seed,
    )  # fmt: skip
    n_draws = (DRAWS_OF_ONE if len(saved) == 1 else 1) if draws is None else draws
    require_count("draws", n_draws, 1)
    configs = _configs(saved, probe, rungs, labels)
    if out is not None:
        _check_free(Path(out), configs)
    measurements = tuple(_measured(saved, probe, rungs, n_draws, progress))
    if out is not None:
        with open_study(out, create=True) as study:
            study.write(_records(measurements, configs))
    return Series(
        measurements, probe, saved.n_parameters, saved.paths, saved.differences, saved.match,
        saved.sample, saved.notes, saved.layout.left_out,
    )  # fmt: skip


def _are_files(given: object) -> bool:
    if isinstance(given, str | os.PathLike):
        return True
    return isinstance(given, list | tuple) and any(isinstance(one, str | os.PathLike) for one in given)


def _refuse_options_of_files(given: Mapping[str, object]) -> None:
    # By identity: sample=0 equals False, and was given all the same.
    unset = (None, False, (), silent)
    names = [name for name, value in given.items() if not any(value is one for one in unset)]
    if names:
        raise InputError(
            f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} for gradients in files, and the "
            "gradient is an array; give a path, or leave the option out"
        )


def _measured(
    saved: SavedGradients,
    probe: Probe,
    rungs: Sequence[str],
    n_draws: int,
    progress: Progress,
) -> Iterator[Measurement]:
    """Measure every gradient, and surrogates of each, drawn for a step independently of other steps."""
    n = saved.n_parameters
    total = len(saved) * (1 + len(rungs) * n_draws)

    def avalanche(gradient: Gradient) -> RecordedAvalanche:
        found = RecordedAvalanche.of(own.measure(gradient))
        progress("measuring", 1, total)
        return found

    try:
        with _named(str(saved.paths[0])):
            own = replace(probe, graph=probe.graph_on(n))
        for step, source, gradient in saved:
            seeds = [seed_at(probe.seed, step, draw) for draw in range(n_draws)]
            nulls = {}
            with _named(source):
                real = avalanche(gradient)
                for rung in rungs:
                    drawn = (surrogate(rung, gradient, saved.tensors, seed=seed) for seed in seeds)
                    nulls[rung] = Null.of(real, [avalanche(vector) for vector in drawn], n)
            yield Measurement(source, step, real, real.size / n, _norm(gradient), nulls)
    except MemoryError:
        raise InputError(
            f"there is not enough memory for a graph of {n} entries; measure fewer with sample"
        ) from None


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Name the file in an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _norm(gradient: Gradient) -> float:
    # The square of a double may be infinite or 0 although the norm is neither.
    largest = float(max(gradient.max(), -gradient.min())) or 1.0
    unit = largest if gradient.dtype == np.float64 else 1.0
    scaled = gradient / unit
    return unit * float(np.sqrt(np.einsum("i,i->", scaled, scaled, dtype=np.float64)))


def _configs(
    saved: SavedGradients, probe: Probe, rungs: Sequence[str], labels: Mapping[str, object] | None
) -> dict[str, dict[str, object]]:
    """Return the configurations under which a series and its nulls are recorded, by rung."""
    own = {
        "experiment": "files",
        "n_parameters": saved.n_parameters,
        **probe.settings(),
        "differences": saved.differences,
        "sample": saved.sample,
        "match": list(saved.match),
    }
    total = None if saved.n_parameters == saved.layout.total else saved.layout.total
    shared = labelled(own, checked_labels("labels", labels), total_parameters=total)
    return {rung: {**shared, "surrogate": rung} for rung in (REAL, *rungs)}


def _check_free(path: Path, configs: Mapping[str, Mapping[str, object]]) -> None:
    """Raise InputError if a study holds one of these configurations already."""
    with open_study(path, create=True) as study:
        held = study.keys()
    for config in configs.values():
        if config_key(config) in held:
            raise InputError(
                f"{path} holds the finished run {label_text(config)} already; to measure it again, give "
                "it another label, such as width=64, or another study"
            )


def _records(
    measured: Sequence[Measurement], configs: Mapping[str, Mapping[str, object]]
) -> list[RunRecord]:
    """Return the records of a series and its nulls, of which the first draw is recorded."""
    found = []
    for rung, config in configs.items():
        snapshots = {
            one.step: one.avalanche.measured() | {"gradient_norm": one.gradient_norm}
            if rung == REAL
            else one.nulls[rung].draws[0].measured()
            for one in measured
        }
        found.append(RunRecord.of_snapshots(config, None, snapshots))
    return found
