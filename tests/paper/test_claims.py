"""The rules by which claims are judged, and how claims are written, read and shown."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from gradquake.analysis.collapse import Collapse
from gradquake.analysis.resampling import Estimate
from gradquake.errors import InputError
from gradquake.paper.claim import (
    NO_INTERVALS,
    PAPER,
    VERDICTS,
    Agrees,
    Claim,
    Compare,
    JudgedClaim,
    Measured,
    Rule,
    all_of,
    any_of,
    judge,
    merge,
    read_claims,
    within,
    write_claims,
)
from gradquake.paper.claims_page import attribution_text, null_text, page, value_text
from gradquake.paper.quantity import Number, Parts, Quantity
from gradquake.paper.reproduce import PAPERS
from gradquake.paper.xor import quantities
from gradquake.paper.xor.evidence import Evidence


def holds(test, *of, **bounds):
    return test.holds(Measured(of, bounds))


def test_a_value_agrees_if_its_interval_contains_the_papers():
    assert holds(Agrees("q"), Quantity("q", 0.83, 0.80, 0.95, paper=0.90))
    assert not holds(Agrees("q"), Quantity("q", 0.83, 0.80, 0.85, paper=0.90))


def test_a_value_agrees_within_twice_the_papers_error():
    narrow = Quantity("q", 0.93, 0.92, 0.94, paper=0.90)
    assert holds(Agrees("q", 0.02), narrow)
    assert not holds(Agrees("q", 0.014), narrow)


def test_an_undefined_value_agrees_with_nothing():
    assert not holds(Agrees("q", 0.02), Quantity("q", math.nan, paper=0.90))
    assert not holds(Agrees("q", 0.02), Quantity("q", 0.9, 0.8, 1.0))


@pytest.mark.parametrize(
    ("end", "relation", "bound", "expected"),
    [
        ("value", "<", 2, True),
        ("value", "<", 1, False),
        ("value", "<=", 1, True),
        ("low", ">", 0.5, False),
        ("low", ">=", 0.5, True),
        ("high", "<", PAPER, True),
        ("high", "<", "a bound", False),
        ("high", "<", "nothing", False),
    ],
)
def test_an_end_is_compared_with_a_number_the_paper_or_a_bound(end, relation, bound, expected):
    quantity = Quantity("q", 1.0, 0.5, 1.5, paper=2.0)
    measured = Measured((quantity,), {"a bound": 1.5, "nothing": math.nan})
    assert Compare("q", end, relation, bound).holds(measured) is expected


def test_tests_combine():
    one, two = Quantity("one", 1.0), Quantity("two", 2.0)
    small = [Compare(name, "value", "<", 1.5) for name in ("one", "two")]
    assert holds(any_of(*(small)), one, two)
    assert not holds(all_of(*(small)), one, two)
    assert [holds(within("two", 2, high), one, two) for high in (1, 2, 3)] == [False, True, True]


def test_a_rule_about_another_quantity_says_so():
    with pytest.raises(InputError, match="asks for the quantity 'other'; the claim has one, two"):
        holds(Agrees("other"), Quantity("one", 1.0), Quantity("two", 2.0))


@pytest.mark.parametrize(
    ("value", "direction", "expected"),
    [
        (1, 1, "reproduced"),
        (1, -1, "reproduced"),
        (-1, 1, "direction only"),
        (-1, -1, "not reproduced"),
    ],
)
def test_verdicts(value, direction, expected):
    rule = Rule(Compare("value", "value", ">", 0), Compare("direction", "value", ">", 0))
    of = (Quantity("value", value), Quantity("direction", direction))
    assert rule.verdict(Measured(of)) == expected
    assert rule.verdict(Measured(of, testable=False)) == "not testable"
    assert Rule(rule.value).verdict(Measured(of)) in ("reproduced", "not reproduced")


def test_a_rule_for_all_cases_holds_as_a_direction_for_one():
    rule = Rule.for_all({name: Compare(name, "value", ">", 0) for name in ("max", "mean")})
    for values, expected in (((1, 1), 0), ((1, -1), 1), ((-1, 1), 1), ((-1, -1), 2)):
        of = tuple(Quantity(name, v) for name, v in zip(("max", "mean"), values, strict=True))
        assert rule.verdict(Measured(of)) == VERDICTS[expected]
    claim = Claim("id", "text", "stated", lambda _: Measured(of, seen="Seen."), rule, "How.")
    (judged,) = judge([claim], None, has_intervals=True)
    assert judged.note == "How. Result: max no, mean no. Seen."


def test_claims_that_need_intervals_are_not_testable_without():
    rule, of = Rule(Compare("q", "value", ">", 0)), Measured((Quantity("q", 1.0),))
    claims = [
        Claim(name, "text", "stated", lambda _: of, rule, "How.", needs_intervals=needs)
        for name, needs in (("one", True), ("two", False))
    ]
    judged = judge(claims, None, has_intervals=False)
    assert [claim.verdict for claim in judged] == ["not testable", "reproduced"]
    assert judged[0].note == f"{NO_INTERVALS} How."
    assert [c.verdict for c in judge(claims, None, has_intervals=True)] == ["reproduced"] * 2


def test_every_claim_is_there_once_and_few_do_without_intervals():
    claims = PAPERS["xor"].claims
    ids = [claim.id for paper in PAPERS.values() for claim in paper.claims]
    assert len(set(ids)) == len(ids) == 23
    without = {claim.id for claim in claims if not claim.needs_intervals}
    assert without == {"grok-h21", "angle", "gini", "heavy-tail"}


def test_percentile_of_integers_from_their_shares():
    # 1, ..., 20 once each: 95 % of them are at most 19.
    shares = np.array([0.0] + [0.05] * 20)
    assert quantities.percentile_95(shares) == 19
    values = np.random.default_rng(0).integers(0, 21, (40, 51))
    shares = (values[:, :, None] == np.arange(21)).mean(axis=1)
    expected = [np.quantile(row, 0.95, method="inverted_cdf") for row in values]
    assert quantities.percentile_95(shares).tolist() == expected


# An exponent with its null and the parts of the distance between them.
ATTRIBUTED = Quantity(
    "D_pre", 0.95, 0.9, 1.05, 0.9,
    null=Number(0.85, 0.8, 0.875),
    attribution=Parts(Number(0.04, -0.02, 0.06), Number(0.06, 0.045, 0.08)),
    snapshot_low=0.93, snapshot_high=0.96,
)  # fmt: skip
BARE = Quantity("R²", 0.995)


def test_a_claim_as_json():
    claim = JudgedClaim("D-pre", "before", "0.9", (ATTRIBUTED, BARE), "reproduced", "A note.").to_json()
    first, second = claim["quantities"]
    assert first == {
        "name": "D_pre",
        "value": 0.95,
        "low": 0.9,
        "high": 1.05,
        "paper": 0.9,
        "null": {"value": 0.85, "low": 0.8, "high": 0.875},
        "attribution": {
            "distribution": {"value": 0.04, "low": -0.02, "high": 0.06},
            "arrangement": {"value": 0.06, "low": 0.045, "high": 0.08},
            "imprint": None,
        },
        "snapshot_low": 0.93,
        "snapshot_high": 0.96,
        "decimals": None,
        "equal_in_all_resamples": False,
    }
    assert second["low"] is second["high"] is second["null"] is second["attribution"] is None
    assert set(first) == set(second)
    assert {name: claim[name] for name in ("value", "low", "high", "null", "attribution")} == {
        name: first[name] for name in ("value", "low", "high", "null", "attribution")
    }
    assert [claim[name] for name in ("id", "claim", "paper", "verdict", "note")] == [
        "D-pre", "before", "0.9", "reproduced", "A note.",
    ]  # fmt: skip


def test_json_has_null_for_each_undefined_number():
    nowhere = Parts(Number(math.nan), Number(0.5))
    quantity = Quantity("q", math.nan, math.nan, math.inf, 0.9, Number(-math.inf), nowhere)
    found = quantity.to_json()
    assert found["value"] is found["low"] is found["high"] is found["null"]["value"] is None
    assert found["attribution"]["distribution"] == {"value": None, "low": None, "high": None}
    assert found["attribution"]["arrangement"]["value"] == 0.5
    json.dumps(found, allow_nan=False)


def test_an_interval_without_width_is_marked():
    assert Quantity("q", 0.0, 0.0, 0.0).to_json()["equal_in_all_resamples"] is True


def test_a_quantity_as_text():
    assert value_text(ATTRIBUTED) == "0.950 [0.900, 1.050]"
    assert null_text(ATTRIBUTED) == "0.850 [0.800, 0.875]"
    assert attribution_text(ATTRIBUTED) == (
        "distribution 0.040 [-0.020, 0.060]; arrangement 0.060 [0.045, 0.080]"
    )


def test_a_quantity_without_a_null_or_an_interval_as_text():
    assert value_text(BARE) == "0.995"
    assert null_text(BARE) == attribution_text(BARE) == ""
    parts = Parts(Number(0.04), Number(0.06), Number(0.01, 0.0, 0.02))
    in_line = Quantity("q", 0.95, null=Number(0.85), attribution=parts)
    assert attribution_text(in_line).endswith("; imprint 0.010 [0, 0.020]")
    assert Quantity.from_json(in_line.to_json()).attribution.imprint == parts.imprint
    assert null_text(Quantity("q", 1.5, 1.25, 1.75, null=Number(0.5))) == "0.500"
    parts = Parts(Number(math.nan), Number(0.5))
    undefined = Quantity("q", math.nan, null=Number(math.nan), attribution=parts)
    assert value_text(undefined) == null_text(undefined) == "none"
    assert attribution_text(undefined) == "distribution none; arrangement 0.500"


def test_a_quantity_shows_no_more_digits_than_are_stable():
    rough = Quantity("D", 1.3955, 1.3924, 1.3989, null=Number(1.011, 1.01, 1.013), decimals=2)
    assert value_text(rough) == "1.40 [1.39, 1.40]"
    assert null_text(rough) == "1.01 [1.01, 1.01]"
    assert value_text(Quantity("S", math.nan, decimals=1)) == "none"


def judged(name, verdict="reproduced"):
    return JudgedClaim(name, "text", "stated", (ATTRIBUTED, BARE), verdict, "A note.")


def test_claims_come_back_from_json():
    claim = judged("D-pre")
    assert repr(JudgedClaim.from_json(json.loads(json.dumps(claim.to_json())))) == repr(claim)


def test_claims_merge_in_a_given_order():
    held, new = [judged("b"), judged("a"), judged("other")], [judged("c"), judged("a", "not reproduced")]
    everything = merge(held, new, ["a", "b", "c", "d"])
    assert [claim.id for claim in everything] == ["a", "b", "c", "other"]
    assert everything[0].verdict == "not reproduced"


def test_claims_are_written_beside_those_of_other_papers(tmp_path):
    path, order = tmp_path / "claims.json", ["D-pre", "modadd-lead"]
    assert read_claims(path) == []
    write_claims(path, [judged("modadd-lead")], order)
    write_claims(path, [judged("D-pre")], order)
    both = write_claims(path, [judged("modadd-lead", "direction only")], order)
    assert repr(read_claims(path)) == repr(both)
    assert [(claim.id, claim.verdict) for claim in both] == [
        ("D-pre", "reproduced"),
        ("modadd-lead", "direction only"),
    ]


@pytest.mark.parametrize("text", ["[{}]", "{}x", "[1]", '{"a": 1}'])
def test_a_file_without_claims_is_kept(tmp_path, text):
    path = tmp_path / "claims.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="does not hold claims"):
        write_claims(path, [judged("D-pre")])
    assert path.read_text(encoding="utf-8") == text


def test_the_page_of_claims():
    claim = JudgedClaim("D-pre", "before", "0.90 ± 0.02", (ATTRIBUTED, BARE), "reproduced", "A note.")
    other = JudgedClaim("gini", "a peak", "stated", (BARE,), "not testable", "Another note.")
    lines = page([claim, other]).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert [len(row.split("|")) for row in rows] == [10] * 5
    assert rows[2] == (
        "| D-pre | before | 0.90 ± 0.02 | D_pre | 0.950 [0.900, 1.050] | 0.850 [0.800, 0.875] | "
        "distribution 0.040 [-0.020, 0.060]; arrangement 0.060 [0.045, 0.080] | reproduced |"
    )
    assert rows[3] == "|  |  |  | R² | 0.995 |  |  |  |"
    assert rows[4] == "| gini | a peak | stated | R² | 0.995 |  |  | not testable |"
    assert "- **D-pre**: A note." in lines
    assert "- **gini**: Another note." in lines
    assert [line for line in lines if line.startswith("- D_pre")] == ["- D_pre: [0.930, 0.960]"]
    assert "single snapshots" not in page([other])


# Claims on made-up evidence


def verdict_on(claim_id, evidence):
    """The judged claim of this id."""
    claims = [claim for claim in PAPERS["xor"].claims if claim.id == claim_id]
    (found,) = judge(claims, evidence, has_intervals=True)
    return found


def exponent(value, low=math.nan, high=math.nan, runs=6):
    return Estimate(value=value, low=low, high=high, invalid=0.0, runs=runs)


def test_a_condition_that_there_is_not_is_told_with_those_that_there_are():
    conditions = [condition("quantile", q, (0.5, 0.5), (1.5, 1.5)) for q in ("0.80", "0.95")]
    evidence = SimpleNamespace(conditions=conditions)
    assert Evidence.condition(evidence, "quantile", "0.95") is conditions[1]
    with pytest.raises(InputError, match=r"is quantile: 0.96; there are quantile: 0.80; quantile: 0.95"):
        Evidence.condition(evidence, "quantile", "0.96")


def condition(group, name, pre, post):
    """A condition with D before and after, for the largest and for the mean size."""
    values = {("pre", "max"): pre[0], ("pre", "mean"): pre[1]}
    values |= {("post", "max"): post[0], ("post", "mean"): post[1]}
    exponents = {key: exponent(d, d - 0.1, d + 0.1) for key, d in values.items()}
    return SimpleNamespace(group=group, name=name, exponent=lambda *key: exponents[key])


@pytest.mark.parametrize(
    ("at_080", "own", "expected"),
    [
        (((0.9, 0.95), (1.1, 1.2)), ((0.9, 0.95), (1.1, 1.2)), "reproduced"),
        (((0.9, 1.05), (1.1, 1.2)), ((0.9, 0.95), (1.1, 1.2)), "direction only"),
        (((0.9, 0.95), (1.1, 1.2)), ((0.9, 0.95), (0.9, 1.2)), "direction only"),
        (((0.9, 0.95), (1.1, 0.9)), ((1.1, 0.95), (1.1, 1.2)), "not reproduced"),
        (((0.9, 0.95), (math.nan, math.nan)), ((0.9, 0.95), (1.1, 1.2)), "not reproduced"),
    ],
)
def test_thresholds_agree_if_each_is_on_its_side_of_1(at_080, own, expected):
    conditions = [
        condition("alpha_train", "0.3", *own),
        *(condition("quantile", q, (0.5, 0.5), (1.5, 1.5)) for q in ("0.85", "0.95")),
        condition("quantile", "0.80", *at_080),
    ]
    by_name = {(of.group, of.name): of for of in conditions}
    claim = verdict_on("quantile", SimpleNamespace(condition=lambda *name: by_name[name]))
    assert claim.verdict == expected
    names = [quantity.name for quantity in claim.quantities]
    assert names == [
        f"D_{phase} at Q{q} ({statistic})"
        for statistic in ("max", "mean")
        for phase in ("pre", "post")
        for q in (80, 85, 90, 95)
    ]
    by_name = {quantity.name: quantity for quantity in claim.quantities}
    assert by_name["D_pre at Q90 (mean)"].value == own[0][1]
    assert by_name["D_pre at Q80 (max)"].low == pytest.approx(at_080[0][0] - 0.1)


def fit(heavy, decades):
    return SimpleNamespace(
        n_parameters=85, heavier_than_exponential=heavy, decades=decades, exponent=2.0
    )


@pytest.mark.parametrize(
    ("heavy", "decades", "expected"),
    [
        ([True, True, True, True], 1.2, "reproduced"),
        ([True, True, False, False], 1.2, "direction only"),
        ([True, False, False, False], 1.2, "not reproduced"),
        ([True, True, True, True], 1.6, "not reproduced"),
    ],
)
def test_tails_are_heavy_if_the_power_law_beats_the_exponential(heavy, decades, expected):
    fits = [fit(of, 1.0) for of in heavy[1:]] + [fit(heavy[0], decades)]
    # The claim is about the inline runs only.
    claim = verdict_on("heavy-tail", SimpleNamespace(tails={"inline": fits, "shadow": []}))
    assert claim.verdict == expected
    share, widest = claim.quantities
    assert share.value == sum(heavy) / 4
    assert widest.value == decades


def collapsed(quality, low, high, runs):
    beside = Collapse(0.8, 0.7, 0.9, 2.5, 30, 4)
    real = Collapse((low + high) / 2, low, high, quality, 40, 4)
    found = {"real": real, "gaussian": beside, "permuted": beside}
    evidence = SimpleNamespace(
        inline_scrutiny=SimpleNamespace(collapse=lambda rung, _: found[rung]),
        inline=SimpleNamespace(exponent=lambda *_: exponent(1.0, 0.95, 1.05, runs)),
    )
    return verdict_on("collapse", evidence)


@pytest.mark.parametrize(
    ("quality", "low", "high", "runs", "expected"),
    [
        # Twice the S of a perfect collapse: 4 with 6 runs a scale, 2.5 with 15.
        (4.0, 0.9, 1.1, 6, "reproduced"),
        (2.5, 0.9, 0.96, 15, "reproduced"),
        (4.1, 0.9, 1.1, 6, "direction only"),
        (2.6, 0.9, 1.1, 15, "direction only"),
        (1.0, 1.1, 1.2, 6, "direction only"),
        (4.1, 1.1, 1.2, 6, "not reproduced"),
        (math.nan, math.nan, math.nan, 6, "not reproduced"),
        (1.0, 0.9, 1.1, 3, "not testable"),
    ],
)
def test_distributions_collapse_if_s_is_small_and_d_that_of_the_sizes(
    quality, low, high, runs, expected
):
    claim = collapsed(quality, low, high, runs)
    assert claim.verdict == expected
    of_s, of_d = claim.quantities
    assert (of_s.null.value, of_d.null) == (2.5, Number(0.8, 0.7, 0.9))
    assert (of_s.decimals, of_d.decimals) == (1, 2)
    json.dumps(claim.to_json(), allow_nan=False)
