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


__all__ = ["GradquakeCallback"]


class GradquakeCallback(Callback):
    """Measures the module and its optimizer while ``Trainer.fit`` runs.

    The training loss is always kept. A fit that ends with an exception stays unfinished in the study. A
    fit that is resumed from a checkpoint continues its run from the checkpoint's step. If the same
    callback fits again after a failed fit, its run starts again.

    For several optimizers, give the Trainer several callbacks.

    Parameters
    ----------
    outcomes : mapping of str to str
        More outcomes to keep, after every validation and every epoch: each name, such as ``accuracy``,
        to the name of the metric that the module logs. A warning at the end names those that were never
        logged.
    optimizer : int
        The index of the optimizer among the module's optimizers.
    **settings
        The options of ``gradquake.torch.attach``, such as ``probe``, ``study`` and ``labels``.

    Raises
    ------
    InputError, TypeError
        For an outcome or an option that cannot be used.
    """

    def __init__(
        self, *, outcomes: Mapping[str, str] | None = None, optimizer: int = 0, **settings: Any
    ) -> None:
        super().__init__()
        require_count("optimizer", optimizer, 0)
        self._attachment = Attachment(settings, outcomes)
        self._optimizer = optimizer
        # The Trainer counts the steps of all optimizers together. This is its count, and our count then.
        self._steps = (0, 0)
        self._old: dict[str, Any] = {}

    @property
    def quake(self) -> Quake | None:
        """The probe of the newest fit; None before the first one, and if it is not measured."""
        return self._attachment.quake

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the count of this optimizer's steps into a checkpoint."""
        if self.quake is not None:
            checkpoint.setdefault("gradquake", {})[self._optimizer] = self.quake.step

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the count of this optimizer's steps from a checkpoint."""
        counts = checkpoint.get("gradquake", {})
        if self._optimizer in counts:
            self._steps = (checkpoint["global_step"], counts[self._optimizer])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach."""
        # The metrics so far belong to an earlier fit, or to the sanity check.
        self._old = dict(trainer.callback_metrics)
        counted, step = self._steps
        # A checkpoint made without this callback holds only the Trainer's count.
        step = step if trainer.global_step == counted else trainer.global_step
        self._attachment.begin(pl_module, lambda: self._chosen(trainer.optimizers), step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the outcomes that the module logged in the last epoch after this callback was called."""
        self._log_new(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if self.quake is None or not self.quake.attached or loss is None:
            return
        if pl_module.automatic_optimization and isinstance(loss, torch.Tensor):
            # The Trainer has divided the loss by the number of accumulated batches.
            loss = loss * trainer.accumulate_grad_batches
        self.quake.log(loss=loss)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the outcomes."""
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
        """Detach; the run stays unfinished."""
        self._end(trainer, finished=False)

    def _chosen(self, optimizers: list[Any]) -> Any:
        if self._optimizer >= len(optimizers):
            raise InputError(
                f"optimizer is {self._optimizer}; a number below {len(optimizers)} is needed, since the "
                f"module has {len(optimizers)}"
            )
        return optimizers[self._optimizer]

    def _log_new(self, trainer: Trainer) -> None:
        # Metrics stay there until they are logged again, so only those that changed are new.
        metrics = dict(trainer.callback_metrics)
        self._attachment.log({n: v for n, v in metrics.items() if v is not self._old.get(n)})
        self._old = metrics

    def _end(self, trainer: Trainer, *, finished: bool) -> None:
        self._attachment.end(finished=finished)
        if self.quake is not None:
            self._steps = (trainer.global_step, self.quake.step)
