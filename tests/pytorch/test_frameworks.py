"""The probe inside the real frameworks, on tiny models made from their configurations."""

import copy
import csv
import gc
import importlib
import json
import logging
import math
import os
import pickle
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

import gradquake.torch as gqt
from gradquake import InputError, open_study

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


def wandb_records(path, kind):
    return [kind.FromString(data) for data in leveldb_records(path.read_bytes()[7:])]


def wandb_rows(records):
    """Return the history of an offline run, a mapping a row."""
    rows = []
    for record in records:
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


# What the user logs in each of 12 steps, and at which steps of W&B it must arrive: None if any.
USERS = {
    "never": (lambda *_: None, []),
    "a number each time": (lambda run, step: run.log({"mine": step}), list(range(12))),
    "with a step, each time": (lambda run, step: run.log({"mine": step}, step=step), list(range(12))),
    "with a step, rarely": (
        lambda run, step: step % 4 == 0 and run.log({"mine": step}, step=step),
        [0, 4, 8],
    ),
    "committed with a step": (
        lambda run, step: step % 4 == 0 and run.log({"mine": step}, step=step, commit=True),
        [0, 4, 8],
    ),
    "by epoch": (
        lambda run, step: step % 4 == 3 and run.log({"mine": step}, step=step // 4),
        [0, 1, 2],
    ),
    "by samples": (
        lambda run, step: step % 4 == 0 and run.log({"mine": step}, step=step * 32),
        [0, 128, 256],
    ),
    "rarely": (lambda run, step: step % 4 == 0 and run.log({"mine": step}), None),
    "in parts": (lambda run, step: run.log({"mine": step}, commit=step % 4 == 3), None),
    "by the module": (
        lambda _, step: step % 4 == 0 and sys.modules["wandb"].log({"mine": step}, step=step),
        [0, 4, 8],
    ),
}


@pytest.fixture
def wandb(monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    import wandb

    return wandb


def complete_rows(folder):
    """Return the rows of an offline run that has ended; its service, another process, writes them."""
    from wandb.proto import wandb_internal_pb2

    [path] = folder.rglob("*.wandb")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        records = wandb_records(path, wandb_internal_pb2.Record)
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            break
        time.sleep(0.05)
    return wandb_rows(records)


@pytest.mark.parametrize("name", USERS)
def test_no_row_is_lost_in_weights_and_biases(tmp_path, wandb, name):
    user, steps = USERS[name]
    with wandb.init(dir=tmp_path, project="tiny") as run:
        model = linear()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with gqt.attach(model, optimizer, every=2, loggers=[run]) as quake:
            for step in range(12):
                train(model, quake, optimizer, 1)
                user(run, step)
        if steps == [0, 4, 8]:
            run.log({"mine": "test"}, step=12)
    rows = complete_rows(tmp_path)
    ours = [row for row in rows if "gradquake/step" in row]
    assert [row["gradquake/step"] for row in ours] == list(range(0, 12, 2))
    assert [row["gradquake/size"] for row in ours] == quake.dataset["size"].values[0].tolist()
    assert all("gradquake/loss" in row for row in ours)
    mine = [(row["_step"], row["mine"]) for row in rows if "mine" in row]
    if steps == [0, 4, 8]:
        # Each has the optimizer's step in W&B.
        assert [row["_step"] for row in ours] == [0, 2, 4, 6, 8, 10]
        assert mine == [(0, 0), (4, 4), (8, 8), (12, "test")]
    elif steps is not None:
        assert [step for step, _ in mine] == steps
    assert len(mine) == {"never": 0, "a number each time": 12, "with a step, each time": 12}.get(
        name, 4 if steps == [0, 4, 8] else 3
    )


def test_rows_reach_weights_and_biases_at_the_end_of_a_script_that_finishes_nothing(tmp_path):
    script = """
import torch, wandb
import gradquake.torch as gqt
wandb.init(project="tiny")
model = torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
quake = gqt.attach(model, optimizer, every=1, loggers=[wandb])
for step in range(3):
    model(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()
    wandb.log({"mine": step}, step=0)
"""
    # With a W&B service of its own.
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    environment.pop("WANDB_SERVICE", None)
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, env=environment)
    assert [row["gradquake/step"] for row in complete_rows(tmp_path)] == [0, 1, 2]


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


class Trackio:
    def __init__(self):
        self.steps = []

    def log(self, metrics, step=None):
        assert all(name.startswith("gradquake/") for name in metrics)
        self.steps.append(step)


def test_anything_that_logs_scalars_at_a_step(tmp_path):
    from accelerate import Accelerator
    from lightning.fabric import Fabric
    from lightning.pytorch.loggers import CSVLogger

    logger, trackio = CSVLogger(tmp_path), Trackio()
    scalars_of(logger)
    logger.save()
    with open(tmp_path / "lightning_logs" / "version_0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["gradquake/size"]] == ["0", "2"]
    scalars_of(trackio)
    assert trackio.steps == [0, 0, 2, 2]
    scalars_of(Fabric(accelerator="cpu", loggers=[CSVLogger(tmp_path / "fabric")]))
    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir=tmp_path)
    with pytest.raises(InputError, match="without trackers; call its init_trackers first"):
        scalars_of(accelerator)
    accelerator.init_trackers("tiny")
    scalars_of(accelerator)
    accelerator.end_training()
    assert list((tmp_path / "tiny").glob("events*"))


@pytest.mark.parametrize("logger", [logging.getLogger("x"), math, np, None, "wandb"])
def test_what_cannot_log_scalars_is_refused(logger):
    with pytest.raises(InputError, match=r"a logger is .*; a SummaryWriter, a wandb run, "):
        scalars_of(logger)


def test_values_that_are_not_finite_reach_loggers():
    got = {}
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    send = lambda scalars, _: got.update(scalars)  # noqa: E731
    with gqt.attach(model, optimizer, every=1, loggers=[send]) as quake:
        train(model, quake, optimizer, 1)
        quake.log(a=math.nan, b=np.float32("inf"), c=np.int64(3), d=torch.tensor([2.0]))
    assert math.isnan(got["gradquake/a"])
    assert [got[f"gradquake/{name}"] for name in "bcd"] == [math.inf, 3.0, 2.0]
    assert {type(value) for value in got.values()} == {float}


def lightning_module(pl, **methods):
    """Return a tiny module; methods replace its own."""

    class Tiny(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

        def training_step(self, batch, _):
            logits = self.net(batch[0])
            self.log(
                "train_acc", ((logits > 0) == batch[1]).float().mean(), on_step=False, on_epoch=True
            )
            return nn.functional.binary_cross_entropy_with_logits(logits, batch[1])

        def validation_step(self, batch, _):
            self.log("val_acc", ((self.net(batch[0]) > 0) == batch[1]).float().mean())

        def test_step(self, batch, index):
            pass

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.05)

    return type("Tiny", (Tiny,), methods)()


def lightning_trainer(pl, callbacks, epochs=2, **options):
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def batches(size=8):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=size)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def steps_of(path):
    """Return the measured steps of the finished and of the unfinished runs, by the label "net"."""
    with open_study(path) as study:
        found = [study.records(), study.unfinished()]
    return [{r.config["labels"].get("net"): r.epochs.tolist() for r in records} for records in found]


