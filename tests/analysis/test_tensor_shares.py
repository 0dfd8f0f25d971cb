"""Shares of tensors, before and after grokking, against sums by hand."""

import numpy as np
import pytest

from gradquake.analysis.tensors import latest_shares, tensor_shares
from gradquake.errors import InputError
from gradquake.experiments import xor
from gradquake.study.recording import RunRecord, to_dataset


def run(n, seed, topplings, grokked, tensors, epochs=None):
    topplings = np.array(topplings)
    values = {"tensor_above": topplings, "tensor_topplings": topplings, "tensor_area": topplings // 2}
    values["size"] = topplings.sum(axis=1)
    epochs = np.arange(len(topplings)) if epochs is None else np.array(epochs)
    return RunRecord({"n_parameters": n, "seed": seed}, grokked, epochs, values, tensors)


def test_shares_are_sums_over_the_phases_of_the_largest_size():
    small = run(5, 0, [[9, 9]] * 3, 0, {"a": 2, "b": 3})
    first = run(10, 0, [[2, 6, 0], [0, 0, 4], [1, 1, 2]], 1, {"a": 2, "b": 4, "c": 4})
    second = run(10, 1, [[0, 4, 4], [0, 4, 4], [8, 0, 0]], 2, {"a": 2, "b": 4, "c": 4})
    found = tensor_shares(to_dataset([small, first, second]))
    assert (found.n_parameters, found.runs, found.names) == (10, 2, ("a", "b", "c"))
    assert found.entries.tolist() == [0.2, 0.4, 0.4]
    assert found.grokking_epochs.tolist() == [1, 2]
    assert found.per_entry[:, 0].tolist() == [0.5, 1.25, 0.5]
    before = [estimate.value for estimate in found.shares["pre"]["topplings"]]
    np.testing.assert_allclose(before, [1 / 8, (6 / 8 + 1 / 2) / 2, 1 / 4])
    after = found.shares["post"]["topplings"]
    np.testing.assert_allclose([of.value for of in after], [(1 / 8 + 1) / 2, 1 / 16, 3 / 8])
    assert all(of.low <= of.value <= of.high for of in after)
    assert after[0].runs == 2


def test_runs_of_other_tensors_and_other_steps_share_a_dataset():
    one = run(3, 0, [[1, 2]], None, {"a": 1, "b": 2})
    other = run(3, 1, [[4], [2]], None, {"c": 3}, epochs=[0, 7])
    dataset = to_dataset([one, other])
    assert dataset["tensor"].values.tolist() == ["a", "b", "c"]
    assert dataset["tensor_entries"].values[1, 2] == 3
    found = tensor_shares(dataset)
    assert found.shares["post"] == {}
    np.testing.assert_array_equal(found.per_entry, [[1, np.nan], [1, np.nan], [4 / 3, 2 / 3]])
    assert [of.value for of in found.shares["all"]["topplings"]] == pytest.approx([1 / 6, 1 / 3, 1 / 2])


def test_a_sweep_without_tensors_is_refused():
    with pytest.raises(InputError, match="record them with tensors=True"):
        tensor_shares(to_dataset(xor.measure(xor.sweep([3], 1, epochs=10))))


def test_the_latest_shares_are_the_largest():
    one = run(9, 0, [[0, 0, 0], [1, 3, 6]], None, {"a": 1, "b": 2, "c": 6})
    assert latest_shares(one, 2) == {"c": 0.6, "b": 0.3}
    assert latest_shares(run(9, 0, [[0, 0, 0]], None, {"a": 1, "b": 2, "c": 6}), 2) == {}
    assert latest_shares(RunRecord({"n_parameters": 9, "seed": 0}, None, np.arange(2), {}), 2) == {}
    assert latest_shares(run(9, 0, np.zeros((0, 1), int), None, {"a": 9}), 2) == {}
