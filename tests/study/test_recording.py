"""The record of a run, its canonical key, and the Dataset of a sweep."""

import json
import math
from dataclasses import fields

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from gradquake.errors import InputError
from gradquake.experiments import synthetic, xor
from gradquake.study.configuration import config_key, sweep_settings
from gradquake.study.recording import VARIABLES, RunRecord, to_dataset

SETTINGS = {"experiment": "test", "alpha": 0.3, "topology": "ring"}
EPOCHS = np.array([0, 10, 20])

modest = settings(deadline=None, max_examples=50, derandomize=True)


def record(n_parameters, seed, grokking_epoch=None, **changed):
    config = SETTINGS | {"n_parameters": n_parameters, "seed": seed} | changed
    values = {
        name: np.full(3, n_parameters + seed).astype(kind) for name, (kind, _) in VARIABLES.items()
    }
    return RunRecord(config, grokking_epoch, EPOCHS, values)


# The key

json_values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
configs = st.dictionaries(st.text(max_size=8), json_values, max_size=6)


@modest
@given(configs)
def test_key_does_not_depend_on_the_order_of_settings(config):
    backwards = dict(reversed(config.items()))
    assert config_key(backwards) == config_key(config)


@modest
@given(configs)
def test_key_holds_the_whole_configuration(config):
    assert json.loads(config_key(config)) == config


@pytest.mark.parametrize(
    "changed",
    [{"seed": 1}, {"alpha": 0.30000000000000004}, {"topology": "Ring"}, {"new": None}],
    ids=str,
)
def test_key_differs_where_any_setting_does(changed):
    config = SETTINGS | {"n_parameters": 41, "seed": 0}
    assert config_key(config | changed) != config_key(config)


@pytest.mark.parametrize(
    "run",
    [xor.XorRun(20, 3), xor.XorRun(20, 3, observe="kicks"), synthetic.SyntheticRun(81, 3)],
    ids=str,
)
def test_a_run_configuration_survives_its_key(run):
    config = json.loads(config_key(run.config()))
    assert config == run.config()
    given = {field.name: config[field.name] for field in fields(run) if field.name in config}
    assert type(run)(**given) == run


def test_the_key_of_a_record_is_that_of_its_configuration():
    assert record(41, 0).key == config_key(record(41, 0).config)


def test_sweep_settings_are_all_but_size_and_seed():
    config = SETTINGS | {"n_parameters": 81, "hidden": 20, "seed": 3}
    assert sweep_settings(config) == SETTINGS


# The Dataset


def test_dataset_has_the_documented_dimensions_coordinates_and_attributes():
    dataset = to_dataset([record(81, 0, 12, hidden=20), record(41, 0, hidden=10)])
    assert dict(dataset.sizes) == {"run": 2, "epoch": 3}
    assert set(dataset.coords) == {"epoch", "n_parameters", "hidden", "seed", "grokking_epoch"}
    assert dataset.attrs == SETTINGS
    assert dataset["epoch"].dims == ("epoch",)
    assert dataset["epoch"].values.tolist() == EPOCHS.tolist()
    for name in ("n_parameters", "hidden", "seed"):
        assert dataset[name].dims == ("run",)
        assert dataset[name].dtype == np.int64
    assert dataset["grokking_epoch"].dtype == np.float64


def test_dataset_variables_have_the_documented_types_and_meanings():
    dataset = to_dataset([record(41, 0)])
    assert list(dataset.data_vars) == list(VARIABLES)
    for name, (kind, meaning) in VARIABLES.items():
        assert dataset[name].dims == ("run", "epoch")
        assert dataset[name].dtype == np.dtype(kind)
        assert dataset[name].attrs == {"meaning": meaning}


def test_hidden_is_a_coordinate_only_where_runs_have_it():
    assert "hidden" not in to_dataset([record(41, 0)]).coords
    assert to_dataset([record(41, 0, hidden=10)])["hidden"].values.tolist() == [10]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]], ids=str)
def test_runs_are_ordered_by_size_and_then_seed(order):
    records = [record(41, 0), record(41, 10), record(101, 2), record(101, 3)]
    dataset = to_dataset([records[i] for i in order])
    assert dataset["n_parameters"].values.tolist() == [41, 41, 101, 101]
    assert dataset["seed"].values.tolist() == [0, 10, 2, 3]
    assert dataset["size"].values[:, 0].tolist() == [41, 51, 103, 104]
    assert dataset.identical(to_dataset(records))


def test_a_run_that_never_grokked_has_nan_and_one_that_began_perfect_has_0():
    dataset = to_dataset([record(41, 0, 0), record(41, 1, None), record(41, 2, 27)])
    np.testing.assert_array_equal(dataset["grokking_epoch"].values, [0.0, np.nan, 27.0])


def test_only_what_was_measured_is_a_variable():
    full = record(41, 0)
    partial = RunRecord(full.config, None, EPOCHS, {"size": full.values["size"]})
    assert list(to_dataset([partial]).data_vars) == ["size"]


def test_dataset_shares_no_memory_with_the_records():
    one = record(41, 0)
    dataset = to_dataset([one])
    dataset["size"].values[:] = -1
    assert (one.values["size"] == 41).all()


