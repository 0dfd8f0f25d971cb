"""The probe inside the real frameworks, on tiny models made from their configurations."""

import json
import struct
import time

import numpy as np
import pytest
import torch
from torch import nn

import gradquake.torch as gqt
from gradquake import open_study

# What the frameworks warn of themselves is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")

X = torch.linspace(-1, 1, 64).reshape(16, 4)
Y = (X.sum(1, keepdim=True) > 0).float()


def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def train(model, quake, optimizer, steps=4):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(X).square().mean()
        loss.backward()
        optimizer.step()
        quake.log(loss=loss)


def scalars_of(logger, steps=4):
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gqt.attach(model, optimizer, every=2, loggers=[logger], nulls=["gaussian"]) as quake:
        train(model, quake, optimizer, steps)
    return quake.dataset.isel(run=0)


def leveldb_records(data, block=32768, header=7):
    """Split a log of LevelDB's format, in which offline runs are kept, into its records."""
    at, whole = header, b""
    while at < len(data) + header:
        if block - at % block < header:
            at += block - at % block
        start = at - header
        if start + 7 > len(data):
            return
        length, kind = struct.unpack("<HB", data[start + 4 : start + 7])
        if start + 7 + length > len(data):
            return
        whole += data[start + 7 : start + 7 + length]
        at += header + length
        if kind in (1, 4):  # a full record, or the last part of one
            yield whole
            whole = b""


def wandb_rows(path, kind):
    """Return the history of an offline run, a mapping a row."""
    rows = []
    for data in leveldb_records(path.read_bytes()[7:]):
        record = kind()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    return rows


def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        data = scalars_of(writer)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    for name in ("size", "loss"):
        events = read.Scalars(f"gradquake/{name}")
        assert [event.step for event in events] == [0, 2]
        np.testing.assert_allclose([event.value for event in events], data[name].values, rtol=1e-6)
    assert "gradquake/gaussian_size_per_parameter" in read.Tags()["scalars"]


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    import wandb
    from wandb.proto import wandb_internal_pb2

    with wandb.init(mode="offline", dir=tmp_path, project="tiny") as run:
        model = linear()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with gqt.attach(model, optimizer, every=2, loggers=[run]) as quake:
            for step in range(4):
                train(model, quake, optimizer, 1)
                run.log({"mine": step})
    # Its service, a process of its own, writes the file.
    rows, until = [], time.monotonic() + 60
    while len(rows) < 4 and time.monotonic() < until:
        time.sleep(0.2)
        rows = wandb_rows(next(tmp_path.rglob("*.wandb")), wandb_internal_pb2.Record)
    assert [row["mine"] for row in rows] == [0, 1, 2, 3]
    assert [row["gradquake/size"] for row in rows if "gradquake/size" in row] == [
        int(size) for size in quake.dataset["size"].values[0]
    ]
    assert ["gradquake/loss" in row for row in rows] == [True, False, True, False]


