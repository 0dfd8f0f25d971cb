"""The probe as a callback of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradquake.errors import InputError, require_count
from gradquake.torch.callback import Attachment
from gradquake.torch.quake import Quake

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError:
    try:
        from pytorch_lightning import Callback, LightningModule, Trainer
    except ModuleNotFoundError as error:
        raise ImportError(
            f"gradquake.torch.lightning needs Lightning ({error}): pip install lightning"
        ) from None


class GradquakeCallback(Callback):
    """Attaches to the module and its optimizer for as long as ``Trainer.fit`` runs.

    The training loss is logged by itself. A fit that ends with an exception stays unfinished in the
    study; one that is resumed from a checkpoint continues its run from the checkpoint's step. A fit that
    begins anew with the same callback after one that failed begins its run anew.

    For several optimizers, hand over several callbacks.

    Parameters
    ----------
    outcomes : mapping of str to str
        What else to keep after every validation and every epoch: an outcome's name, ``accuracy`` say,
        to the name of the metric that the module logs. A warning at the end names those that never
        came.
    optimizer : int
        Which of the module's optimizers.
    **settings
        As ``gradquake.torch.attach`` takes them.

    Raises
    ------
    InputError, TypeError
        For an outcome or an option that cannot be.
    """

    def __init__(
        self, *, outcomes: Mapping[str, str] | None = None, optimizer: int = 0, **settings: Any
    ) -> None:
        super().__init__()
        require_count("optimizer", optimizer, 0)
        self._attachment = Attachment(settings, outcomes)
        self._optimizer = optimizer
        # The Trainer counts the steps of all optimizers together: its count, and ours at that moment.
        self._steps = (0, 0)
        self._old: dict[str, Any] = {}

    @property
    def quake(self) -> Quake | None:
        """The probe of the newest fit; None before the first one, and if it is not measured."""
        return self._attachment.quake

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the count of this optimizer's steps. It is the same for every callback on it."""
        if self.quake is not None:
            checkpoint.setdefault("gradquake", {})[self._optimizer] = self.quake.step

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the count of a checkpoint."""
        counts = checkpoint.get("gradquake", {})
        if self._optimizer in counts:
            self._steps = (checkpoint["global_step"], counts[self._optimizer])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach."""
        # These metrics belong to an earlier fit, or to the check before training.
        self._old = dict(trainer.callback_metrics)
        counted, step = self._steps
        # A checkpoint made without this callback knows the Trainer's count only.
        step = step if trainer.global_step == counted else trainer.global_step
        self._attachment.begin(pl_module, lambda: self._chosen(trainer.optimizers), step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the outcomes of the last epoch that the module logged after this callback's turn."""
        self._log_new(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if self.quake is None or not self.quake.attached or loss is None:
            return
        if pl_module.automatic_optimization and isinstance(loss, torch.Tensor):
            # The Trainer has divided it.
            loss = loss * trainer.accumulate_grad_batches
        self.quake.log(loss=loss)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the outcomes; the check before training has none to keep."""
        self._log_new(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the outcomes of the epoch."""
        self._log_new(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Detach."""
        self._log_new(trainer)
        self._end(trainer, finished=True)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Detach, and leave the run unfinished."""
        self._end(trainer, finished=False)

    def _chosen(self, optimizers: list[Any]) -> Any:
        if self._optimizer >= len(optimizers):
            raise InputError(
                f"optimizer is {self._optimizer}; a number below {len(optimizers)} is needed, since the "
                f"module has {len(optimizers)}"
            )
        return optimizers[self._optimizer]

    def _log_new(self, trainer: Trainer) -> None:
        # Metrics stay there until they are logged again, and belong to earlier snapshots.
        metrics = dict(trainer.callback_metrics)
        self._attachment.log({n: v for n, v in metrics.items() if v is not self._old.get(n)})
        self._old = metrics

    def _end(self, trainer: Trainer, *, finished: bool) -> None:
        self._attachment.end(finished=finished)
        if self.quake is not None:
            self._steps = (trainer.global_step, self.quake.step)