def test_dataset_of_a_trained_sweep_is_labelled():
    runs = xor.sweep((5, 3), 2, epochs=20, every=4)
    dataset = to_dataset(xor.measure(runs))
    assert set(dataset.data_vars) == set(VARIABLES) - {"update_norm"}
    assert dataset["n_parameters"].values.tolist() == [13, 13, 21, 21]
    assert dataset["hidden"].values.tolist() == [3, 3, 5, 5]
    assert dataset["epoch"].values.tolist() == [0, 4, 8, 12, 16, 20]
    assert dataset.attrs == sweep_settings(runs[0].config())


@pytest.mark.parametrize(
    "changed", [{"alpha": 0.2}, {"topology": "torus"}, {"experiment": "other"}, {"new": 1}], ids=str
)
def test_runs_of_two_sweeps_are_refused(changed):
    with pytest.raises(InputError, match=r"differ in more than size and seed: .* choose one sweep"):
        to_dataset([record(41, 0), record(41, 1, **changed)])


def test_runs_of_other_epochs_and_variables_leave_nan_where_nothing_was_measured():
    long = record(41, 0)
    short = RunRecord(
        record(41, 1).config,
        None,
        EPOCHS[1:],
        {"size": long.values["size"][1:], "extra": EPOCHS[1:] / 2},
    )
    dataset = to_dataset([long, short])
    assert dataset["epoch"].values.tolist() == EPOCHS.tolist()
    np.testing.assert_array_equal(dataset["size"].values[0], long.values["size"])
    np.testing.assert_array_equal(dataset["size"].values[1], [np.nan, *long.values["size"][1:]])
    np.testing.assert_array_equal(dataset["extra"].values[1], [np.nan, *EPOCHS[1:] / 2])
    assert np.isnan(dataset["extra"].values[0]).all()


def test_labels_stand_on_the_runs_and_do_not_part_a_sweep():
    records = [record(41, seed, labels={"depth": seed + 1, "name": f"r{seed}"}) for seed in range(2)]
    dataset = to_dataset(records)
    assert dataset["depth"].values.tolist() == [1, 2]
    assert dataset["name"].values.tolist() == ["r0", "r1"]
    assert "labels" not in dataset.attrs


def test_no_run_is_refused():
    with pytest.raises(InputError, match="no run was given; a dataset needs at least one"):
        to_dataset([])


# Of a Dataset, what NetCDF can hold


def test_a_dataset_can_be_written_and_read_back(tmp_path):
    odd = {"sample": None, "filtered": True, "permuted": False, "layers": [1, "a"], "of": {"b": None}}
    odd |= {"rate": math.nan, "large": 10**30}
    runs = [{}, {"depth": 3, "name": "é"}, {"lr": 0.5, "name": 1, "on": True}]
    records = [record(41, seed, 7, hidden=3, labels=run, **odd) for seed, run in enumerate(runs)]
    dataset = to_dataset(records)
    path = tmp_path / "runs"
    dataset.to_netcdf(path, engine="scipy")
    with xr.open_dataset(path, engine="scipy") as read:
        xr.testing.assert_equal(read, dataset)
        assert read.attrs.keys() == dataset.attrs.keys() == (SETTINGS | odd).keys() - {"sample"}
        for name in SETTINGS:
            assert read.attrs[name] == SETTINGS[name]
        assert (read.attrs["filtered"], read.attrs["permuted"]) == (1, 0)
        assert json.loads(read.attrs["layers"]) == odd["layers"]
        assert json.loads(read.attrs["of"]) == odd["of"]
        assert read["name"].values.tolist() == ["", "é", "1"]
        np.testing.assert_array_equal(read["depth"].values, [np.nan, 3, np.nan])


def test_large_labels_are_whole():
    large = 2**60 + 1
    dataset = to_dataset([record(41, 0, labels={"id": large}), record(41, 1, labels={"id": 7})])
    assert dataset["id"].values.tolist() == [large, 7]
    dataset = to_dataset([record(41, 0, labels={"id": large}), record(41, 1)])
    assert dataset["id"].values.tolist() == [str(large), ""]
    dataset = to_dataset([record(41, 0, labels={"id": 2**99}), record(41, 1, labels={"id": 7})])
    assert dataset["id"].values.tolist() == [str(2**99), "7"]


def test_a_label_hides_no_measurement_and_no_other_label():
    values = record(41, 0).values
    labels = {"size": 1, "label_size": 2, "epoch": 3, "run": 4, "seed": 5}
    dataset = to_dataset([RunRecord(record(41, 0, labels=labels).config, None, EPOCHS, values)])
    assert dataset["size"].dims == ("run", "epoch")
    found = [dataset[name].item() for name in ("label_size", "label_label_size", "label_epoch")]
    assert sorted(found) == [1, 2, 3]
    assert (dataset["label_run"].item(), dataset["label_seed"].item()) == (4, 5)


@pytest.mark.parametrize(
    ("epochs", "values", "said"),
    [
        ([0, 0], [1, 2], "epochs are not ascending integers"),
        ([1, 0], [1, 2], "epochs are not ascending integers"),
        ([0.0, 1.0], [1, 2], "epochs are not ascending integers"),
        ([[0, 1]], [[1, 2]], "epochs are not ascending integers"),
        ([0, 1], [1], r"2 epochs and measurements of shape \(1,\); one of each name at each epoch"),
    ],
)
def test_arrays_that_are_not_those_of_a_run_are_refused(epochs, values, said):
    with pytest.raises(InputError, match=said):
        RunRecord(record(41, 0).config, None, np.array(epochs), {"size": np.array(values)})


def test_settings_that_are_nan_are_one_sweep():
    assert to_dataset([record(41, s, rate=float("nan")) for s in range(2)]).sizes["run"] == 2
