"""The probe as a callback of Hugging Face's Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradquake.torch.callback import Attachment
from gradquake.torch.quake import Quake

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    raise ImportError(
        f'gradquake.torch.huggingface needs Transformers ({error}): pip install "transformers[torch]"'
    ) from None


__all__ = ["GradquakeCallback"]


class GradquakeCallback(TrainerCallback):
    """Measures the model and its optimizer while ``Trainer.train`` runs.

    The training loss is kept as ``loss`` whenever the Trainer logs it. A training that is resumed from a
    checkpoint continues its run from the checkpoint's step. A training that ends with an exception
    stays unfinished in the study. If the same callback then starts again, as with
    ``auto_find_batch_size``, its run starts again too.

    Parameters
    ----------
    outcomes : mapping of str to str
        More outcomes to keep: each name, such as ``accuracy``, to the name under which the Trainer logs
        it, such as ``eval_accuracy``. A warning at the end names those that were never logged.
    **settings
        The options of ``gradquake.torch.attach``, such as ``probe``, ``study`` and ``labels``.

    Raises
    ------
    InputError, TypeError
        For an outcome or an option that cannot be used.
    """

    def __init__(self, *, outcomes: Mapping[str, str] | None = None, **settings: Any) -> None:
        self._attachment = Attachment(settings, outcomes, {"loss": "loss"})

    @property
    def quake(self) -> Quake | None:
        """The probe of the newest training; None before the first one, and if it is not measured."""
        return self._attachment.quake

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attach."""
        self._attachment.begin(kwargs["model"], lambda: kwargs["optimizer"], state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the outcomes."""
        self._attachment.log(kwargs.get("logs") or {})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Detach."""
        self._attachment.end(finished=True)
