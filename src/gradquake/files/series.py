"""A series of gradient files, or of checkpoints, measured beside the nulls of every gradient."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradquake.avalanche.cascade import Avalanche, Gradient
from gradquake.avalanche.probe import Probe, fixed_sample
from gradquake.avalanche.surrogates import REAL, seed_at, surrogate
from gradquake.errors import InputError, printable, require, require_count
from gradquake.files import gradients
from gradquake.files.steps import HINT
from gradquake.study import recording
from gradquake.study.configuration import config_key, label_text
from gradquake.study.recording import RunRecord
from gradquake.study.study import Study


@dataclass(frozen=True)
class Outcome:
    """What a recording keeps of one avalanche; the fields of ``Avalanche``."""

    threshold: float
    size: int
    duration: int
    area: int
    peak: int
    truncated: bool
    deviation: float

    @classmethod
    def of(cls, avalanche: Avalanche) -> Outcome:
        """Return an avalanche without its relaxed gradient."""
        return cls(**{name: getattr(avalanche, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Null:
    """Surrogates of one gradient on one rung.

    Attributes
    ----------
    draws : tuple of Outcome
        One of each surrogate drawn.
    low, high : float or None
        The range that holds 95 % of their sizes; None of a single draw.
    p_value : float or None
        (r + 1) / (draws + 1), r of the draws being at least as large as the gradient's own avalanche
        (North, Curtis and Sham, Am. J. Hum. Genet. 71, 439 (2002)); None of a single draw.
    """

    draws: tuple[Outcome, ...]
    low: float | None
    high: float | None
    p_value: float | None

    @property
    def mean(self) -> float:
        """The mean size."""
        return float(np.mean([draw.size for draw in self.draws]))


@dataclass(frozen=True)
class Measurement:
    """One gradient of a series, measured.

    Attributes
    ----------
    source : str
        The file, or the two whose difference it is.
    step : int
    real : Outcome
    gradient_norm : float
    nulls : mapping of str to Null
        By rung.
    """

    source: str
    step: int
    real: Outcome
    gradient_norm: float
    nulls: Mapping[str, Null]


@dataclass(frozen=True)
class Series:
    """Gradients in files, ready to be measured; made by ``open_series``.

    Attributes
    ----------
    paths : tuple of Path
    steps : array of int64
        Of each gradient, ascending; of a difference, the later file's.
    layout : GradientFile
        What each file holds.
    match : tuple of str
    differences : bool
    sample : int or None
    positions : array of int64 or None
        The entries that are measured; None for all.
    notes : tuple of str
        What a reader must know of how the files were taken.
    """

    paths: tuple[Path, ...]
    steps: NDArray[np.int64] = field(repr=False)
    layout: gradients.GradientFile = field(repr=False)
    match: tuple[str, ...] = ()
    differences: bool = False
    sample: int | None = None
    positions: NDArray[np.int64] | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.steps.size

    @property
    def n_parameters(self) -> int:
        """How many entries are measured: N."""
        return self.layout.size if self.positions is None else self.positions.size

    @property
    def tensors(self) -> tuple[int, ...]:
        """How many entries are measured of each tensor, of which any are."""
        lengths = np.array([tensor.size for tensor in self.layout.tensors])
        if self.positions is not None:
            lengths = np.diff(np.searchsorted(self.positions, np.cumsum([0, *lengths])))
        return tuple(lengths[lengths > 0].tolist())

    def gradients(self) -> Iterator[tuple[str, Gradient]]:
        """Read one gradient after the other, each with its name, into the same memory."""
        vectors = [np.empty(self.n_parameters, self.layout.dtype) for _ in range(1 + self.differences)]
        if not self.differences:
            for path in self.paths:
                self._read(path, vectors[0])
                yield str(path), vectors[0]
            return
        earlier, later = vectors
        self._read(self.paths[0], earlier)
        for before, after in pairwise(self.paths):
            self._read(after, later)
            with np.errstate(over="ignore"):  # the probe says it better
                np.subtract(later, earlier, out=earlier)
            yield f"{after} minus {before}", earlier
            earlier, later = later, earlier

    def _read(self, path: Path, vector: Gradient) -> None:
        gradients.read(path, self.layout, vector, self.positions)


def open_series(
    paths: Sequence[Path],
    *,
    match: Sequence[str] = (),
    differences: bool = False,
    sample: int | None = None,
    seed: int = 0,
) -> Series:
    """Find files and check that they are alike, without reading their data.

    Parameters
    ----------
    paths : sequence of Path
        Files in any order, or one folder of them (see ``files.find``).
    match : sequence of str
        Only tensors whose names fit one of these patterns.
    differences : bool
        Take the files as checkpoints, and measure later minus earlier of each two that follow one
        another, in float32 or, where a tensor is stored so, float64.
    sample : int, optional
        Measure a random subset of this many entries, the same of every file; all where there are
        fewer.
    seed : int
        Of the sample.

    Raises
    ------
    InputError
        For files that are not there, cannot be read or are not alike; a sample below 1; or, with
        ``differences``, a single file, or files whose order their names leave open.
    """
    require_count("seed", seed, 0)
    if sample is not None:
        require_count("sample", sample, 1)
    order = gradients.find(paths)
    found = order.paths
    if differences and len(found) < 2:
        raise InputError(f"{found[0]} is a single checkpoint; a difference needs at least two")
    if differences and order.doubt:
        raise InputError(f"{order.doubt}; --differences needs to know which file is later: {HINT}")
    layout = gradients.describe(found[0], match, checkpoint=differences)
    for path in found[1:]:
        gradients.check_alike(layout, gradients.describe(path, match, checkpoint=differences))
    hints = gradients.hints(found[0], layout.left_out, checkpoint=differences)
    notes = [printable(note) for note in (order.note, *hints) if note]
    if layout.left_out:
        more = f" and {len(layout.left_out) - 5} more" if len(layout.left_out) > 5 else ""
        notes.append(f"left out: {', '.join(layout.left_out[:5])}{more}")
    positions = None
    if sample is not None and sample < layout.size:
        positions = fixed_sample(layout.size, sample, seed)
        notes.append(f"{sample} of {layout.size} entries, drawn with seed {seed}")
    return Series(
        found, order.steps[1:] if differences else order.steps, layout, tuple(match), differences,
        sample, positions, tuple(notes),
    )  # fmt: skip


def measure(
    series: Series,
    probe: Probe,
    rungs: Sequence[str] = (),
    draws: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[Measurement]:
    """Measure every gradient of a series, and surrogates of each.

    Parameters
    ----------
    series : Series
    probe : Probe
        Its seed draws the surrogates too, those of a step independently of the other steps.
    rungs : sequence of str
        Names in ``surrogates.RUNGS``.
    draws : int
        Surrogates of each gradient on each rung, at least 1.
    progress : callable, optional
        Called with 1 for every avalanche measured.

    Raises
    ------
    InputError
        For a gradient that cannot be measured, naming its file; a number of entries that the topology
        cannot have, or too many for the memory.
    """
    require_count("draws", draws, 1)

    def outcome(gradient: Gradient) -> Outcome:
        found = Outcome.of(own.measure(gradient))
        if progress is not None:
            progress(1)
        return found

    measured = []
    try:
        try:
            own = replace(probe, graph=probe.graph_on(series.n_parameters))
        except InputError as error:
            raise InputError(f"{series.paths[0]}: {error}") from None
        for (source, gradient), step in zip(series.gradients(), series.steps.tolist(), strict=True):
            seeds = [seed_at(probe.seed, step, draw) for draw in range(draws)]
            nulls = {}
            try:
                real = outcome(gradient)
                for rung in rungs:
                    drawn = (surrogate(rung, gradient, series.tensors, seed=seed) for seed in seeds)
                    nulls[rung] = _null(real, [outcome(vector) for vector in drawn])
            except InputError as error:
                raise InputError(f"{source}: {error}") from None
            measured.append(Measurement(source, step, real, _norm(gradient), nulls))
    except MemoryError:
        raise InputError(
            f"there is not enough memory for a graph of {series.n_parameters} entries; --sample takes "
            "fewer"
        ) from None
    return measured


def default_draws(series: Series) -> int:
    """Return 1 for a series, and 20 for a single gradient: no other step tells how a null scatters."""
    return 20 if len(series) == 1 else 1


def _norm(gradient: Gradient) -> float:
    # The square of a double may be infinite or 0 where the norm is neither.
    largest = float(max(gradient.max(), -gradient.min())) or 1.0
    unit = largest if gradient.dtype == np.float64 else 1.0
    scaled = gradient / unit
    return unit * float(np.sqrt(np.einsum("i,i->", scaled, scaled, dtype=np.float64)))


def _null(real: Outcome, draws: Sequence[Outcome]) -> Null:
    sizes = np.array([draw.size for draw in draws])
    if sizes.size == 1:
        return Null(tuple(draws), None, None, None)
    low, high = np.quantile(sizes, [0.025, 0.975]).tolist()
    p_value = (int((sizes >= real.size).sum()) + 1) / (sizes.size + 1)
    return Null(tuple(draws), low, high, p_value)


def configs(
    series: Series, probe: Probe, rungs: Sequence[str], labels: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return under "real" and each rung the configuration under which a series is recorded.

    Raises
    ------
    InputError
        For a label that is not text or a number, or has the name of something recorded.
    """
    own = recording.labels("--run", labels)
    require("seed" not in own, "--run names seed; --seed sets it")
    total = series.layout.total
    whole = {} if series.n_parameters == total else {"total_parameters": total}
    shared = {
        "experiment": "files",
        "n_parameters": series.n_parameters,
        **probe.settings(),
        "differences": series.differences,
        "sample": series.sample,
        "match": list(series.match),
        "labels": {**whole, **own},
    }
    return {rung: {**shared, "surrogate": rung} for rung in (REAL, *rungs)}