@pytest.fixture
def pl(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import lightning.pytorch as pl

    return pl


def stop_at(pl, step, error):
    class StopAt(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            nonlocal error
            if trainer.global_step == step and error is not None:
                raised, error = error, None
                raise raised

    return StopAt()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning(pl, precision):
    from gradquake.torch.lightning import GradquakeCallback

    def fit(callbacks, epochs=6, checkpoint=None):
        model, loader = lightning_module(pl), batches()
        trainer = lightning_trainer(pl, callbacks, epochs, precision=precision, gradient_clip_val=0.1)
        trainer.fit(model, loader, loader, ckpt_path=checkpoint)
        if checkpoint is None:
            trainer.save_checkpoint(f"{epochs}.ckpt")
        return model

    callback = GradquakeCallback(
        every=2,
        study="runs.sqlite",
        labels={"width": 8},
        outcomes={"accuracy": "val_acc"},
        grokked_at=0.9,
    )
    assert same_weights(fit([callback]), fit([]))
    with open_study("runs.sqlite") as study:
        data = study.dataset
    assert data["epoch"].values.tolist() == list(range(0, 12, 2))
    assert np.isfinite(data["loss"].values).all()
    assert np.isfinite(data["accuracy"].values).any()
    # Clipped gradients are what the optimizer uses.
    assert (data["gradient_norm"].values <= 0.1001).all()

    again = GradquakeCallback(every=2, study="other.sqlite", labels={"width": 8})
    with pytest.raises(RuntimeError, match="stop"):
        fit([again, stop_at(pl, 8, RuntimeError("stop"))])
    assert steps_of("other.sqlite") == [{}, {None: [0, 2, 4, 6]}]
    with pytest.warns(
        UserWarning,
        match="outcomes names top1 as 'acc', which was never logged; the logged metrics are train_acc, ",
    ):
        fit([GradquakeCallback(outcomes={"top1": "acc", "accuracy": "val_acc"})], 1)
    # A checkpoint of a run with the callback, and so with the callback's own count of steps.
    fit([GradquakeCallback(every=2, study="third.sqlite")], 3)
    fit([GradquakeCallback(every=2, study="other.sqlite", labels={"width": 8})], 6, "3.ckpt")
    with open_study("other.sqlite") as study:
        np.testing.assert_array_equal(study.dataset["size"].values, data["size"].values)


def test_two_optimizers_in_lightning(pl):
    from gradquake.torch.lightning import GradquakeCallback

    def training_step(self, batch, _):
        generator, discriminator = self.optimizers()
        for optimizer in (discriminator, discriminator, generator):
            optimizer.zero_grad()
            self.manual_backward(self.net(batch[0]).square().mean())
            optimizer.step()

    def configure_optimizers(self):
        self.automatic_optimization = False
        return [torch.optim.SGD(self.net[i].parameters(), lr=0.01) for i in (0, 2)]

    def fit(callbacks, epochs=2, **options):
        module = lightning_module(
            pl, training_step=training_step, configure_optimizers=configure_optimizers
        )
        module.automatic_optimization = False
        trainer = lightning_trainer(pl, callbacks, epochs)
        trainer.fit(module, batches(), **options)
        return module, trainer

    def callbacks():
        return [
            GradquakeCallback(optimizer=i, every=1, study="s.sqlite", labels={"net": name})
            for i, name in enumerate("gd")
        ]

    module, trainer = fit(callbacks())
    assert same_weights(module, fit([])[0])
    assert steps_of("s.sqlite")[0] == {"g": list(range(4)), "d": list(range(8))}
    # Each goes on from its own count, from a checkpoint as in the same Trainer.
    trainer.save_checkpoint("s.ckpt")
    _, trainer = fit(callbacks(), 3, ckpt_path="s.ckpt")
    assert steps_of("s.sqlite")[0] == {"g": list(range(6)), "d": list(range(12))}
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, batches())
    assert steps_of("s.sqlite")[0] == {"g": list(range(8)), "d": list(range(16))}
    with pytest.raises(InputError, match="optimizer is 2; a number below 2 is needed"):
        fit([GradquakeCallback(optimizer=2)])


def test_a_callback_in_one_fit_after_another(pl):
    from gradquake.torch.lightning import GradquakeCallback

    def trainer(*callbacks, epochs=2):
        return lightning_trainer(pl, list(callbacks), epochs)

    def callback(name, **options):
        return GradquakeCallback(every=1, study="s.sqlite", labels={"net": name}, **options)

    # A fit that failed begins anew with a new Trainer, and goes on with the same.
    anew, on = callback("anew"), callback("on")
    for used, epochs in ((anew, 2), (on, 4)):
        stop = stop_at(pl, 3, RuntimeError("stop"))
        first = trainer(used, stop, epochs=epochs)
        with pytest.raises(RuntimeError, match="stop"):
            first.fit(lightning_module(pl), batches())
        (first if used is on else trainer(used)).fit(lightning_module(pl), batches())
    done, unfinished = steps_of("s.sqlite")
    assert done["anew"] == [0, 1, 2, 3]
    assert done["on"] == list(range(on.quake.step))
    assert not unfinished

    # A finished run is continued after validation and tests, which count for nothing.
    longer = callback("longer")
    same, module = trainer(longer), lightning_module(pl)
    same.fit(module, batches(), batches())
    same.save_checkpoint("s.ckpt")
    same.validate(module, batches(), verbose=False)
    same.test(module, batches(), ckpt_path="s.ckpt", verbose=False)
    same.fit_loop.max_epochs = 3
    same.fit(module, batches())
    assert steps_of("s.sqlite")[0]["longer"] == list(range(6))

    # A training that cannot be measured, since its run is finished, is not ended.
    folds = callback("folds")
    trainer(folds).fit(lightning_module(pl), batches())
    with pytest.warns(UserWarning, match="holds the finished run .*; this training is not measured"):
        trainer(folds).fit(module := lightning_module(pl), batches())
    trainer().fit(plain := lightning_module(pl), batches())
    assert same_weights(module, plain)
    assert folds.quake is None
    with pytest.raises(gqt.quake.StudyError):
        trainer(callback("folds")).fit(lightning_module(pl), batches())

    # Lightning ends the script after an interrupt.
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        trainer(callback("stopped"), stop_at(pl, 2, KeyboardInterrupt())).fit(
            lightning_module(pl), batches()
        )
    signal.signal(signal.SIGINT, before)
    assert steps_of("s.sqlite")[1] == {"stopped": [0, 1]}


def test_what_lightning_logs(pl):
    from gradquake.torch.lightning import GradquakeCallback

    def measured(size, **options):
        outcomes = {"v": "val_acc", "t": "train_acc"}
        callback = GradquakeCallback(every=1, outcomes=outcomes)
        lightning_trainer(pl, [callback], **options).fit(lightning_module(pl), batches(size), batches())
        return callback.quake.dataset.isel(run=0)

    whole, parts = measured(16), measured(8, accumulate_grad_batches=2)
    np.testing.assert_allclose(whole["gradient_norm"], parts["gradient_norm"], rtol=1e-5)
    np.testing.assert_allclose(whole["loss"], parts["loss"], rtol=0.1)
    # Validated after every step, and the epoch's mean at its end only.
    often = measured(4, val_check_interval=1, epochs=3)
    assert np.isfinite(often["v"]).all()
    assert np.isfinite(often["t"]).values.tolist() == [False, False, False, True] * 3


@pytest.mark.parametrize("framework", ["lightning", "huggingface"])
def test_mistakes_in_a_callback_are_told_when_it_is_made(framework):
    kind = importlib.import_module(f"gradquake.torch.{framework}").GradquakeCallback
    with pytest.raises(TypeError, match=r"the options of attach: got an unexpected .* 'evrey'"):
        kind(evrey=2)
    with pytest.raises(InputError, match="a mapping of names to names of metrics is needed"):
        kind(outcomes=["val_acc"])
    with pytest.raises(InputError, match="size is measured by gradquake; another name"):
        kind(outcomes={"size": "val_acc"})
    with pytest.raises(InputError, match="width is a label of runs; another name"):
        kind(outcomes={"width": "val_acc"}, labels={"width": 3})


@pytest.mark.parametrize("framework", ["lightning", "huggingface"])
def test_a_copy_of_a_callback_is_not_attached(framework):
    callback = importlib.import_module(f"gradquake.torch.{framework}").GradquakeCallback(every=1)
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    callback._attachment.begin(model, lambda: optimizer, 0)
    for copied in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert copied.quake is None
        copied._attachment.end(finished=True)
        copied._attachment.begin(model, lambda: optimizer, 0)
        assert copied.quake.attached
        copied._attachment.end(finished=True)
    assert callback.quake.attached
    # Begun twice, ended twice, and without a step.
    callback._attachment.begin(model, lambda: optimizer, 0)
    callback._attachment.end(finished=True)
    callback._attachment.end(finished=True)


def test_lightning_under_its_other_name(pl, monkeypatch):
    import pytorch_lightning

    from gradquake.torch.lightning import GradquakeCallback

    monkeypatch.delitem(sys.modules, "gradquake.torch.lightning")
    with monkeypatch.context() as only:
        only.setitem(sys.modules, "lightning.pytorch", None)
        other = importlib.import_module("gradquake.torch.lightning").GradquakeCallback
        monkeypatch.delitem(sys.modules, "gradquake.torch.lightning")
        only.setitem(sys.modules, "pytorch_lightning", None)
        with pytest.raises(ImportError, match=r"needs Lightning .*: pip install lightning"):
            importlib.import_module("gradquake.torch.lightning")
    assert issubclass(other, pytorch_lightning.Callback)
    # Each works in the other's Trainer, twice.
    for kind, library in ((other, pl), (GradquakeCallback, pytorch_lightning)):
        callbacks = [kind(every=every) for every in (1, 2)]
        lightning_trainer(library, callbacks).fit(lightning_module(library), batches())
        assert [callback.quake.dataset.sizes["epoch"] for callback in callbacks] == [4, 2]


def test_data_parallel_lightning_on_one_process(pl):
    from gradquake.torch.lightning import GradquakeCallback

    callback = GradquakeCallback(every=1)
    trainer = lightning_trainer(pl, [callback], strategy="ddp", devices=1)
    try:
        trainer.fit(lightning_module(pl), batches())
    finally:
        torch.distributed.destroy_process_group()
    assert callback.quake.dataset["epoch"].values.tolist() == [0, 1, 2, 3]


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
        every=2, study=path, labels={"width": 8}, outcomes={"valid_loss": "eval_loss"}
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
    again = GradquakeCallback(every=2, study=other, labels={"width": 8})
    with pytest.raises(RuntimeError, match="stop"):
        fit([again, StopAt()])
    fit([again], str(tmp_path / "out" / "checkpoint-3"))
    with pytest.warns(
        UserWarning, match=r"names f1 as 'eval_f1', which was never logged; .* epoch, eval_loss, "
    ):
        fit([GradquakeCallback(outcomes={"f1": "eval_f1", "valid_loss": "eval_loss"})])
    with open_study(other) as study:
        assert study.unfinished() == []
        np.testing.assert_array_equal(study.dataset["size"].values, data["size"].values)


def classifier(**options):
    """Return a tiny classifier, and what makes a Trainer for it."""
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    options = {"max_steps": 4, "per_device_train_batch_size": 8, "logging_steps": 1, **options}
    trainer = options.pop("trainer", Trainer)
    arguments = TrainingArguments(
        "out", report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no", **options
    )
    rows = torch.arange(128).reshape(16, 8) % 20
    data = [{"input_ids": row, "labels": torch.tensor(i % 2)} for i, row in enumerate(rows)]
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)

    def make(*callbacks, **more):
        more = {"train_dataset": data, "eval_dataset": data, **more}
        return trainer(model, arguments, callbacks=list(callbacks), **more)

    return model, make


