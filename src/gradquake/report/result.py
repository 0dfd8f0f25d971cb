"""The analysis of a sweep, from a study to a result that says what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from gradquake.analysis import specifications
from gradquake.analysis.channels import SIZE
from gradquake.analysis.ladder import Attribution, Ladder, Span
from gradquake.analysis.resampling import Estimate
from gradquake.analysis.scaling import Exponent
from gradquake.analysis.statistics import STATISTICS, Statistic, check_statistic
from gradquake.analysis.transitions import Phase
from gradquake.avalanche.surrogates import SURROGATES
from gradquake.errors import InputError, a_type, require
from gradquake.report.json import (
    analysis_json,
    specifications_json,
    stability_json,
    topology_json,
    written,
)
from gradquake.report.origin import title_of
from gradquake.report.page import Chapter, fragment, page, save
from gradquake.report.parts import PARTS, Subject
from gradquake.report.reading import reading
from gradquake.report.scaling_tables import (
    fewer_scales_json,
    fewer_scales_table,
    moments_json,
    moments_table,
    slopes_table,
)
from gradquake.report.tables import (
    attribution_table,
    collapse_table,
    exponents_table,
    importance_table,
    shares_table,
    stability_table,
    timing_table,
    topologies_table,
)
from gradquake.report.text import Table, with_interval
from gradquake.scrutiny import replay
from gradquake.scrutiny.checks import check, check_beside
from gradquake.scrutiny.every_channel import in_every_channel
from gradquake.scrutiny.scrutinize import Scrutiny, beside, check_channel, scrutinize
from gradquake.scrutiny.sensitivity import specify
from gradquake.scrutiny.stability import Stability, knows_sharpness, stability
from gradquake.scrutiny.topologies import OnTopology, on_topologies
from gradquake.study.execution import Progress, silent
from gradquake.study.pools import open_executor
from gradquake.study.study import Study, open_study

if TYPE_CHECKING:
    from gradquake.report.figures import Axes

__all__ = ["VERSION", "Result", "analyze"]

# The version of docs/analyze.schema.json. A change that a program would notice raises it.
VERSION = 1

# The parts of a report that a notebook shows.
IN_NOTEBOOKS = ("reading", "dimension", "scaling")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The analysis of a sweep beside its nulls; ``print`` shows its reading.

    Attributes
    ----------
    scrutiny : Scrutiny
        Everything that was computed.
    statistics : tuple of {"max", "mean"}
        The statistics that the reading, the tables and the JSON show.
    nulls : bool
        Whether the whole ladder of nulls was asked for.
    topologies : tuple of OnTopology
        The same gradients on every topology; empty if this was not asked for.
    stability : tuple of Stability
        Learning rate times sharpness at every scale; empty if this was not asked for, or if the
        experiment does not know its sharpness.
    specifications : xarray.Dataset or None
        The specification curve; None if it was not asked for.
    """

    scrutiny: Scrutiny
    statistics: tuple[Statistic, ...] = tuple(STATISTICS)
    nulls: bool = False
    topologies: tuple[OnTopology, ...] = ()
    stability: tuple[Stability, ...] = ()
    specifications: xr.Dataset | None = None

    def exponent(self, phase: Phase, statistic: Statistic) -> Exponent:
        """Return an exponent: D of the statistic "max", gamma of "mean".

        Raises
        ------
        InputError
            For a phase other than "all", "pre" and "post", or another statistic.
        """
        return self.scrutiny.ladder.exponent("real", phase, statistic)

    def dimension(self, statistic: Statistic) -> xr.Dataset:
        """Return D(t): ``value``, ``low``, ``high`` and ``r_squared`` on ``epoch``.

        Raises
        ------
        InputError
            For another statistic.
        """
        check_statistic(statistic)
        return self.scrutiny.ladder.real.curves[statistic].dimension

    def crossing(self, statistic: Statistic) -> Estimate:
        """Return the epoch at which D(t) crosses 1 from below; its value is NaN if it does not.

        Raises
        ------
        InputError
            For another statistic.
        """
        check_statistic(statistic)
        return self.scrutiny.ladder.real.curves[statistic].crossing

    def attribution(self, phase: Span, statistic: Statistic) -> Attribution:
        """Return the parts of an exponent minus 1, or of its change for the phase "rise".

        Raises
        ------
        InputError
            For a phase other than "all", "pre", "post" and "rise", or another statistic.
        """
        return self.scrutiny.ladder.attribution(phase, statistic)

    @cached_property
    def reading(self) -> list[str]:
        """What the analysis says, in plain sentences."""
        return reading(self.scrutiny, self.statistics)

    @property
    def settings(self) -> str:
        """The settings that the runs share, as text."""
        attributes = self.scrutiny.ladder.real.dataset.attrs
        channel = self.scrutiny.ladder.real.channel
        shown = attributes | ({} if channel == SIZE else {"channel": channel})
        return f"Settings: {', '.join(f'{name}={value}' for name, value in shown.items())}"

    @cached_property
    def tables(self) -> list[Table]:
        """The results as tables of text."""
        ladder, of = self.scrutiny.ladder, self.statistics
        tables = [exponents_table(ladder, of), attribution_table(ladder, of)]
        if self.scrutiny.timing:
            tables.append(timing_table(self.scrutiny, of))
        return [*tables, *self._further_tables]

    @cached_property
    def channels(self) -> dict[str, Ladder]:
        """The same analysis in every other channel that was recorded, by channel."""
        return in_every_channel(self.scrutiny.ladder)

    @cached_property
    def _further_tables(self) -> list[Table]:
        of, tables = self.statistics, []
        if self.nulls:
            real = self.scrutiny.ladder.real
            tables.append(collapse_table({"": self.scrutiny.collapses}))
            tables += [slopes_table(real, of), fewer_scales_table(real, of)]
            tables.append(moments_table({"data": real.moments}))
        if self.topologies:
            tables.append(topologies_table({"": self.topologies}, of))
        if self.stability:
            tables.append(stability_table(self.stability))
        if self.specifications is not None:
            holds = specifications.judged(self.specifications, specifications.statements)
            tables += [shares_table(self.specifications, holds), importance_table(self.specifications)]
        return tables

    def plot(self, statistic: Statistic | None = None, ax: Axes | None = None) -> Axes:
        """Draw D(t) beside that of its nulls, and return the axes.

        Parameters
        ----------
        statistic : {"max", "mean"}, optional
            By default the first of ``statistics``.
        ax : matplotlib.axes.Axes, optional
            The axes to draw on; by default those of a new figure.

        Raises
        ------
        InputError
            For another statistic.
        """
        from gradquake.report.figures import dimensions

        chosen = self.statistics[0] if statistic is None else statistic
        nulls = self.scrutiny.ladder.nulls
        of_nulls = {rung: nulls[rung].curves for rung in ("gaussian", "permuted")}
        real = {"real": self.dimension(chosen)}
        return dimensions({rung: of[chosen].dimension for rung, of in of_nulls.items()} | real, ax)

    def to_json(self) -> str:
        """Return the result as JSON, as docs/analyze.schema.json describes it."""
        found = {
            "version": VERSION,
            "channel": self.scrutiny.ladder.real.channel,
            "reading": self.reading,
            **analysis_json(self.scrutiny, self.statistics),
        }
        if self.nulls:
            real = self.scrutiny.ladder.real
            found["fewer_scales"] = fewer_scales_json(real, self.statistics)
            found["moments"] = {phase: moments_json(of) for phase, of in real.moments.items()}
        if self.topologies:
            found["topologies"] = [topology_json(on) for on in self.topologies]
        if self.stability:
            found["stability"] = [stability_json(scale) for scale in self.stability]
        if self.specifications is not None:
            holds = specifications.judged(self.specifications, specifications.statements)
            found["sensitivity"] = specifications_json(self.specifications, holds)
        return written(found)

    def to_html(self, path: str | Path | None = None, *, commands: Sequence[str] = ()) -> str:
        """Return the result as one HTML file that needs nothing else, and write it if a path is given.

        The file shows everything that was computed, and the analysis in every other channel. It has one
        section for each entry of ``report.parts.PARTS``.

        Parameters
        ----------
        path : str or Path, optional
            The file to write.
        commands : sequence of str
            The commands that make the result again, to show them.

        Raises
        ------
        InputError
            If the file cannot be written.
        """
        subject = replace(self._subject, channels=self.channels, commands=commands)
        text = page(title_of(subject.sweep), [Chapter("", PARTS, subject)])
        if path is not None:
            save(path, text)
        return text

    @property
    def _subject(self) -> Subject:
        ladder = self.scrutiny.ladder
        return Subject(
            ladder.real.dataset,
            self.statistics,
            ladder,
            self.scrutiny,
            reading=self.reading,
            tables=self._further_tables,
        )

    def __str__(self) -> str:
        return "\n".join(self.reading)

    def __repr__(self) -> str:
        runs = self.scrutiny.ladder.real.dataset.sizes["run"]
        found = self.exponent("all", self.statistics[0])
        name = "D" if self.statistics[0] == "max" else "gamma"
        return f"<Result of {runs} runs: {name} = {with_interval(found)}>"

    def _repr_html_(self) -> str:
        parts = {name: PARTS[name] for name in IN_NOTEBOOKS}
        return fragment(parts, self._subject)