def check_free(study: Study, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise InputError where a study holds one of these configurations already."""
    held = study.keys()
    for config in wanted.values():
        if config_key(config) in held:
            raise InputError(
                f"{study.path} holds the finished run {label_text(config)} already; to "
                f"measure it "
                "again, use another label, such as --run width=64, or another study"
            )


def records(measured: Sequence[Measurement], wanted: Mapping[str, Mapping[str, Any]]) -> list[RunRecord]:
    """Return the records of a measured series, the first draw of each null, by ``configs``."""
    found = []
    for rung, config in wanted.items():
        snapshots = {
            one.step: asdict(one.real) | {"gradient_norm": one.gradient_norm}
            if rung == REAL
            else asdict(one.nulls[rung].draws[0])
            for one in measured
        }
        found.append(RunRecord.of_snapshots(config, None, snapshots))
    return found


def _sources(series: Series) -> tuple[str, str]:
    """Return what the paths share, with a * for the rest, and a line for each if the rest is no step."""
    paths = [printable(str(path)) for path in series.paths]
    start = re.sub("[0-9]+$", "", _shared_start(paths))
    rest = [path[len(start) :] for path in paths]
    end = re.sub("[0-9]+$", "", _shared_start([path[::-1] for path in rest]))[::-1]
    rows = paths[1:] if series.differences else paths
    told = all(
        re.fullmatch(f"0*{step}", path[len(start) : len(path) - len(end)])
        for path, step in zip(rows, series.steps.tolist(), strict=True)
    )
    lines = [f"\nstep {step}: {path}" for step, path in zip(series.steps.tolist(), rows, strict=True)]
    return f"{start}*{end}", "" if told else "".join(lines)


def _shared_start(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    same = takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False))
    return "".join(character for character, _ in same)
