"""The probe is a guest: whatever fails in it, training goes on as if it were not there."""

import copy
import gc
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import gradquake.torch as gqt
from gradquake import InputError, Probe, StudyError, open_study
from gradquake.study.study import Study
from gradquake.torch import journal, measurement, recorder
from gradquake.torch import quake as hook
from gradquake.torch.gradients import FlatGradient

X = torch.linspace(-1, 1, 64).reshape(16, 4)
STEPS = 6


class BrokenError(Exception):
    """What a stage of the probe raises here."""


def broken(*_, **__):
    raise BrokenError("out of order")


def no_memory(*_, **__):
    raise MemoryError


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


class Plain(torch.optim.Optimizer):
    """Gradient descent with attributes of its own."""

    def __init__(self, parameters, **own):
        super().__init__(parameters, {})
        self.__dict__.update(own)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=0.1)


def train(model, optimizer, quake=None, midway=lambda: None):
    for step in range(STEPS):
        if step == 3:
            midway()
        optimizer.zero_grad()
        loss = model(X).square().mean()
        loss.backward()
        optimizer.step()
        if quake is not None:
            quake.log(loss=loss, note=step)
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.fixture(scope="module")
def alone():
    model = network()
    return train(model, Plain(model.parameters()))


def guest(own=(), midway=lambda: None, **options):
    """Train with a probe; return the weights, the probe and everything that was said."""
    model = network()
    optimizer = Plain(model.parameters(), **dict(own))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with gqt.attach(model, optimizer, **{"every": 1, **options}) as quake:
            weights = train(model, optimizer, quake, midway)
    return weights, quake, [str(warning.message) for warning in said]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# Every stage fails

STAGES = {
    "the schedule": (hook.Quake, "_on_step"),
    "reading": (FlatGradient, "read"),
    "the measurement": (measurement.Measurement, "avalanche"),
    "the nulls": (measurement.Measurement, "null"),
    "what a null is drawn by": (measurement, "surrogate"),
    "keeping": (journal.Journal, "keep"),
    "having it written": (journal.Journal, "_have_it_written"),
    "the thread": (journal.Journal, "flush"),
    "opening the study": (journal, "open_study"),
    "the scaler": (hook, "scaling"),
    "outcomes": (recorder, "check_outcome"),
    "the accuracy": (recorder.Recorder, "add_outcomes"),
    "the scalars": (recorder.Recorder, "_send"),
    "closing": (journal.Journal, "close"),
    "the summary": (hook.Quake, "_say_what_was_not_measured"),
}


@pytest.mark.parametrize("fault", [broken, no_memory])
@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_that_fails_ends_or_changes_a_training(tmp_path, monkeypatch, alone, stage, fault):
    monkeypatch.setattr(journal, "FLUSH_EVERY", 0.01)

    def fail():
        # Only once training runs: before it, what is wrong is raised.
        monkeypatch.setattr(*STAGES[stage], fault)

    weights, _, said = guest(midway=fail, study=tmp_path / "runs.sqlite", nulls=["permuted"])
    monkeypatch.undo()
    assert same(weights, alone)
    assert 1 <= len(said) <= 4
    named = "BrokenError: out of order" if fault is broken else "MemoryError"
    assert any(named in message for message in said)
    with open_study(tmp_path / "runs.sqlite") as study:
        kept = [*study.records(), *study.unfinished()]
    # What was measured before is not lost, unless nothing could be written any more.
    steps = kept[0].epochs.tolist()[:3] if kept else []
    assert steps == [0, 1, 2][: len(steps)]
    assert len(steps) == 3 or stage in ("the thread", "opening the study", "closing")


def _schedule(step):
    return 1 // (step - 2) >= -9


