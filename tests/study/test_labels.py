"""The labels of a run: one rule for every way to give them."""

import numpy as np
import pytest

from gradquake import InputError
from gradquake.study.configuration import config_key, read_config
from gradquake.study.labels import OWN_NAMES, checked_labels, labelled
from gradquake.study.recording import VARIABLES

OWN = {"experiment": "attached", "n_parameters": 9, "seed": 3, "every": 10}


def test_labels_are_plain_values():
    given = {"width": np.int64(4), "lr": np.float32(0.5), "optimizer": "sgd", "frozen": True}
    found = checked_labels("labels", given)
    assert found == {"width": 4, "lr": 0.5, "optimizer": "sgd", "frozen": True}
    assert [type(value) for value in found.values()] == [int, float, str, bool]
    assert checked_labels("labels", None) == {}


@pytest.mark.parametrize("argument", ["labels", "sweep"])
@pytest.mark.parametrize("name", OWN_NAMES)
def test_a_name_that_gradquake_records_is_refused_with_the_list_of_all(argument, name):
    with pytest.raises(InputError) as refused:
        checked_labels(argument, {"width": 4, name: 1})
    assert str(refused.value) == (
        f"{argument} names {name}, which gradquake records itself; any name is free but "
        f"{', '.join(OWN_NAMES)}"
    )
    assert {*VARIABLES, "total_parameters", "seed_given"} < {*OWN_NAMES}


def test_all_that_is_given_is_in_the_configuration():
    config = labelled(OWN, {"width": 4}, {"lr": 0.1}, total_parameters=21)
    assert config == {**OWN, "lr": 0.1, "labels": {"width": 4, "total_parameters": 21}}
    assert labelled(OWN, {}) == {**OWN, "labels": {}}
    assert read_config(config_key(config)) == config


@pytest.mark.parametrize("seed", [3, 3.0])
def test_the_label_seed_is_the_seed_of_the_run(seed):
    assert labelled(OWN, {"seed": seed, "width": 4}) == {**OWN, "labels": {"width": 4}}


@pytest.mark.parametrize(
    ("labels", "sweep", "message"),
    [
        ({"seed": 4}, {}, "the label seed is 4 and the probe's seed is 3; make them equal, or give the"),
        ({"seed": "3"}, {}, "the label seed is '3' and the probe's seed is 3; make them equal"),
        ({}, {"every": 1}, "sweep names every, which gradquake records itself; any name is free but"),
        ({}, {"seed": 3}, "sweep names seed, which gradquake records itself"),
        ({}, {"width": 4}, "sweep names width, which gradquake records itself"),
        ({}, {"labels": 4}, "sweep names labels, which gradquake records itself"),
        ({"lr": 1, "b": 2}, {"lr": 1}, "labels and sweep both name lr; a label tells runs of a sweep"),
        ({"lr": 1, "b": 2}, {"lr": 1, "b": 3}, "labels and sweep both name b, lr; "),
    ],
)
def test_nothing_that_is_given_replaces_another(labels, sweep, message):
    with pytest.raises(InputError) as refused:
        labelled(OWN, labels, sweep)
    assert str(refused.value).startswith(message)