def test_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    import mlflow

    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    with mlflow.start_run() as run:
        data = scalars_of(mlflow)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "gradquake/size")
    assert [(m.step, m.value) for m in history] == list(
        zip(data["epoch"].values.tolist(), data["size"].values.tolist(), strict=True)
    )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning(tmp_path, precision):
    import lightning.pytorch as pl

    from gradquake.torch.lightning import GradquakeCallback

    class Tiny(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

        def training_step(self, batch, _):
            return nn.functional.binary_cross_entropy_with_logits(self.net(batch[0]), batch[1])

        def validation_step(self, batch, _):
            self.log("val_acc", ((self.net(batch[0]) > 0) == batch[1]).float().mean())

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.05)

    def fit(callbacks, epochs=6, checkpoint=None):
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(X, Y), batch_size=8, shuffle=False
        )
        model = Tiny()
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            precision=precision,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            gradient_clip_val=0.1,
        )
        trainer.fit(model, loader, loader, ckpt_path=checkpoint)
        if checkpoint is None:
            trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return model

    path = tmp_path / "runs.sqlite"
    callback = GradquakeCallback(
        every=2, study=path, run={"width": 8}, outcomes={"accuracy": "val_acc"}, grokked_at=0.9
    )
    probed, plain = fit([callback]), fit([])
    assert all(torch.equal(a, b) for a, b in zip(probed.parameters(), plain.parameters(), strict=True))
    with open_study(path) as study:
        data = study.dataset
    assert data["epoch"].values.tolist() == list(range(0, 12, 2))
    assert np.isfinite(data["loss"].values).all()
    assert np.isfinite(data["accuracy"].values).any()
    # Clipped gradients are what the optimizer uses.
    assert (data["gradient_norm"].values <= 0.1001).all()

    class StopAt(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 8:
                raise RuntimeError("stop")

    other = tmp_path / "other.sqlite"
    again = GradquakeCallback(every=2, study=other, run={"width": 8})
    with pytest.raises(RuntimeError, match="stop"):
        fit([again, StopAt()])
    with open_study(other) as study:
        assert [record.epochs.tolist() for record in study.unfinished()] == [[0, 2, 4, 6]]
    with pytest.warns(
        UserWarning, match="outcomes names top1 as 'acc', never logged; logged was val_acc"
    ):
        fit([GradquakeCallback(outcomes={"top1": "acc", "accuracy": "val_acc"})], 1)
    # A checkpoint of a run with the callback, and so with the callback's own count of steps.
    fit([GradquakeCallback(every=2, study=tmp_path / "third.sqlite")], 3)
    fit([GradquakeCallback(every=2, study=other, run={"width": 8})], 6, tmp_path / "3.ckpt")
    with open_study(other) as study:
        np.testing.assert_array_equal(study.dataset["size"].values, data["size"].values)


def test_hugging_face(tmp_path):
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from gradquake.torch.huggingface import GradquakeCallback

    def fit(callbacks, resume=None):
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
        )
        model = GPT2LMHeadModel(config)
        rows = torch.arange(64).reshape(8, 8) % 20
        data = [{"input_ids": row, "labels": row} for row in rows]
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "out"),
            max_steps=6,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            logging_steps=1,
            save_strategy="steps",
            save_steps=3,
            eval_strategy="steps",
            eval_steps=2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            seed=1,
        )
        trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data, callbacks=callbacks)
        trainer.train(resume_from_checkpoint=resume)
        return model

    path = tmp_path / "runs.sqlite"
    callback = GradquakeCallback(
        every=2, study=path, run={"width": 8}, outcomes={"valid_loss": "eval_loss"}
    )
    probed, plain = fit([callback]), fit([])
    assert all(torch.equal(a, b) for a, b in zip(probed.parameters(), plain.parameters(), strict=True))
    with open_study(path) as study:
        data = study.dataset
    assert data["epoch"].values.tolist() == [0, 2, 4]
    assert data["n_parameters"].item() == sum(p.numel() for p in probed.parameters())
    assert np.isfinite(data["loss"].values).all()
    assert np.isfinite(data["valid_loss"].values).any()

    class StopAt(TrainerCallback):
        def on_step_end(self, _arguments, state, *_, **__):
            if state.global_step == 5:
                raise RuntimeError("stop")

    other = tmp_path / "other.sqlite"
    again = GradquakeCallback(every=2, study=other, run={"width": 8})
    with pytest.raises(RuntimeError, match="stop"):
        fit([again, StopAt()])
    fit([again], str(tmp_path / "out" / "checkpoint-3"))
    with pytest.warns(UserWarning, match=r"names f1 as 'eval_f1', never logged; .* epoch, eval_loss, "):
        fit([GradquakeCallback(outcomes={"f1": "eval_f1", "valid_loss": "eval_loss"})])
    with open_study(other) as study:
        assert study.unfinished() == []
        np.testing.assert_array_equal(study.dataset["size"].values, data["size"].values)