def analyze(
    study: Study | str | Path | xr.Dataset,
    /,
    *,
    nulls: bool = False,
    sensitivity: bool = False,
    statistic: Statistic | None = None,
    channel: str = SIZE,
    recorded: Mapping[str, xr.Dataset] | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
    where: Mapping[str, object] | None = None,
    **settings: Any,
) -> Result:
    """Analyze a sweep beside its nulls: exponents, D(t) and its crossing of 1.

    The gradients of an experiment of gradquake are computed again, bit for bit, and the nulls are
    measured on them. Of other runs, the nulls are used that were recorded with them.

    Parameters
    ----------
    study : Study, path or xarray.Dataset
        A study, or the path of its file; or one sweep, as ``Study.select`` returns it.
    nulls : bool
        Measure the whole ladder of nulls, every topology, and of XOR runs learning rate times sharpness;
        by default the Gaussian and the permuted null.
    sensitivity : bool
        Measure the specification curve: the sweep under every choice of measuring it.
    statistic : {"max", "mean"}, optional
        The statistic to show; by default both.
    channel : str
        The number whose growth with N is fitted, in the place of the size: "duration", "area", "peak",
        any other that was recorded at every snapshot, "size_per_step" (s/T), "size_per_node" (s/a), or a
        channel of an observable, such as "kick_max". An observable that was not recorded is measured on
        the gradients computed again. The specification curve measures sizes only.
    recorded : mapping, optional
        The nulls that were recorded with a Dataset, by name, as ``Study.with_nulls`` returns them.
    jobs : int, optional
        The number of processes; by default one for each core. The results do not depend on it.
    scheduler : str, optional
        The address of a Dask scheduler whose workers to use instead, as "tcp://host:8786".
    progress : Progress
        Called with the name of a stage, the number of its steps just done, and that of all its steps
        (see ``study.execution.Progress``).
    where : mapping, optional
        The settings that choose one sweep of a study, for example ``{"task": "and"}``.
    **settings
        Further ones, if their names are not those of the options above: ``task="and", alpha_train=0``.

    Raises
    ------
    InputError
        For another statistic or channel, fewer than three network sizes, or runs without nulls whose
        gradients cannot be computed again, because their experiment cannot, or is unknown here.
    StudyError
        If the study cannot be read, or the settings fit no sweep or several.
    """
    if statistic is not None:
        check_statistic(statistic)
    require(
        channel == SIZE or not sensitivity,
        "a channel and sensitivity were given; the specification curve measures sizes: leave out one",
    )
    sweep, beside_it = _chosen(study, recorded, {**(where or {}), **settings})
    again = replay.can_replay(sweep)
    if again or sensitivity:
        check(sweep, sensitivity=sensitivity)
        check_channel(channel)
    else:
        if nulls and not beside_it.keys() >= SURROGATES.keys():
            replay.check_known(sweep)
        check_beside(sweep, beside_it)
    rungs = tuple(SURROGATES) if nulls else ("gaussian", "permuted")
    with open_executor(jobs, scheduler) as executor:
        if again:
            progress("nulls", 0, None)
            scrutiny = scrutinize(sweep, rungs, executor, channel=channel, progress=progress)
        else:
            progress("analysis", 0, None)
            of_rungs = {rung: beside_it[rung] for rung in rungs if rung in beside_it}
            scrutiny = beside(sweep, of_rungs, executor, channel=channel, progress=progress)
        topologies: tuple[OnTopology, ...] = ()
        if nulls and again:
            progress("topologies", 0, None)
            topologies = tuple(on_topologies(sweep, executor, channel=channel))
        stable: tuple[Stability, ...] = ()
        if nulls and knows_sharpness(sweep):
            progress("stability", 0, None)
            stable = tuple(stability(sweep, executor))
        table = None
        if sensitivity:
            progress("choices", 0, None)
            table = specify([sweep], executor)
    shown = tuple(STATISTICS) if statistic is None else (statistic,)
    return Result(scrutiny, shown, nulls, topologies, stable, table)


def _chosen(
    study: Study | str | Path | xr.Dataset,
    recorded: Mapping[str, xr.Dataset] | None,
    settings: Mapping[str, object],
) -> tuple[xr.Dataset, Mapping[str, xr.Dataset]]:
    """Return the sweep to analyze, and the nulls that were recorded with it."""
    if isinstance(study, xr.Dataset):
        if settings:
            raise InputError(
                f"a Dataset and the settings {', '.join(settings)} were given; settings choose a sweep "
                "of a study, and a Dataset is one sweep"
            )
        return study, recorded or {}
    require(recorded is None, "recorded nulls were given beside a study, which has its own; omit them")
    if isinstance(study, Study):
        return study.with_nulls(**settings)
    if not isinstance(study, str | Path):
        raise InputError(f"study is {a_type(study)}; a Study, the path of one, or a Dataset is needed")
    with open_study(study) as opened:
        return opened.with_nulls(**settings)
