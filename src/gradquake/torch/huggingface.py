"""The probe as a callback of Hugging Face's Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gradquake.torch.outcomes import Outcomes
from gradquake.torch.quake import Quake, attach


class GradquakeCallback(TrainerCallback):
    """Attaches to the model and its optimizer for as long as ``Trainer.train`` runs.

    The training loss is kept as ``loss`` whenever the Trainer logs it. One that is resumed from a
    checkpoint continues its run from the checkpoint's step; a training that ends with an exception
    stays unfinished in the study.

    Parameters
    ----------
    outcomes : mapping of str to str
        What else to keep: an outcome's name, ``accuracy`` say, to the name under which the Trainer logs
        it, such as ``eval_accuracy``. A warning at the end names those that never came.
    **settings
        As ``gradquake.torch.attach`` takes them.

    Attributes
    ----------
    quake : Quake or None
        What ``attach`` returned, once training has begun.
    """

    def __init__(self, *, outcomes: Mapping[str, str] | None = None, **settings: Any) -> None:
        self.quake: Quake | None = None
        self._outcomes = Outcomes(outcomes, {"loss": "loss"})
        self._settings = settings

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attach."""
        if self.quake is not None:
            # A training that was interrupted did not say so.
            self.quake.detach(finished=False)
        settings = {"step": state.global_step or None, **self._settings}
        self.quake = attach(kwargs["model"], kwargs["optimizer"], **settings)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the outcomes."""
        logs = kwargs.get("logs") or {}
        if self.quake is not None and self.quake.attached:
            self.quake.log(**self._outcomes.of(logs))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Detach."""
        if self.quake is not None:
            self.quake.detach()
            self._outcomes.warn_of_missing()
