"""The exponent under variants of the probe, beside a loop over seeds and resamples."""

import numpy as np
import pytest

from gradquake.analysis.baseline import baseline
from gradquake.analysis.fits import fit_exponent
from gradquake.analysis.resampling import run_resamples

SCALES = (100, 200, 400, 800)
SEEDS = 3


@pytest.fixture(scope="module")
def sizes():
    rng = np.random.default_rng(5)
    return {
        name: {n: np.ceil(n**d * (5 + rng.random((SEEDS, 6)))) for n in SCALES}
        for name, d in (("ring", 0.9), ("random", 1.1))
    }


def naive(of_variant, chosen):
    """The mean over seeds of the exponents of the mean size; a slope is linear in log size."""
    exponents = [
        fit_exponent(SCALES, [of_variant[n][rows[k]].mean() for n, rows in chosen.items()]).exponent
        for k in range(SEEDS)
    ]
    return np.mean(exponents), exponents


def test_the_baseline_is_a_loop(sweep_of, sizes):
    found = baseline({name: sweep_of(of) for name, of in sizes.items()})
    draws = run_resamples([SEEDS] * len(SCALES))
    assert found.variants == ("ring", "random")
    own = dict.fromkeys(SCALES, range(SEEDS))
    means = []
    for variant, estimate, of_each in zip(sizes.values(), found.each, found.of_each, strict=True):
        mean, exponents = naive(variant, own)
        means.append(mean)
        assert estimate.value == pytest.approx(mean)
        np.testing.assert_allclose(of_each, exponents)
        for b in range(20):
            drawn = {n: draw[b] for n, draw in zip(SCALES, draws, strict=True)}
            assert estimate.resamples[b] == pytest.approx(naive(variant, drawn)[0])
    assert found.mean.value == pytest.approx(np.mean(means))
    assert found.spread.value == pytest.approx(np.std(means, ddof=1) / np.mean(means))
    assert found.deviation == pytest.approx(np.std(found.of_each, ddof=1))
