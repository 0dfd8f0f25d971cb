"""A probe on an optimizer: the hook that measures its steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch

from gradquake.avalanche.surrogates import REAL
from gradquake.errors import InputError, RunTakenError, StudyError, counted
from gradquake.study.schema import PATIENCE
from gradquake.torch.beside import Beside
from gradquake.torch.ending import write_at_exit
from gradquake.torch.gradients import scaling
from gradquake.torch.guest import Complaints, Gaps, nulls_failed, reason, step_failed, tell
from gradquake.torch.measurement import Values
from gradquake.torch.schedules import Schedule
from gradquake.torch.track import Track
from gradquake.torch.updates import FlatUpdate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Quake"]

Result = TypeVar("Result")

# The positional and the named arguments of ``optimizer.step``.
Arguments = tuple[tuple[object, ...], dict[str, object]]


class Quake:
    """A probe on an optimizer; made by ``attach``.

    Attributes
    ----------
    config : dict
        The configuration under which the run is recorded; that of the gradient if ``field`` is "both".
    n_parameters : int
        N, the number of entries that are measured.
    step : int
        The number of steps that the optimizer has made.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        config: dict[str, Any],
        chosen: Schedule,
        tracks: Sequence[Track],
        complaints: Complaints,
        *,
        step: int,
        when_behind: str | None,
    ) -> None:
        self.config = config
        self.n_parameters = tracks[0].vector.n_parameters
        self._first = self.step = step
        self._gaps = Gaps()
        self._schedule, self._tracks, self._complaints = chosen, tuple(tracks), complaints
        self._inline = config["alpha_train"] > 0
        self._journals = {track.field: track.journal for track in tracks}
        self._recorder = tracks[0].recorder
        self._beside: Beside | None = None
        self._left_out = 0
        if when_behind is not None and tracks[0].measurement is not None:
            self._beside = Beside(tracks, self._gaps, complaints, skips=when_behind == "skip")
        # The step whose update is to be read after it.
        self._held: int | None = None
        self._finished: bool | None = None
        self._handles: list[Any] = [optimizer.register_step_pre_hook(self._before_step)]
        if any(track.field == "update" for track in tracks):
            self._handles.append(optimizer.register_step_post_hook(self._after_step))
        write_at_exit(self._at_exit)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, such as of a model that holds the probe: it is not attached."""
        return {**self.__dict__, "_handles": [], "_schedule": None, "_tracks": (), "_beside": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach(finished=kind is None)

    def __del__(self) -> None:
        # The probe was not detached, and is collected with its optimizer.
        with contextlib.suppress(Exception):
            if self.attached and not self._recorder.forked:
                self._settle()
                self._say_if_nothing_was_measured()
                for journal in self._journals.values():
                    journal.let_go()

    def __repr__(self) -> str:
        state = "attached" if self.attached else "not attached"
        return f"Quake(N={self.n_parameters}, step={self.step}, {state})"

    @property
    def attached(self) -> bool:
        """Whether steps are still measured."""
        return bool(self._handles)

    @property
    def latest(self) -> Values:
        """The newest snapshot by name, with its ``step``; empty before the first one.

        That of the gradient if ``field`` is "both". Like all results, it waits for the measurement that
        is under way.
        """
        self._settle()
        return self._recorder.latest

    @property
    def skipped(self) -> int:
        """The number of scheduled steps that could not be measured; a warning says why."""
        self._settle()
        return self._gaps.steps

    @property
    def left_out(self) -> int:
        """The number of scheduled steps that ``when_behind="skip"`` left out."""
        return self._left_out if self._beside is None else self._beside.left_out

    @property
    def dataset(self) -> xr.Dataset:
        """The measurements so far, as a Dataset of one run (see ``gradquake.study.recording``)."""
        return self.dataset_of(REAL)

    def dataset_of(self, rung: str, field: str | None = None) -> xr.Dataset:
        """Return the measurements of a null so far, as ``dataset`` does for the run.

        Parameters
        ----------
        rung : str
            The name of the null, or "real".
        field : str, optional
            "gradient" or "update"; by default the first of those that are measured.

        Raises
        ------
        InputError
            If this null or this field is not measured.
        """
        chosen = next(iter(self._journals)) if field is None else field
        if chosen not in self._journals:
            raise InputError(f"the field is {field!r}; measured are {', '.join(self._journals)}")
        names = self._journals[chosen].surrogates
        if rung not in names:
            raise InputError(f"the null is {rung!r}; measured are {', '.join(names)}")
        self._settle()
        return self._journals[chosen].dataset_of(rung)

    def log(self, /, **outcomes: Any) -> None:
        """Keep outcomes with the newest snapshot: ``loss``, ``accuracy``, or any other number.

        A snapshot keeps the first value of each name that is logged from its step until the next
        snapshot. Later values only tell when ``accuracy`` first reached ``grokked_at``. Values that are
        logged before the first snapshot go to the first one. A value that is not a number, or has the
        name of something that gradquake measures itself, is left out; a warning says so once for each
        name.

        Parameters
        ----------
        **outcomes : float or one-element tensor

        Raises
        ------
        InputError
            With ``errors="raise"``, for an outcome that would be left out.
        """
        if not self.attached:
            error = InputError("the probe is detached; log outcomes before detach()")
            for name in outcomes:
                self._complaints.add(f"log {name}", f"{name} was not kept: {error}", error)
            return
        try:
            if self._beside is not None:
                self._beside.collect()
            for track in self._tracks:
                found = track.recorder.read_outcomes(outcomes)
                track.recorder.add_outcomes(found, self.step - 1)
                track.recorder.deliver()
            self._tell_of_the_journals()
        except Exception as error:
            self._complaints.add("log", f"an outcome was not kept: {reason(error)}", error)

    def detach(self, *, finished: bool = True) -> None:
        """Let go of the model and the optimizer, and write the rest of the measurements.

        If the study cannot be written, a warning says so, all measurements are kept in memory, and a
        second call tries again.

        Parameters
        ----------
        finished : bool
            Whether the run is complete. Otherwise it stays unfinished in the study, to be continued.

        Raises
        ------
        StudyError
            With ``errors="raise"``, if the study cannot be written.
        """
        # No other measurement begins meanwhile, unless the training goes on in another thread.
        self._attempt(self._settle)
        if self._handles:
            for handle in self._handles:
                handle.remove()
            self._left_out = self.left_out
            self._handles, self._tracks, self._beside = [], (), None
            self._finished = finished
            self._attempt(lambda: self._say_what_was_not_measured(finished=finished))
        for journal in self._journals.values():
            self._attempt(partial(journal.close, finished=bool(self._finished)))
        if any(journal.taken for journal in self._journals.values()):
            self._attempt(self._tell_of_the_journals)

    # The hook

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        step = self.step
        self.step += 1
        self._held = None
        if self._beside is not None:
            self._guarded(step, self._beside.collect)
        changed = self._guarded(step, lambda: self._on_step(step, optimizer, args, kwargs))
        self._tell_of_the_journals()
        return changed

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _after_step(self, *_: object) -> None:
        step, self._held = self._held, None
        if step is not None:
            track = self._tracks[-1]
            self._guarded(step, lambda: self._measure(track, step, recorded=True), inline=False)
            self._tell_of_the_journals()

    def _on_step(
        self, step: int, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments | None:
        """Measure a step, and return its arguments if they change: with a closure that is measured."""
        found_inf, scale = scaling(optimizer)
        # After an overflow a scaler still steps a fused optimizer, which then does nothing.
        if found_inf is not None and float(found_inf) > 0:
            self.step -= 1
            return None
        scheduled = bool(self._schedule(step))
        # A schedule may have detached the probe.
        if not self.attached or not (scheduled or self._inline):
            return None
        if scheduled and self._recorder.writes:
            self._tell_of_newcomers(step, optimizer)
        if scheduled and self._beside is not None:
            self._guarded(step, self._beside.begin)
        if scheduled:
            self._guarded(step, partial(self._hold, step), inline=False)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if self._tracks[0].field == "update":
            return None
        if closure is None:
            self._measure(self._tracks[0], step, scheduled, scale)
            return None
        measured = self._measured_closure(step, closure, scheduled=scheduled)
        if len(args) > 1:
            return (args[0], measured, *args[2:]), kwargs
        return args, {**kwargs, "closure": measured}

    def _measured_closure(
        self, step: int, closure: Callable[[], Any], *, scheduled: bool
    ) -> Callable[[], Any]:
        evaluations = 0

        def measured() -> Any:
            nonlocal evaluations
            loss = closure()
            evaluations += 1
            if self.attached and (evaluations == 1 or self._inline):
                recorded = scheduled and evaluations == 1
                self._guarded(step, lambda: self._measure(self._tracks[0], step, recorded))
            return loss

        return measured

    def _hold(self, step: int) -> None:
        """Keep the parameters before a step whose update is measured."""
        # Updates come last.
        track = self._tracks[-1]
        if not isinstance(track.vector, FlatUpdate):
            return
        self._held = step
        if self._beside is not None:
            self._beside.hold(track.vector)
        elif track.measurement is not None:
            track.vector.hold()
        elif track.vector.gathers:
            track.vector.take_part()

    def _measure(
        self, track: Track, step: int, recorded: bool, scale: torch.Tensor | None = None
    ) -> None:
        measurement = track.measurement
        if self._beside is not None:
            self._beside.copy(track, step, scale, self)
            return
        if measurement is None:
            if track.vector.gathers:
                track.vector.take_part()
            return
        if not measurement.read(scale):
            self._gaps.skip(step, "no parameter had a gradient")
            return
        inline = self._inline and track.field == "gradient"
        try:
            values, relaxed = measurement.avalanche()
        except InputError as error:
            self._gaps.skip(step, str(error))
            if inline:
                said = f"step {step} was not relaxed: {error}; the optimizer gets the gradient unchanged"
                self._complaints.add("relaxation", said, error)
            return
        if inline:
            measurement.write(relaxed, scale)
        if recorded and track.recorder.records:
            nulls, failed = measurement.all_nulls(step)
            nulls_failed(step, failed, self._gaps, self._complaints)
            track.recorder.keep(step, values, nulls)
            track.recorder.deliver()

    # Failures

    def _settle(self) -> None:
        """Wait for the measurement that is under way."""
        if self._beside is not None:
            self._beside.settle()

    def _guarded(
        self, step: int, work: Callable[[], Result], *, inline: bool | None = None
    ) -> Result | None:
        """Do the work of a step; an error does not end the training, unless it trains in-line."""
        try:
            return work()
        except Exception as error:
            if self._inline if inline is None else inline:
                raise
            step_failed(step, error, self._gaps, self._complaints)
            return None

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            if self._complaints.raises:
                raise
            again = isinstance(error, StudyError) and not isinstance(error, RunTakenError)
            tell(reason(error) + ("; detach() tries again" if again else ""))

    def _tell_of_the_journals(self) -> None:
        for journal in self._journals.values():
            try:
                failure = journal.failure()
            except Exception as error:
                failure = reason(error)
            if failure and self._complaints.raises:
                raise StudyError(failure)
            if failure:
                tell(failure)

    def _tell_of_newcomers(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Tell once that the optimizer trains more parameters than when the probe was attached."""
        if "newcomers" not in self._complaints and (
            found := self._tracks[0].vector.newcomers(optimizer)
        ):
            self._complaints.once(
                "newcomers",
                f"at step {step} the optimizer trains {counted(found, 'parameter')} more than when the "
                "probe was attached; only the first ones are measured: detach, and attach again to "
                "measure all of them, as a run of its own",
            )

    def _say_what_was_not_measured(self, *, finished: bool) -> None:
        if finished:
            self._say_if_nothing_was_measured()
        self._gaps.tell(told="step" in self._complaints)

    def _at_exit(self) -> None:
        if self.attached and not self._recorder.forked:
            if self._beside is not None:
                self._beside.settle(PATIENCE)
            self._say_what_was_not_measured(finished=True)

    def _say_if_nothing_was_measured(self) -> None:
        if not self._recorder.writes or self._recorder.forked or self.latest or self.skipped:
            return
        self._gaps.tell_of_no_snapshot(self.step - self._first)
