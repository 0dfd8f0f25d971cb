"""Send scalars to the loggers that the user already has."""

from __future__ import annotations

import atexit
import inspect
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from gradquake.errors import InputError, a_type
from gradquake.torch.guest import reason, tell

__all__ = ["Send", "WandbRows", "sender"]

Send = Callable[[Mapping[str, float], int], object]

# The horizontal axis of gradquake's charts in W&B.
STEP = "gradquake/step"


def sender(logger: Any) -> Send:
    """Return a function that writes scalars at a step to a logger. The logger is known by its methods.

    Parameters
    ----------
    logger : object
        A TensorBoard ``SummaryWriter``; a Weights & Biases run, or the ``wandb`` module once it has
        one; an ``Accelerator`` once it has trackers; anything with ``log_metrics``, ``log_dict`` or
        ``log`` of (scalars, step=), such as the ``mlflow`` module, a Lightning logger, Fabric or
        Trackio; or a function of (scalars, step).

    Raises
    ------
    InputError
        If the logger has none of these methods, or has no run or trackers yet.
    """
    if hasattr(logger, "add_scalar"):
        return lambda scalars, step: [logger.add_scalar(n, v, step) for n, v in scalars.items()]
    trackers = getattr(logger, "trackers", None)
    if trackers is not None:
        return _to_all(trackers)
    # One of Accelerate's trackers holds the run.
    run = getattr(logger, "tracker", logger)
    if hasattr(run, "define_metric"):
        return _rows_of(run).add
    methods = (getattr(logger, name, None) for name in ("log_metrics", "log_dict", "log"))
    for method in filter(_takes_step, methods):
        return lambda scalars, step: method(dict(scalars), step=step)
    if callable(logger):
        return lambda scalars, step: logger(scalars, step)
    raise InputError(
        f"a logger is {a_type(logger)}; a SummaryWriter, a wandb run, an object with log_metrics or log "
        "of (scalars, step=) such as mlflow or a Lightning logger, or a function of (scalars, step) is "
        "needed"
    )


def _to_all(trackers: Sequence[Any]) -> Send:
    if not trackers:
        raise InputError("a logger is an Accelerator without trackers; call its init_trackers first")
    sends = [sender(tracker) for tracker in trackers]
    return lambda scalars, step: [send(scalars, step) for send in sends]


def _takes_step(method: Any) -> TypeGuard[Callable[..., object]]:
    try:
        return "step" in inspect.signature(method).parameters
    except (TypeError, ValueError):
        return False


class WandbRows:
    """Writes rows into a W&B run without taking a step from the user's own rows.

    In W&B every row has its own step. A row is dropped if its step is not larger than the last one, and
    a row that is not committed is overwritten by the next. So a row between two rows of the user can
    cost the user the second one. Here rows wait for the user's next ``log``, which shows the free steps:
    ``log(step=20)`` after ``log(step=10)`` leaves 11 to 19, and ``log`` without ``step=`` takes any
    step. A single waiting row joins the user's row. The rest is written when the run finishes.

    Parameters
    ----------
    run : wandb.Run
        Its ``log`` and the method that finishes it are replaced: the new ones write the waiting rows,
        then call the old ones.
    """

    def __init__(self, run: Any) -> None:
        # At the end of a `with` block, a run calls only its `_finish`.
        finish = "_finish" if hasattr(run, "_finish") else "finish"
        self._run, self._log, self._finish = run, run.log, getattr(run, finish)
        self._waiting: list[dict[str, float]] = []
        # Whether the row that W&B has not closed yet holds values of the user, and a row of ours.
        self._open = self._joined = False
        self._numbered = self._told = False
        self._lock = threading.RLock()
        run.define_metric("gradquake/*", step_metric=STEP)
        run.log = self.log
        setattr(run, finish, self.finish)
        wandb = sys.modules["wandb"]
        if wandb.run is run:
            wandb.log = self.log  # type: ignore[attr-defined]
        atexit.register(self._guarded, self._write_rest)

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        """Add scalars to the row of this step, or begin one."""
        with self._lock:
            newest = self._waiting[-1] if self._waiting else {}
            if newest.get(STEP) == step and newest.keys().isdisjoint(scalars):
                newest |= scalars
            else:
                self._waiting.append({**scalars, STEP: step})

    def log(
        self, data: Any, step: int | None = None, commit: bool | None = None, **options: Any
    ) -> None:
        """Call ``run.log``, and write waiting rows before, in, and after the user's row."""
        with self._lock:
            closes = step is None if commit is None else commit
            if step is None:
                self._guarded(self._join, closes)
            else:
                self._guarded(self._write_before, step)
            self._log(data, step=step, commit=commit, **options)
            self._numbered |= step is not None
            self._open, self._joined = not closes, self._joined and not closes
            if closes and not self._numbered:
                self._guarded(self._write_after)

    def finish(self, *args: Any, **options: Any) -> None:
        """Write the waiting rows, and finish the run."""
        atexit.unregister(self._guarded)
        self._guarded(self._write_rest)
        self._finish(*args, **options)

    def _join(self, closes: bool) -> None:
        """Put a single waiting row into the row that the user's values will close."""
        if closes and len(self._waiting) == 1 and not self._joined:
            self._log(self._waiting.pop(), commit=False)

    def _write_before(self, step: int) -> None:
        """Give waiting rows the free steps before the user's next row, which the last one may join."""
        if not self._waiting:
            return
        now = self._run.step
        count = len(self._waiting) - (self._waiting[-1][STEP] >= step)
        count = max(0, min(count, step - now - 1))
        for left in range(count, 0, -1):
            row = self._waiting.pop(0)
            # Its own step, if this is free and leaves enough steps for the other rows.
            now = max(now + 1, min(int(row[STEP]), step - left))
            self._log(row, step=now)
        self._joined = self._joined and step <= now
        if len(self._waiting) == 1 and step >= now and not self._joined:
            self._log(self._waiting.pop(), step=step)
            self._joined = True

    def _write_after(self) -> None:
        """Write rows after one that the user closed; a user who gives no steps cannot lose any."""
        while self._waiting:
            self._log(self._waiting.pop(0), commit=True)

    def _write_rest(self) -> None:
        with self._lock:
            # A row that the user left open stays as it is.
            now = self._run.step - (not self._open) if self._waiting else 0
            while self._waiting:
                row = self._waiting.pop(0)
                now = max(now + 1, int(row[STEP]))
                self._log(row, step=now, commit=True)

    def _guarded(self, write: Callable[..., None], *arguments: Any) -> None:
        """Write rows; an error does not stop the user's call."""
        try:
            write(*arguments)
        except Exception as error:
            if not self._told:
                self._told = True
                tell(f"W&B did not accept a row of gradquake, which is lost there: {reason(error)}")


def _rows_of(run: Any) -> WandbRows:
    """Return the rows of a run: the same object for all probes on it."""
    if inspect.ismodule(run):
        if run.run is None:
            raise InputError("a logger is the wandb module, which has no run; call wandb.init() first")
        run = run.run
    rows = getattr(run.log, "__self__", None)
    return rows if isinstance(rows, WandbRows) else WandbRows(run)
