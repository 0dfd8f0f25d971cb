"""Topplings by tensor in a study: written and read alike, and refused if they do not fit."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradquake.errors import InputError, StudyError
from gradquake.experiments import xor
from gradquake.study.recording import RunRecord, to_dataset
from gradquake.study.study import open_study
from kernel_cases import examples, seeds


def record(rng, tensors, snapshots, steps, seed=0):
    shape = (snapshots, len(tensors))
    values = {
        "size": rng.integers(0, 99, snapshots),
        "tensor_above": rng.integers(0, 9, shape),
        "tensor_topplings": rng.integers(0, 2**40, shape),
        "generation_topplings": rng.integers(0, 9, (snapshots, steps)),
    }
    config = {"n_parameters": sum(tensors.values()), "seed": seed, "labels": {}}
    return RunRecord(config, None, np.arange(snapshots), values, tensors)


@examples(25)
@given(
    names=st.lists(st.text(max_size=5), min_size=1, max_size=6, unique=True),
    snapshots=st.integers(1, 5),
    steps=st.integers(1, 4),
    seed=seeds,
)
def test_finished_and_unfinished_runs_keep_tensors(tmp_path_factory, names, snapshots, steps, seed):
    path = tmp_path_factory.mktemp("s") / "runs.sqlite"
    rng = np.random.default_rng(seed)
    tensors = {name: k + 1 for k, name in enumerate(names)}
    one, other = (record(rng, tensors, snapshots, steps, seed=s) for s in range(2))
    with open_study(path, create=True) as study:
        study.write([one])
        (token,) = study.begin([other.config], tensors=tensors)
        rows = {
            epoch: {name: of[epoch].tolist() for name, of in other.values.items()}
            for epoch in range(snapshots)
        }
        study.append({token: rows})
        (unfinished,) = study.unfinished()
        assert to_dataset([unfinished]).identical(to_dataset([other]))
        assert unfinished.tensors == tensors
        study.finish([token])
    with open_study(path) as study:
        assert study.dataset.identical(to_dataset([one, other]))
        assert [run.tensors for run in study.records()] == [tensors, tensors]


def test_the_dataset_of_a_sweep_has_the_dimension_tensor():
    runs = xor.measure(xor.sweep([3, 5], 1, epochs=20, tensors=True))
    found = to_dataset(runs)
    assert found["tensor_topplings"].dims == ("run", "epoch", "tensor")
    assert found["generation_topplings"].dims == ("run", "epoch", "cascade_step")
    assert found["tensor"].values.tolist() == ["hidden", "hidden_bias", "output", "output_bias"]
    assert found["cascade_step"].values.tolist() == list(range(1, 21))
    assert (found["tensor_topplings"].sum("tensor") == found["size"]).all()
    assert (found["generation_topplings"].sum("cascade_step") == found["size"]).all()
    assert (found["generation_topplings"].max("cascade_step") == found["peak"]).all()
    assert (found["tensor_above"].sum("tensor") == found["generation_topplings"][..., 0]).all()
    assert found["tensor_entries"].sum("tensor").values.tolist() == [13, 21]
    # The same numbers as without tensors, but for the setting.
    plain = to_dataset(xor.measure(xor.sweep([3, 5], 1, epochs=20)))
    wide = [name for name in found.variables if name not in plain.variables]
    assert found.drop_vars(wide).drop_attrs().identical(plain.drop_attrs())


def test_shapes_that_do_not_fit_the_tensors_are_refused():
    config = {"n_parameters": 3, "seed": 0}
    with pytest.raises(InputError, match="or one of each tensor"):
        RunRecord(config, None, np.arange(2), {"tensor_area": np.zeros((2, 3), int)}, {"a": 3})
    with pytest.raises(InputError, match="or one of each tensor"):
        RunRecord(config, None, np.arange(2), {"tensor_area": np.zeros(2, int)}, {"a": 3})


def test_snapshots_of_other_tensors_are_not_appended(tmp_path):
    config = {"n_parameters": 3, "seed": 0, "labels": {}}
    with open_study(tmp_path / "runs.sqlite", create=True) as study:
        (token,) = study.begin([config], tensors={"a": 1, "b": 2})
        with pytest.raises(InputError, match="each tensor"):
            study.append({token: {0: {"tensor_area": [1, 2, 3]}}})
        study.append({token: {0: {"tensor_area": [1, 2]}}})
        with pytest.raises(StudyError, match="of other tensors"):
            study.begin([config], 1, tensors={"a": 3})


def test_damaged_tensors_are_told(tmp_path):
    path = tmp_path / "runs.sqlite"
    with open_study(path, create=True) as study:
        study.write([record(np.random.default_rng(0), {"a": 1, "b": 2}, 2, 3)])
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE runs SET tensors = ?", (json.dumps({"a": 1, "c": 2}),))
    with open_study(path) as study, pytest.raises(StudyError, match="does not match its checksum"):
        study.records()


def test_a_study_of_the_schema_before_is_refused(tmp_path):
    path = tmp_path / "runs.sqlite"
    open_study(path, create=True).close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("PRAGMA user_version = 4")
    with pytest.raises(StudyError, match="has schema 4, and this version of gradquake reads schema 5"):
        open_study(path)
