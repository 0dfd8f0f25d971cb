"""The probe as a callback of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from gradquake.torch.outcomes import Outcomes
from gradquake.torch.quake import Quake, attach


class GradquakeCallback(Callback):
    """Attaches to the module and its optimizer for as long as ``Trainer.fit`` runs.

    The training loss is logged by itself. A fit that ends with an exception stays unfinished in the
    study; one that is resumed from a checkpoint continues its run from the checkpoint's step.

    Parameters
    ----------
    outcomes : mapping of str to str
        What else to keep after every validation: an outcome's name, ``accuracy`` say, to the name of
        the metric that the module logs. A warning at the end names those that never came.
    optimizer : int
        Which of the module's optimizers.
    **settings
        As ``gradquake.torch.attach`` takes them.

    Attributes
    ----------
    quake : Quake or None
        What ``attach`` returned, once the fit has begun.
    """

    def __init__(
        self, *, outcomes: Mapping[str, str] | None = None, optimizer: int = 0, **settings: Any
    ) -> None:
        super().__init__()
        self.quake: Quake | None = None
        self._outcomes = Outcomes(outcomes)
        self._optimizer = optimizer
        self._settings = settings
        self._resumed_at: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the step, for a checkpoint: the Trainer counts those of all optimizers together."""
        return {"step": None if self.quake is None else self.quake.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the step of a checkpoint."""
        self._resumed_at = state_dict["step"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach."""
        # A checkpoint made without this callback knows the Trainer's count only.
        counted = trainer.global_step or None
        step = counted if self._resumed_at is None else self._resumed_at
        settings = {"step": step, **self._settings}
        self.quake = attach(pl_module, trainer.optimizers[self._optimizer], **settings)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if self.quake is not None and self.quake.attached and loss is not None:
            self.quake.log(loss=loss)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the outcomes; the check before training has none to keep."""
        if self.quake is not None and self.quake.attached:
            self.quake.log(**self._outcomes.of(trainer.callback_metrics))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Detach."""
        if self.quake is not None:
            self.quake.detach()
            self._outcomes.warn_of_missing()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Detach, and leave the run unfinished."""
        if self.quake is not None:
            self.quake.detach(finished=False)