FAULTS = {
    "a logger": {"loggers": [broken]},
    "a schedule": {"every": _schedule},
    "an optimizer's own grad_scale": {"own": {"grad_scale": 2.0}},
    "an optimizer's own found_inf": {"own": {"found_inf": [1.0]}},
    "a scaler's attributes of an odd kind": {
        "own": {"found_inf": torch.ones(2), "grad_scale": "2", "_step_supports_amp_scaling": True}
    },
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_user_hands_over_may_fail(alone, fault):
    weights, quake, said = guest(**FAULTS[fault])
    assert same(weights, alone)
    assert len(quake.dataset["epoch"]) == STEPS - quake.skipped
    if "attributes" in fault or "own" in fault:
        assert (quake.skipped, said) == (0, [])
    else:
        assert len(said) == 1


def test_a_step_that_failed_is_told_with_its_number_and_counts_as_not_measured(alone):
    weights, quake, said = guest(every=_schedule)
    assert same(weights, alone)
    reason = "ZeroDivisionError: integer division or modulo by zero"
    assert said == [f"step 2 was not measured: {reason}; training goes on"]
    assert quake.skipped == 1
    assert quake.dataset["epoch"].values.tolist() == [0, 1, 3, 4, 5]


def test_a_logger_that_fails_is_told_once_and_loses_no_measurement():
    got = []
    _, quake, said = guest(loggers=[broken, lambda _, step: got.append(step)])
    assert said == [
        "a logger failed at step 0: BrokenError: out of order; the measurement is kept",
    ]
    assert quake.dataset["epoch"].values.tolist() == list(range(STEPS))
    assert sorted(set(got)) == list(range(STEPS))


def test_what_fails_is_raised_if_that_is_wanted(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        guest(every=_schedule, errors="raise")
    with pytest.raises(BrokenError):
        guest(loggers=[broken], errors="raise")
    monkeypatch.setattr(measurement.Measurement, "null", broken)
    with pytest.raises(BrokenError):
        guest(nulls=["gaussian"], errors="raise")


def test_inline_raises_rather_than_train_on_what_was_not_relaxed(monkeypatch):
    def fail():
        monkeypatch.setattr(measurement.Measurement, "avalanche", broken)

    with pytest.raises(BrokenError):
        guest(inline=True, midway=fail)


@pytest.mark.parametrize("inline", [False, True])
def test_warnings_that_are_errors_end_nothing(alone, capsys, inline):
    model = network()
    optimizer = Plain(model.parameters())
    with gqt.attach(model, optimizer, every=1, inline=inline, loggers=[broken]) as quake:
        weights = train(model, optimizer, quake)
        quake.log(loss="none")
    assert capsys.readouterr().err.splitlines() == [
        "gradquake: a logger failed at step 0: BrokenError: out of order; the measurement is kept",
        "gradquake: loss was not kept: loss is 'none'; one number is needed",
    ]
    assert inline or same(weights, alone)


def test_numpy_errors_of_the_user_change_no_measurement():
    sizes = []
    for setting in ("warn", "raise"):
        with np.errstate(all=setting):
            model = network()
            optimizer = Plain(model.parameters())
            with gqt.attach(model, optimizer, every=1, nulls=["gaussian", "permuted"]) as quake:
                for _ in range(3):
                    optimizer.zero_grad()
                    (1e-38 * model(X).square().mean()).backward()
                    optimizer.step()
        assert quake.skipped == 0
        sizes.append([quake.dataset_of(name)["size"].values.tolist() for name in ("real", "gaussian")])
    assert sizes[0] == sizes[1]


def test_a_model_that_changes_after_attach_is_told():
    model = network()
    optimizer = Plain(model.parameters())
    quake = gqt.attach(model, optimizer, every=1)

    def step():
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()

    step()
    optimizer.zero_grad()
    model[0].weight.data = model[0].weight.data[:4].clone()
    model[0].bias.data = model[0].bias.data[:4].clone()
    model[2].weight.data = model[2].weight.data[:, :4].clone()
    with pytest.warns(UserWarning, match="step 1 was not measured: 0.weight has 16 entries and had 32"):
        step()
    step()
    with pytest.warns(UserWarning, match="2 steps were not measured, the first at step 1: 0.weight"):
        quake.detach()
    assert quake.dataset["epoch"].values.tolist() == [0]


def test_a_null_that_overflows_is_named_and_the_gradient_is_measured():
    model = nn.Module()
    model.p = nn.Parameter(torch.zeros(5000))
    torch.manual_seed(0)
    gradient = (torch.rand(5000) * 2 - 1) * 3e38
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    nulls = ["gaussian_per_tensor", "permuted"]
    quake = gqt.attach(model, optimizer, every=1, nulls=nulls, probe=Probe("ring"))
    model.p.grad = gradient.clone()
    with pytest.warns(UserWarning, match="the null gaussian_per_tensor was not measured at step 0"):
        optimizer.step()
    optimizer.step()
    with pytest.warns(UserWarning, match="the null gaussian_per_tensor was not measured at 2 steps"):
        quake.detach()
    assert quake.skipped == 0
    assert quake.dataset["epoch"].values.tolist() == [0, 1]
    assert quake.dataset_of("permuted")["epoch"].values.tolist() == [0, 1]


# Nothing measured is never silent


class TwoStep(torch.optim.Optimizer):
    """Steps as SAM does, without its mathematics."""

    def __init__(self, parameters, name):
        super().__init__(parameters, {})
        setattr(self, name, torch.optim.SGD(self.param_groups, lr=0.1))
        self.inner = getattr(self, name)

    def first_step(self):
        self.zero_grad()

    def second_step(self):
        self.inner.step()
        self.zero_grad()


@pytest.mark.parametrize("name", ["base_optimizer", "optimizer", "base", "_inner"])
def test_an_optimizer_that_hands_on_is_measured_inside(name):
    model = network()
    optimizer = TwoStep(model.parameters(), name)
    with gqt.attach(model, optimizer, every=1) as quake:
        for _ in range(3):
            model(X).square().mean().backward()
            optimizer.first_step()
            model(X).square().mean().backward()
            optimizer.second_step()
    assert quake.dataset["epoch"].values.tolist() == [0, 1, 2]


def test_an_optimizer_that_is_never_stepped_is_told(tmp_path):
    model = network()
    optimizer = Plain(model.parameters())
    replaced = torch.optim.SGD(model.parameters(), lr=0.1)
    quake = gqt.attach(model, optimizer, every=1, study=tmp_path / "runs.sqlite")
    train(model, replaced)
    with pytest.warns(UserWarning, match="no step of this optimizer was seen, so nothing was measured"):
        quake.detach()
    with open_study(tmp_path / "runs.sqlite") as study:
        assert (study.records(), study.unfinished()) == ([], [])


def test_a_schedule_that_chooses_no_step_is_told():
    model = network()
    optimizer = Plain(model.parameters())
    quake = gqt.attach(model, optimizer, every=lambda _: False)
    train(model, optimizer)
    with pytest.warns(UserWarning, match="nothing was measured: `every` chose none of the 6 steps"):
        quake.detach()


def test_the_study_stays_where_it_was_made_when_training_changes_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    guest(study="runs.sqlite", midway=lambda: os.chdir("run"))
    with open_study(tmp_path / "runs.sqlite") as study:
        assert study.dataset["epoch"].values.tolist() == list(range(STEPS))
    assert not (tmp_path / "run" / "runs.sqlite").exists()


# What is logged


def test_an_accuracy_in_percent_gives_no_grokking_epoch(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = Plain(model.parameters())
    with gqt.attach(model, optimizer, every=1, study=path) as quake:
        for accuracy in (0.8, 1.0, 3.1, 99.9):
            model(X).square().mean().backward()
            optimizer.step()
            if accuracy == 3.1:
                # The 1 % that passed for 1 is in the study already.
                assert quake.dataset["grokking_epoch"].item() == 1
                with pytest.warns(UserWarning, match="accuracy is 3.1 and grokked_at is 1, so this"):
                    quake.log(accuracy=accuracy)
            else:
                quake.log(accuracy=accuracy)
    with open_study(path) as study:
        assert np.isnan(study.dataset["grokking_epoch"].item())
        assert study.dataset["accuracy"].values.tolist() == [[0.8, 1.0, 3.1, 99.9]]


def test_an_accuracy_in_percent_with_its_own_mark_gives_one():
    model = network()
    optimizer = Plain(model.parameters())
    with gqt.attach(model, optimizer, every=1, grokked_at=99) as quake:
        for accuracy in (0.8, 3.1, 99.9):
            model(X).square().mean().backward()
            optimizer.step()
            quake.log(accuracy=accuracy)
    assert quake.dataset["grokking_epoch"].item() == 2


# Labels as people have them


def test_labels_of_a_parser_become_text_or_are_left_out_and_it_is_said_once(tmp_path):
    given = {
        "lr": np.float32(0.5), "width": torch.tensor(3), "resume": None, "fast": True, "data": tmp_path,
        "betas": (0.9, 0.98), "dtype": torch.float32, "limit": float("inf"), "name": "a", "seed": 7,
        "model": nn.Linear(1, 1), "extra": {"a": 1},
    }  # fmt: skip
    _, quake, said = guest(labels=given, study=tmp_path / "runs.sqlite")
    assert said == [
        "labels: kept as text: resume, fast, data, betas, dtype, limit; "
        "left out, neither text nor a number: model, extra"
    ]
    labels = {
        "lr": 0.5, "width": 3, "resume": "None", "fast": "True", "data": str(tmp_path),
        "betas": "(0.9, 0.98)", "dtype": "torch.float32", "limit": "inf", "name": "a",
    }  # fmt: skip
    assert quake.config["labels"] == labels
    assert quake.config["seed"] == 7
    with open_study(tmp_path / "runs.sqlite") as study:
        assert study.dataset["betas"].values.tolist() == ["(0.9, 0.98)"]


@pytest.mark.parametrize("seed", [-1, None])
def test_a_seed_that_seeds_nothing_becomes_a_label(seed):
    _, quake, said = guest(labels={"seed": seed})
    assert quake.config["seed"] == 0
    assert quake.config["labels"] == {"seed_given": str(seed)}
    kept = f"the probe uses seed 0, and the label seed_given keeps {seed}"
    assert said == [f"the label seed is {seed}, which fixes nothing; {kept}"]


# The study


def test_a_forgotten_probe_leaves_what_it_measured(tmp_path):
    path = tmp_path / "runs.sqlite"

    def forget():
        model = network()
        optimizer = Plain(model.parameters())
        gqt.attach(model, optimizer, every=1, study=path)
        train(model, optimizer)

    before = set(threading.enumerate())
    forget()
    threads = set(threading.enumerate()) - before
    assert len(threads) == 1
    gc.collect()
    deadline = time.monotonic() + 60
    found = []
    while not found and time.monotonic() < deadline:
        time.sleep(0.05)
        with open_study(path) as study:
            found = [record.epochs.tolist() for record in study.unfinished()]
    assert found == [list(range(STEPS))]
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_no_step_waits_for_a_study_that_another_process_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_EVERY", 0.05)
    monkeypatch.setattr(journal, "SHORT_PATIENCE", 0.2)
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = Plain(model.parameters())
    quake = gqt.attach(model, optimizer, every=1, study=path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    # A step that waited for the lock would wait until this test lets go of it: for ever.

    def go_on():
        for _ in range(40):
            train(model, optimizer, quake)
            time.sleep(0.02)

    with pytest.warns(UserWarning, match="locked.*measurements stay in memory"):
        go_on()
    other.execute("ROLLBACK")
    other.close()
    quake.detach()
    with open_study(path) as study:
        assert study.dataset.sizes["epoch"] == 40 * STEPS


def test_a_study_whose_file_is_deleted_is_told_and_training_goes_on(tmp_path, alone):
    path = tmp_path / "runs.sqlite"
    weights, quake, said = guest(study=path, midway=path.unlink)
    assert same(weights, alone)
    assert any("runs.sqlite does not exist" in message for message in said)
    assert not quake.attached


def test_a_run_that_was_never_measured_blocks_nothing(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    with pytest.raises(NameError), gqt.attach(model, Plain(model.parameters()), study=path):
        raise NameError("lossfn")
    guest(study=path)
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == list(range(STEPS))
        assert study.unfinished() == []


def test_a_finished_run_is_trained_longer(tmp_path):
    path = tmp_path / "runs.sqlite"
    for step in (None, STEPS):
        _, _, said = guest(study=path, step=step, every=2, nulls=["permuted"])
        assert said == []
    with open_study(path) as study:
        for name in ("real", "permuted"):
            found = study.select(surrogate=name)
            assert found["epoch"].values.tolist() == list(range(0, 2 * STEPS, 2))
    with pytest.raises(StudyError, match="would remove finished measurements"):
        guest(study=path, step=2, every=2, nulls=["permuted"])


def test_without_a_thread_everything_is_written_at_the_end(tmp_path):
    code = f"""
import resource, threading, torch, gradquake.torch as gqt
torch.set_num_threads(1)
model = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for p in model.parameters():
    p.grad = torch.ones_like(p)
def start(self):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
with gqt.attach(model, optimizer, every=1, study={str(tmp_path / "r.sqlite")!r}):
    for _ in range(3):
        optimizer.step()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    with open_study(tmp_path / "r.sqlite") as study:
        assert study.dataset["epoch"].values.tolist() == [0, 1, 2]


def test_bad_input_is_raised_before_training_begins(tmp_path):
    model = network()
    with pytest.raises(InputError, match="labels names size"):
        gqt.attach(model, Plain(model.parameters()), labels={"size": 1})
    with pytest.raises(StudyError, match="is a folder"):
        gqt.attach(model, Plain(model.parameters()), study=tmp_path)


def test_a_run_that_another_process_took_over_is_told_once_and_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_EVERY", 0.05)
    path = tmp_path / "runs.sqlite"
    model, other = network(), network()
    optimizer = Plain(model.parameters())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        quake = gqt.attach(model, optimizer, every=1, study=path)
        train(model, optimizer, quake)
        quake.dataset  # noqa: B018
        second = gqt.attach(other, Plain(other.parameters()), every=1, study=path, step=0)
        for _ in range(20):
            train(model, optimizer, quake)
            time.sleep(0.02)
        quake.detach()
    second.detach(finished=False)
    (told,) = [str(warning.message) for warning in said]
    assert told.endswith("another process continued it; this process no longer records its measurements")
    assert quake._journal not in journal._OPEN


def test_what_a_forgotten_probe_could_not_write_is_written_at_exit(tmp_path):
    code = f"""
import gc, sqlite3, threading, time, torch, gradquake.torch as gqt
from gradquake import open_study
from gradquake.torch import journal
STUDY = {str(tmp_path / "r.sqlite")!r}
journal.PATIENCE, journal.SHORT_PATIENCE, journal.FLUSH_EVERY = 0.5, 0.1, 0.05
def forget():
    model = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gqt.attach(model, optimizer, every=1, study=STUDY)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    for _ in range(3):
        optimizer.step()
    other.execute("BEGIN IMMEDIATE")
open_study(STUDY, create=True).close()
other = sqlite3.connect(STUDY, isolation_level=None)
forget()
gc.collect()
while any(t.name == "gradquake journal" for t in threading.enumerate()):
    time.sleep(0.05)
other.execute("ROLLBACK")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with open_study(tmp_path / "r.sqlite") as study:
        assert [record.epochs.tolist() for record in study.unfinished()] == [[0, 1, 2]]


def test_a_handler_that_detaches_while_a_write_is_interrupted_hangs_on_nothing(tmp_path, monkeypatch):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = Plain(model.parameters())
    quake = gqt.attach(model, optimizer, every=1, study=path)
    train(model, optimizer, quake)
    really = journal.open_study

    def interrupted(*arguments, **options):
        monkeypatch.setattr(journal, "open_study", really)
        quake.detach(finished=False)
        return really(*arguments, **options)

    monkeypatch.setattr(journal, "open_study", interrupted)
    with pytest.warns(UserWarning, match="the code that was interrupted is writing the study"):
        quake.detach()
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == list(range(STEPS))


def test_a_label_that_is_a_set_is_the_same_text_in_every_process():
    _, quake, _ = guest(labels={"tasks": {"sst", "mnli", "qqp"}})
    assert quake.config["labels"] == {"tasks": "{'mnli', 'qqp', 'sst'}"}


def test_what_is_logged_is_printed_only_if_it_is_no_number():
    class Value(float):
        def __repr__(self):
            raise AssertionError

    model = network()
    optimizer = Plain(model.parameters())
    with gqt.attach(model, optimizer, every=1) as quake:
        for _ in range(2):
            model(X).square().mean().backward()
            optimizer.step()
            quake.log(loss=Value(0.5))
    assert quake.dataset["loss"].values.tolist() == [[0.5, 0.5]]


def test_inline_says_at_once_that_a_gradient_could_not_be_relaxed():
    model = network()
    optimizer = Plain(model.parameters())
    quake = gqt.attach(model, optimizer, every=1, inline=True)
    model(X).square().mean().backward()
    model[0].weight.grad[0, 0] = torch.nan
    with pytest.warns(
        UserWarning, match="step 0 was not relaxed: .* the optimizer gets the gradient unchanged"
    ):
        optimizer.step()
    with pytest.warns(UserWarning, match="1 step was not measured"):
        quake.detach()


def test_a_warning_points_at_the_line_of_the_user():
    model = network()
    optimizer = Plain(model.parameters())
    quake = gqt.attach(model, optimizer, every=1, loggers=[broken])
    with pytest.warns(UserWarning, match="a logger failed") as said:
        train(model, optimizer)
    quake.detach()
    assert {warning.filename for warning in said} == {__file__}


def test_an_inner_optimizer_of_a_shard_is_not_the_whole():
    model = network()
    optimizer = Plain(model.parameters(), optim=torch.optim.SGD(model[0].parameters(), lr=0.1))
    with gqt.attach(model, optimizer, every=1) as quake:
        train(model, optimizer)
    assert quake.n_parameters == 49


def test_parameters_that_are_trained_and_not_measured_are_told():
    model, other = network(), nn.Linear(1, 1)
    model[0].requires_grad_(False)
    optimizer = Plain([*model.parameters(), *other.parameters()])
    with pytest.warns(UserWarning, match="also updates 2 parameters outside this model"):
        quake = gqt.attach(model, optimizer, every=1)

    def step():
        optimizer.zero_grad()
        (model(X) + other(X[:, :1])).square().mean().backward()
        for parameter in model[0].parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        optimizer.step()

    step()
    model[0].requires_grad_(True)
    with pytest.warns(UserWarning, match="at step 1 the optimizer trains 2 parameters more than when"):
        step()
    # Once.
    step()
    quake.detach()
    assert quake.dataset["epoch"].values.tolist() == [0, 1, 2]
    assert quake.n_parameters == 9


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_that_holds_its_probe_can_be_copied(tmp_path, copied):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = Plain(model.parameters())
    model.quake = gqt.attach(model, optimizer, every=1, study=path, loggers=[lambda *_: None])
    train(model, optimizer)
    other = copied(model)
    assert not other.quake.attached
    train(other, Plain(other.parameters()))
    with pytest.warns(UserWarning, match="loss was not kept: the probe is detached"):
        other.quake.log(loss=1.0)
    other.quake.detach()
    train(model, optimizer)
    model.quake.detach()
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == list(range(2 * STEPS))


SCRIPT = """
import multiprocessing, os, sys, threading, torch, gradquake.torch as gqt
from gradquake.torch import journal
journal.FLUSH_EVERY = {every}
path = {path!r}
torch.set_num_threads(1)
def begin(run):
    model = torch.nn.Linear(4, 2)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return optimizer, gqt.attach(model, optimizer, every=1, study=path, labels={{"name": run}})
"""


def _run(tmp_path, code, every=60.0):
    path = tmp_path / "runs.sqlite"
    whole = SCRIPT.format(path=str(path), every=every) + code
    subprocess.run([sys.executable, "-W", "error", "-c", whole], check=True, timeout=60)
    with open_study(path) as study:
        finished, unfinished = study.records(), study.unfinished()
    return [
        {record.config["labels"]["name"]: len(record.epochs) for record in records}
        for records in (finished, unfinished)
    ]


def test_a_process_that_multiprocessing_forked_keeps_what_it_measured(tmp_path):
    code = """
def train():
    optimizer, quake = begin("child")
    optimizer.step()
optimizer, quake = begin("parent")
optimizer.step()
process = multiprocessing.get_context("fork").Process(target=train)
process.start()
process.join()
optimizer.step()
quake.detach()
"""
    assert _run(tmp_path, code) == [{"parent": 2}, {"child": 1}]


def test_what_is_lost_at_the_end_is_told_once(tmp_path):
    code = """
optimizer, quake = begin("a")
optimizer.step()
os.unlink(path)
"""
    whole = SCRIPT.format(path=str(tmp_path / "runs.sqlite"), every=60.0) + code
    done = subprocess.run([sys.executable, "-c", whole], check=True, capture_output=True, text=True)
    assert done.stderr.count("does not exist; a study file is needed; what was measured") == 1


def test_several_threads_may_fork(tmp_path):
    code = """
optimizer, quake = begin("a")
def fork():
    for _ in range(30):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
threads = [threading.Thread(target=fork) for _ in range(3)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    optimizer.step()
for thread in threads:
    thread.join()
steps = quake.step
quake.detach()
assert len(quake.dataset["epoch"]) == steps
"""
    assert list(_run(tmp_path, code, every=0.001)[0]) == ["a"]


def test_an_interrupt_while_a_lock_is_taken_leaves_no_lock_behind(tmp_path):
    # As a signal does, between the taking of a condition's lock and the block that it guards.
    code = """
optimizer, quake = begin("a")
optimizer.step()
def interrupt(frame, event, argument):
    where = frame.f_code.co_filename, frame.f_code.co_name
    if event == "c_return" and where == (threading.__file__, "__enter__"):
        sys.setprofile(None)
        raise KeyboardInterrupt
sys.setprofile(interrupt)
try:
    optimizer.step()
    quake.log(loss=1.0, accuracy=1.0)
    quake.detach(finished=True)
except KeyboardInterrupt:
    pass
sys.setprofile(None)
quake.detach()
"""
    assert _run(tmp_path, code) == [{"a": 2}, {}]


def test_an_interrupt_just_after_a_run_was_finished_is_no_loss(tmp_path, monkeypatch, capsys):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = Plain(model.parameters())
    quake = gqt.attach(model, optimizer, every=1, study=path)
    train(model, optimizer)
    finish = Study.finish

    def interrupted(*args):
        finish(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Study, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quake.detach()
    quake.detach()
    assert capsys.readouterr().err == ""
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == list(range(STEPS))


def test_a_study_of_unfinished_runs_says_how_they_are_finished(tmp_path):
    model = network()
    optimizer = Plain(model.parameters())
    quake = gqt.attach(model, optimizer, every=1, study=tmp_path / "runs.sqlite")
    train(model, optimizer)
    quake.detach(finished=False)
    with open_study(tmp_path / "runs.sqlite") as study:
        for ask in (study.select, study.with_nulls):
            with pytest.raises(StudyError, match=r"holds unfinished runs only.*or calls detach\(\)"):
                ask()
