"""What is drawn of long curves."""

from itertools import pairwise

import numpy as np
import pytest

from gradquake.report import charts


def test_a_short_curve_is_drawn_whole():
    assert charts.extremes(np.zeros(50)).tolist() == list(range(50))


@pytest.mark.parametrize("places", [2_001, 20_000, 20_003])
def test_a_long_curve_keeps_its_ends_extremes_and_gaps_in_every_part(places):
    rng = np.random.default_rng(places)
    curve = rng.standard_normal(places)
    curve[rng.integers(places, size=20)] = np.nan
    seen = charts.extremes(curve)
    assert seen[0] == 0
    assert seen[-1] == places - 1
    assert np.all(np.diff(seen) > 0)
    assert seen.size <= 4 * charts.MOST_COLUMNS + 1
    starts = np.linspace(0, places, charts.MOST_COLUMNS + 1).astype(int)
    for start, end in pairwise(starts):
        part = curve[start:end]
        drawn = curve[seen[(seen >= start) & (seen < end)]]
        assert np.isnan(drawn).any() == np.isnan(part).any()
        if np.isfinite(part).any():
            assert (np.nanmin(drawn), np.nanmax(drawn)) == (np.nanmin(part), np.nanmax(part))
