"""The probe is a guest: whatever fails in it, training goes on as if it were not there."""

import copy
import os
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import gradquake.torch as gqt
from gradquake import InputError, Probe, StudyError, open_study
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


def test_a_study_whose_file_is_deleted_is_told_and_training_goes_on(tmp_path, alone):
    path = tmp_path / "runs.sqlite"
    weights, quake, said = guest(study=path, midway=path.unlink)
    assert same(weights, alone)
    assert any("runs.sqlite does not exist" in message for message in said)
    assert not quake.attached


def test_bad_input_is_raised_before_training_begins(tmp_path):
    model = network()
    with pytest.raises(InputError, match="labels names size"):
        gqt.attach(model, Plain(model.parameters()), labels={"size": 1})
    with pytest.raises(StudyError, match="is a folder"):
        gqt.attach(model, Plain(model.parameters()), study=tmp_path)


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
