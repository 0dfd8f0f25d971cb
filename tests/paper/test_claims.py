"""The rules by which claims are judged."""

import json
import math

import pytest

from gradquake.paper import claims
from gradquake.paper.verdicts import Claim, Quantity, verdict


def test_a_value_agrees_when_its_interval_contains_the_papers():
    assert Quantity("q", 0.83, 0.80, 0.95, paper=0.90).agrees()
    assert not Quantity("q", 0.83, 0.80, 0.85, paper=0.90).agrees()


def test_a_value_agrees_within_twice_the_papers_error():
    narrow = Quantity("q", 0.93, 0.92, 0.94, paper=0.90)
    assert narrow.agrees(0.02)
    assert not narrow.agrees(0.014)


def test_a_value_that_is_not_defined_does_not_agree():
    assert not Quantity("q", math.nan, math.nan, math.nan, paper=0.90).agrees(0.02)


@pytest.mark.parametrize(
    ("value", "direction", "expected"),
    [
        (True, True, "reproduced"),
        (True, False, "reproduced"),
        (False, True, "direction only"),
        (False, False, "not reproduced"),
    ],
)
def test_verdicts(value, direction, expected):
    assert verdict(value, direction) == expected


def test_json_has_null_for_what_is_not_defined():
    quantity = Quantity("q", math.nan, math.nan, math.inf, paper=0.9, null=None)
    claim = Claim("id", "text", "0.9", (quantity,), "not reproduced", "")
    found = claim.as_json()
    assert found["measured"] is found["ci_low"] is found["ci_high"] is found["null"] is None
    assert "NaN" not in json.dumps(found, allow_nan=False)


def test_percentile_of_integers_from_their_shares():
    import numpy as np

    # 1, ..., 20 once each: 95 % of them are at most 19.
    shares = np.array([0.0] + [0.05] * 20)
    assert claims._percentile_95(shares) == 19
    values = np.random.default_rng(0).integers(0, 21, (40, 51))
    shares = (values[:, :, None] == np.arange(21)).mean(axis=1)
    expected = [np.quantile(row, 0.95, method="inverted_cdf") for row in values]
    assert claims._percentile_95(shares).tolist() == expected