@pytest.fixture
def no_garbage():
    """Accelerate collects garbage before every attempt; here there is little."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("no_garbage")
def test_a_hugging_face_training_that_begins_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from transformers import Trainer

    from gradquake.torch.huggingface import GradquakeCallback

    class Small(Trainer):
        """Has memory for four samples, and fails once, after two steps of those."""

        failed = False

        def training_step(self, model, inputs, *rest):
            if len(inputs["labels"]) > 4:
                raise RuntimeError("CUDA out of memory. Tried to allocate")
            if self.state.global_step == 2 and not self.failed:
                self.failed = True
                raise RuntimeError("node down")
            return super().training_step(model, inputs, *rest)

    def trained(*callbacks):
        model, make = classifier(auto_find_batch_size=True, per_device_train_batch_size=5, trainer=Small)
        trainer = make(*callbacks)
        with pytest.raises(RuntimeError, match="node down"):
            trainer.train()
        assert trainer.train().global_step == 4
        return model, trainer

    callback = GradquakeCallback(every=1, study="s.sqlite", labels={"net": "a"})
    model, trainer = trained(callback)
    assert same_weights(model, trained()[0])
    assert steps_of("s.sqlite") == [{"a": [0, 1, 2, 3]}, {}]
    with pytest.warns(UserWarning, match="holds the finished run .*; this training is not measured"):
        assert trainer.train().global_step == 4
    assert callback.quake is None
    with pytest.raises(gqt.quake.StudyError):
        classifier()[1](GradquakeCallback(every=1, study="s.sqlite", labels={"net": "a"})).train()


def test_what_hugging_face_logs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from gradquake.torch.huggingface import GradquakeCallback

    def metrics(predicted):
        right = (predicted.predictions.argmax(1) == predicted.label_ids).mean()
        return {"accuracy": right, "report": "fine", "each": [1, 2], "none": None, "nan": math.nan}

    names = ("accuracy", "report", "each", "none", "nan", "never")
    callback = GradquakeCallback(every=1, outcomes={name: f"eval_{name}" for name in names})
    _, make = classifier(
        eval_strategy="steps", eval_steps=2, optim="adamw_torch_fused", max_grad_norm=0.01
    )
    trainer = make(callback, GradquakeCallback, compute_metrics=metrics)
    with pytest.warns(UserWarning, match="another callback|never logged|was not kept") as told:
        trainer.train()
    data = callback.quake.dataset.isel(run=0)
    assert np.isfinite(data["loss"]).all()
    assert np.isfinite(data["accuracy"]).values.tolist() == [False, True, False, True]
    # Clipped, as the optimizer uses it.
    assert (data["gradient_norm"] <= 0.01001).all()
    said = [str(warning.message) for warning in told]
    for name in ("report", "each", "none"):
        assert sum(f"{name} was not kept" in message for message in said) == 1
    assert any("never as 'eval_never', which was never logged" in message for message in said)
    trainer.evaluate()
    callback.on_train_end(None, None, None)


def test_without_transformers(monkeypatch):
    monkeypatch.delitem(sys.modules, "gradquake.torch.huggingface", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'needs Transformers .*: pip install "transformers\[torch\]"'):
        importlib.import_module("gradquake.torch.huggingface")
