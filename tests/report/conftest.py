"""Small sweeps under scrutiny."""

import numpy as np
import pytest

from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.experiments import xor
from gradquake.scrutiny import sensitivity, topologies
from gradquake.scrutiny.scrutinize import scrutinize
from gradquake.scrutiny.sensitivity import specify
from gradquake.scrutiny.topologies import on_topologies
from gradquake.study.recording import to_dataset

HIDDEN = (3, 5, 8, 13)
RESAMPLES = 40


def trained(seeds=3, **settings):
    return to_dataset(xor.measure(xor.sweep(HIDDEN, seeds, **settings)))


@pytest.fixture(scope="session")
def sweep():
    found = trained(epochs=200)
    assert np.isfinite(found["grokking_epoch"]).all()
    return found


@pytest.fixture(scope="session")
def found(sweep):
    return scrutinize(sweep, n_resamples=RESAMPLES)


@pytest.fixture(scope="session")
def flat_sweep():
    """A sweep that learns nothing."""
    return trained(seeds=2, epochs=60, learning_rate=1e-4)


@pytest.fixture(scope="session")
def flat(flat_sweep):
    return scrutinize(flat_sweep, ("gaussian", "permuted"), n_resamples=RESAMPLES)


@pytest.fixture(scope="session")
def halted():
    """Under scrutiny, a sweep with a scale at which no run groks."""
    dataset = trained(epochs=100)
    grokked = np.isfinite(dataset["grokking_epoch"].values)
    assert grokked.any()
    assert not grokked[:3].any()
    return scrutinize(dataset, ("gaussian", "permuted"), n_resamples=RESAMPLES)


@pytest.fixture(scope="session")
def single():
    """Under scrutiny, a sweep of single runs, which have no intervals."""
    return scrutinize(trained(seeds=1, epochs=200), ("gaussian", "permuted"), n_resamples=RESAMPLES)


@pytest.fixture(scope="session")
def on_each(sweep):
    return on_topologies(sweep, n_resamples=RESAMPLES)


def specified(sweep):
    """The specification curve under few choices of the probe."""
    few = {
        "SPECIFIED_QUANTILES": (0.8, 0.9),
        "SPECIFIED_ALPHAS": (0.3,),
        "SPECIFIED_STEPS": (20,),
        "TOPOLOGIES": {name: TOPOLOGIES[name] for name in ("barabasi_albert", "ring")},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, values in few.items():
            patch.setattr(topologies if name == "TOPOLOGIES" else sensitivity, name, values)
        return specify([sweep])


@pytest.fixture(scope="session")
def choices(sweep):
    return specified(sweep)


@pytest.fixture(scope="session")
def flat_choices(flat_sweep):
    return specified(flat_sweep)
