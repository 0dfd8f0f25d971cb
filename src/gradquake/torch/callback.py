"""The common part of the callbacks for frameworks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from gradquake.errors import InputError
from gradquake.torch.attaching import attach
from gradquake.torch.guest import reason, tell
from gradquake.torch.quake import Quake
from gradquake.torch.recorder import check_outcome

__all__ = ["Attachment"]


class Attachment:
    """The probe of a callback, attached for one training after another.

    A bad option is raised when the callback is made, or when its first training begins. Later failures
    are told as warnings, so that they do not end the training.

    Parameters
    ----------
    settings : mapping
        The options of ``attach``.
    outcomes : mapping of str to str, optional
        The name of each outcome, to the name of its metric.
    always : mapping of str to str, optional
        The same for outcomes whose metric may be missing.

    Attributes
    ----------
    quake : Quake or None
        The probe of the newest training; None before the first one, and if the newest is not measured.

    Raises
    ------
    InputError
        If ``outcomes`` is not a mapping of names, or has a name that gradquake uses.
    TypeError
        For an option that ``attach`` does not have.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        outcomes: Mapping[str, str] | None,
        always: Mapping[str, str] | None = None,
    ) -> None:
        try:
            inspect.signature(attach).bind(None, None, **settings)
        except TypeError as error:
            raise TypeError(f"GradquakeCallback takes the options of attach: {error}") from None
        _check_outcomes(outcomes, settings.get("labels"))
        self.quake: Quake | None = None
        self._settings = dict(settings)
        self._wanted = dict(outcomes or {})
        self._metrics = {**(always or {}), **self._wanted}
        self._missing: dict[str, str] = {}
        self._seen: set[str] = set()
        # The model's number of parameters in the newest run of this callback, if it is unfinished.
        self._left: int | None = None
        self._begun = False

    def begin(self, model: nn.Module, optimizer: Callable[[], Any], step: int) -> None:
        """Attach for a training that has this many steps behind it.

        Parameters
        ----------
        model : torch.nn.Module
        optimizer : callable
            Returns the optimizer.
        step : int
            0 for a new training. If the last training ended with an exception, its run starts again.
        """
        # The last training may have been interrupted without a call of ``end``.
        self.end(finished=False)
        again, self.quake = self._begun, None
        size = sum(p.numel() for p in model.parameters() if p.requires_grad)
        # A study refuses to begin an unfinished run again. This callback may repeat its own.
        start = 0 if self._left == size else None
        try:
            settings = {"step": step or start, **self._settings}
            self.quake = attach(model, optimizer(), **settings)
        except Exception as error:
            settings = self._settings
            if not again or settings.get("inline") or settings.get("errors") == "raise":
                raise
            tell(f"{reason(error)}; this training is not measured")
            return
        self._begun, self._left = True, size
        self._missing, self._seen = dict(self._wanted), set()

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Keep the outcomes that are among these metrics."""
        if self.quake is None or not self.quake.attached:
            return
        self._seen.update(map(str, metrics))
        found = {name: metrics[key] for name, key in self._metrics.items() if key in metrics}
        for name in found:
            self._missing.pop(name, None)
        self.quake.log(**found)

    def end(self, *, finished: bool) -> None:
        """Detach. A finished training warns about outcomes whose metrics were never logged."""
        if self.quake is None or not self.quake.attached:
            return
        self.quake.detach(finished=finished)
        if not finished:
            return
        self._left = None
        if self._missing:
            named = ", ".join(f"{name} as {metric!r}" for name, metric in self._missing.items())
            there = ", ".join(sorted(self._seen)) or "nothing"
            tell(f"outcomes names {named}, which was never logged; the logged metrics are {there}")

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy: the settings, without the probe, which is on one optimizer."""
        return {**self.__dict__, "quake": None, "_left": None, "_begun": False}


def _check_outcomes(outcomes: Any, labels: Any) -> None:
    if outcomes is None:
        return
    texts = isinstance(outcomes, Mapping) and all(
        isinstance(text, str) for pair in outcomes.items() for text in pair
    )
    if not texts:
        raise InputError(f"outcomes is {outcomes!r}; a mapping of names to names of metrics is needed")
    for name in outcomes:
        check_outcome(name, 0.0, labels if isinstance(labels, Mapping) else {})
