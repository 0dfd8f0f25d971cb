"""Learning rate times sharpness at every scale."""

import numpy as np
import pytest

from gradquake.errors import InputError
from gradquake.experiments import synthetic, xor
from gradquake.experiments.synthetic import SyntheticRun
from gradquake.report.json import stability_json
from gradquake.report.tables import stability_table
from gradquake.scrutiny.stability import knows_sharpness, stability
from gradquake.study.pools import open_executor
from gradquake.study.recording import to_dataset

HIDDEN, SEEDS = (3, 8, 20), 4
SETTINGS = {"epochs": 60, "learning_rate": "12/h", "alpha_train": 0.0}


@pytest.fixture(scope="module")
def sweep():
    return to_dataset(xor.measure(xor.sweep(HIDDEN, SEEDS, **SETTINGS)))


def test_a_scale_has_the_means_of_its_runs(sweep):
    found = stability(sweep, n_resamples=200)
    assert [of.n_parameters for of in found] == [13, 33, 81]
    for of, hidden in zip(found, HIDDEN, strict=True):
        records = xor.sharpness(xor.sweep([hidden], SEEDS, **SETTINGS))
        sharp = np.array([record.values["sharpness"] for record in records])
        rises = np.array([record.values["rises"][1:].mean() for record in records])
        product = 12 / hidden * sharp
        for name, values in (
            ("sharpness", sharp[:, 0]), ("at_start", product[:, 0]), ("largest", product.max(axis=1)),
            ("at_end", product[:, -1]), ("rises", rises),
        ):  # fmt: skip
            estimate = getattr(of, name)
            assert estimate.value == pytest.approx(values.mean(), rel=1e-12)
            assert values.min() <= estimate.low <= estimate.high <= values.max()


def test_it_does_not_depend_on_the_order_of_the_runs_or_the_workers(sweep):
    shuffled = sweep.isel(run=np.random.default_rng(0).permutation(sweep.sizes["run"]))
    with open_executor(2) as pool:
        other = stability(shuffled, pool, n_resamples=50)
    assert list(map(stability_json, other)) == list(
        map(stability_json, stability(sweep, n_resamples=50))
    )


def test_it_is_shown_as_a_table(sweep):
    table = stability_table(stability(sweep, n_resamples=50))
    assert [row[0] for row in table.rows] == ["13", "33", "81"]
    assert all(len(row) == len(table.header) for row in table.rows)


def test_the_sharpness_of_drawn_gradients_is_not_known():
    drawn = to_dataset(synthetic.measure([SyntheticRun(21, seed, epochs=20) for seed in range(2)]))
    assert not knows_sharpness(drawn)
    with pytest.raises(InputError, match="the sharpness of synthetic is not known"):
        stability(drawn)
