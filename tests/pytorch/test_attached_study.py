"""Runs that ``attach`` records: sweeps, interrupted runs, and runs that are continued."""

import copy

import numpy as np
import pytest
from loops import network, sgd, train

import gradquake.torch as gqt
from gradquake import InputError, StudyError, open_study


def test_runs_of_three_sizes_make_a_sweep_with_its_nulls(tmp_path):
    path = tmp_path / "runs.sqlite"
    for width in (4, 8, 16):
        for seed in range(2):
            model = network(seed, width)
            optimizer = sgd(model)
            labels = {"width": width, "seed": seed}
            with gqt.attach(
                model, optimizer, every=2, study=path, labels=labels, nulls=["permuted"]
            ) as quake:
                train(model, optimizer, 5, quake)
    with open_study(path) as study:
        real, null = study.select(surrogate="real"), study.select(surrogate="permuted")
        assert study.unfinished() == []
    assert real["width"].values.tolist() == [4, 4, 8, 8, 16, 16]
    assert real["seed"].values.tolist() == [0, 1] * 3
    assert real["epoch"].values.tolist() == [0, 2, 4]
    assert np.isfinite(real["loss"].values).all()
    assert (null["threshold"].values == real["threshold"].values).all()


def test_surrogates_of_a_step_do_not_depend_on_which_steps_are_measured():
    found = []
    for every in (1, 3):
        model = network()
        optimizer = sgd(model)
        with gqt.attach(model, optimizer, every=every, nulls=["permuted"]) as quake:
            train(model, optimizer)
        found.append(quake.dataset_of("permuted")["size"].sel(epoch=[0, 3]).values)
    np.testing.assert_array_equal(*found)


def test_an_interrupted_run_stays_and_is_continued_to_the_same_numbers(tmp_path):
    def attach(model, optimizer, path, **more):
        return gqt.attach(model, optimizer, every=2, study=path, nulls=["permuted"], **more)

    model = network()
    optimizer = sgd(model)
    with attach(model, optimizer, tmp_path / "whole.sqlite") as quake:
        train(model, optimizer, 10, quake)

    path, model = tmp_path / "parts.sqlite", network()
    optimizer = sgd(model)
    with pytest.raises(KeyboardInterrupt), attach(model, optimizer, path) as quake:  # noqa: PT012
        train(model, optimizer, 4, quake)
        checkpoint = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        train(model, optimizer, 3, quake)
        raise KeyboardInterrupt
    with open_study(path) as study:
        assert [r.epochs.tolist() for r in study.unfinished()] == [[0, 2, 4, 6]] * 2
    with pytest.raises(StudyError, match="measured to step 6; give the step to continue it from"):
        attach(model, optimizer, path)
    model.load_state_dict(checkpoint[0])
    optimizer.load_state_dict(checkpoint[1])
    with attach(model, optimizer, path, step=4) as quake:
        train(model, optimizer, 6, quake)
    for rung in ("real", "permuted"):
        whole, parts = (open_study(p).select(surrogate=rung) for p in (tmp_path / "whole.sqlite", path))
        assert whole.identical(parts)
    with pytest.raises(
        StudyError, match=r"holds the finished run seed=0 already; to .* another label or"
    ):
        attach(model, optimizer, path)


def test_what_is_missing_before_a_continued_run_is_said(tmp_path):
    path = tmp_path / "runs.sqlite"

    model = network()
    parts = model, sgd(model)

    def attach(step, every=10, **more):
        return gqt.attach(*parts, every=every, study=path, step=step, **more)

    attach(0).detach(finished=False)
    said = (
        r"runs.sqlite holds no earlier snapshot of the run seed=0; it begins at step 20, and the steps"
    )
    with pytest.warns(UserWarning, match=said):
        quake = attach(20)
    train(*parts, 1)
    quake.detach(finished=False)
    attach(30).detach(finished=False)
    said = "holds the run seed=0 to step 20; it is continued at 31, and the steps between are missing"
    with pytest.warns(UserWarning, match=said):
        attach(31).detach(finished=False)
    with pytest.warns(UserWarning, match="no earlier snapshot of the run width=3, seed=0; it begins"):
        attach(5, gqt.logarithmic(5), labels={"width": 3}).detach(finished=False)


def test_the_first_success_is_written_where_no_snapshot_follows(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, every=100, study=path) as quake:
        train(model, optimizer, 1)
        assert quake.dataset.sizes["epoch"] == 1
        train(model, optimizer, 1)
        quake.log(accuracy=0.5)
        train(model, optimizer, 1)
        quake.log(accuracy=1.0)
    with open_study(path) as study:
        assert study.dataset["grokking_epoch"].item() == 2


def test_a_run_has_one_writer(tmp_path):
    path = tmp_path / "runs.sqlite"
    model, other = network(), network()
    optimizer = sgd(model)
    first = gqt.attach(model, optimizer, study=path)
    train(model, optimizer, 1)
    second = gqt.attach(other, sgd(other), study=path)
    with pytest.warns(UserWarning, match="another process continued it"):
        first.detach(finished=False)
    second.detach()


def test_the_first_success_survives_an_interruption(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1, study=path)
    for accuracy in (0.5, 1.0, 1.0):
        train(model, optimizer, 1)
        quake.log(accuracy=accuracy)
    quake.detach(finished=False)
    with gqt.attach(model, optimizer, every=1, study=path, step=np.int64(3)) as quake:
        train(model, optimizer, 1)
        quake.log(accuracy=1.0)
    with open_study(path) as study:
        assert study.dataset["grokking_epoch"].values.tolist() == [1]
        assert study.dataset["epoch"].values.tolist() == [0, 1, 2, 3]


def test_a_refused_attachment_leaves_no_study(tmp_path):
    model = network()
    with pytest.raises(InputError):
        gqt.attach(model, sgd(model), study=tmp_path / "r.sqlite", probe=7)
    assert not (tmp_path / "r.sqlite").exists()


def trained(path, **options):
    model = network()
    optimizer = sgd(model)
    with gqt.attach(model, optimizer, **{"every": 1, "study": path, **options}) as quake:
        train(model, optimizer, 6, quake)


def test_a_run_that_was_never_measured_blocks_nothing(tmp_path):
    path = tmp_path / "runs.sqlite"
    model = network()
    with pytest.raises(NameError), gqt.attach(model, sgd(model), study=path):
        raise NameError("lossfn")
    trained(path)
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == list(range(6))
        assert study.unfinished() == []


def test_a_finished_run_is_trained_longer(tmp_path):
    path = tmp_path / "runs.sqlite"
    for step in (None, 6):
        trained(path, step=step, every=2, nulls=["permuted"])
    with open_study(path) as study:
        for name in ("real", "permuted"):
            found = study.select(surrogate=name)
            assert found["epoch"].values.tolist() == list(range(0, 12, 2))
    with pytest.raises(StudyError, match="would remove finished measurements"):
        trained(path, step=2, every=2, nulls=["permuted"])


def test_a_study_of_unfinished_runs_says_how_they_are_finished(tmp_path):
    model = network()
    optimizer = sgd(model)
    quake = gqt.attach(model, optimizer, every=1, study=tmp_path / "runs.sqlite")
    train(model, optimizer)
    quake.detach(finished=False)
    with open_study(tmp_path / "runs.sqlite") as study:
        for ask in (study.select, study.with_nulls):
            with pytest.raises(StudyError, match=r"holds unfinished runs only.*or calls detach\(\)"):
                ask()
