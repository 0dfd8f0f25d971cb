"""The rules by which claims are judged, and how claims are written, read and shown."""

import json
import math
from types import SimpleNamespace

import pytest

from gradquake.analysis.resampling import Estimate
from gradquake.cli.reproduce import VERDICT_STYLES
from gradquake.errors import InputError
from gradquake.paper.claim import (
    NO_INTERVALS,
    Claim,
    JudgedClaim,
    Measured,
    judge,
    merge,
    read_claims,
    write_claims,
)
from gradquake.paper.claims_page import null_text, page, range_text, value_text, verdicts_text
from gradquake.paper.quantity import Number, Parts, Quantity
from gradquake.paper.reproduce import PAPERS
from gradquake.paper.verdicts import STRENGTHS, Figure, Region, Rule, Statement
from gradquake.paper.xor.conditions import Condition, conditions
from gradquake.paper.xor.evidence import Evidence

STATEMENT = Rule.of(Statement("q", Figure(1.0, 0.1), Region(low=0.5)))


def claim_of(measured, rule=STATEMENT, name="id"):
    return Claim(name, "text", "stated", lambda _: measured, rule, "How.")


def test_a_claim_is_judged_on_data_nulls_and_groups():
    nulls = {"gaussian": Number(0.2, 0.1, 0.3), "permuted": Number(1.0, 0.9, 1.1)}
    groups = [{"q": Number(1.0, 0.9, 1.1)}, {"q": Number(1.0, 0.0, 2.0)}]
    measured = Measured([Quantity("q", 1.0, 0.9, 1.1, nulls=nulls)], groups, "Seen.")
    judged = judge(claim_of(measured), None, has_intervals=True)
    assert judged.verdict == "reproduced"
    assert judged.of_nulls == {"gaussian": "not reproduced", "permuted": "reproduced"}
    assert judged.by_the_null
    assert judged.verdict_text == "reproduced, and by the null"
    assert judged.of_groups == {"reproduced": 0.5, "inconclusive": 0.5}
    assert judged.note == "How. Seen."


def test_a_null_that_lacks_a_quantity_is_not_judged():
    rule = Rule.of(*STATEMENT.statements, Statement("other", region=Region(low=0)))
    of = [Quantity("q", 1.0, 0.9, 1.1, nulls={"permuted": Number(1.0, 0.9, 1.1)})]
    measured = Measured([*of, Quantity("other", 1.0, 0.5, 1.5)])
    judged = judge(claim_of(measured, rule), None, has_intervals=True)
    assert (judged.verdict, judged.of_nulls, judged.by_the_null) == ("reproduced", {}, False)


def test_cases_are_shown_with_their_own_verdicts():
    rule = Rule({name: [Statement(name, region=Region(low=1))] for name in ("D", "gamma")})
    measured = Measured([Quantity("D", 1.2, 1.1, 1.3), Quantity("gamma", 1.0, 0.9, 1.1)])
    judged = judge(claim_of(measured, rule), None, has_intervals=True)
    assert judged.cases == {"D": "reproduced", "gamma": "inconclusive"}
    assert judged.verdict == "inconclusive"
    assert "Cases: D reproduced, gamma inconclusive." in verdicts_text(judged)


def test_an_observation_is_held_against_the_range_of_runs():
    rule = Rule.of(Statement("q", Figure(27, None)))
    with_range = Measured([Quantity("q", 50, 49, 51, paper=27, range=Number(50, 13, 92))])
    without = Measured([Quantity("q", 50, 49, 51, paper=27)])
    assert judge(claim_of(with_range, rule), None, has_intervals=True).verdict == "compatible"
    assert judge(claim_of(without, rule), None, has_intervals=True).verdict == "inconclusive"


def test_a_claim_without_intervals_or_evidence_is_not_testable():
    measured = Measured([Quantity("q", 1.0)])
    judged = judge(claim_of(measured), None, has_intervals=False)
    assert (judged.verdict, judged.note) == ("not testable", f"{NO_INTERVALS} How.")
    measured = Measured([Quantity("q", 1.0, 0.9, 1.1)], untestable="There is no evidence.")
    judged = judge(claim_of(measured), None, has_intervals=True)
    assert (judged.verdict, judged.note) == ("not testable", "There is no evidence. How.")


def test_every_claim_is_there_once():
    ids = [claim.id for paper in PAPERS.values() for claim in paper.claims]
    assert len(set(ids)) == len(ids)
    assert len(PAPERS["xor"].claims) == 20


# An exponent with its null and the parts of the distance between them.
ATTRIBUTED = Quantity(
    "D_pre", 0.95, 0.9, 1.05, 0.9,
    nulls={"gaussian": Number(0.85, 0.8, 0.875), "permuted": Number(0.875, 0.8125, 0.9)},
    attribution=Parts(Number(0.04, -0.02, 0.06), Number(0.06, 0.045, 0.08)),
    range=Number(0.94, 0.8, 1.1), percentile=42.0,
)  # fmt: skip
BARE = Quantity("R²", 0.995)


def test_a_claim_as_json():
    verdicts = {"D": "reproduced"}, {"permuted": "inconclusive"}, {"reproduced": 0.75}
    text = "before", "0.9", (ATTRIBUTED, BARE), "reproduced", "A note."
    claim = JudgedClaim("D-pre", *text, *verdicts).to_json()
    first, second = claim["quantities"]
    assert first == {
        "name": "D_pre",
        "value": 0.95,
        "low": 0.9,
        "high": 1.05,
        "paper": 0.9,
        "nulls": {
            "gaussian": {"value": 0.85, "low": 0.8, "high": 0.875},
            "permuted": {"value": 0.875, "low": 0.8125, "high": 0.9},
        },
        "attribution": {
            "distribution": {"value": 0.04, "low": -0.02, "high": 0.06},
            "arrangement": {"value": 0.06, "low": 0.045, "high": 0.08},
            "imprint": None,
        },
        "range": {"value": 0.94, "low": 0.8, "high": 1.1},
        "percentile": 42.0,
        "equal_in_all_resamples": False,
    }
    assert second["low"] is second["high"] is second["range"] is second["attribution"] is None
    assert second["nulls"] == {}
    assert set(first) == set(second)
    top = ("value", "low", "high", "nulls", "attribution")
    assert {name: claim[name] for name in top} == {name: first[name] for name in top}
    assert [claim[name] for name in ("id", "claim", "paper", "verdict", "note")] == [
        "D-pre", "before", "0.9", "reproduced", "A note.",
    ]  # fmt: skip
    assert [claim[name] for name in ("cases", "of_nulls", "of_groups")] == list(verdicts)
    assert claim["by_the_null"] is False


def test_json_has_null_for_each_undefined_number():
    nowhere = Parts(Number(math.nan), Number(0.5))
    nulls = {"permuted": Number(-math.inf)}
    found = Quantity("q", math.nan, math.nan, math.inf, 0.9, nulls, nowhere).to_json()
    assert found["value"] is found["low"] is found["high"] is found["nulls"]["permuted"]["value"] is None
    assert found["attribution"]["distribution"] == {"value": None, "low": None, "high": None}
    assert found["attribution"]["arrangement"]["value"] == 0.5
    json.dumps(found, allow_nan=False)


def test_an_interval_without_width_is_marked():
    assert Quantity("q", 0.0, 0.0, 0.0).to_json()["equal_in_all_resamples"] is True


def test_a_quantity_as_text():
    assert value_text(ATTRIBUTED) == "0.950 [0.900, 1.050]"
    assert null_text(ATTRIBUTED, "gaussian") == "0.850 [0.800, 0.875]"
    assert range_text(ATTRIBUTED) == "0.800 to 1.100; paper at 42 %"


def test_a_quantity_without_a_null_or_an_interval_as_text():
    assert value_text(BARE) == "0.995"
    assert null_text(BARE, "permuted") == range_text(BARE) == ""
    undefined = Quantity("q", math.nan, nulls={"permuted": Number(math.nan)})
    assert value_text(undefined) == null_text(undefined, "permuted") == "none"


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


def test_each_verdict_has_a_style_on_a_terminal():
    assert set(VERDICT_STYLES) == set(STRENGTHS)


@pytest.mark.parametrize("change", [{"verdict": "perhaps"}, {"quantities": []}])
def test_a_claim_without_a_known_verdict_or_a_quantity_is_not_read(tmp_path, change):
    path = tmp_path / "claims.json"
    path.write_text(json.dumps([judged("D-pre").to_json() | change]), encoding="utf-8")
    with pytest.raises(InputError, match="does not hold claims in the form of this version"):
        read_claims(path)


def test_claims_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "claims.json").mkdir()
    with pytest.raises(InputError, match=r"claims.json cannot be read .*; move it away"):
        read_claims(tmp_path / "claims.json")


@pytest.mark.parametrize("text", ["[{}]", "{}x", "[1]", '{"a": 1}'])
def test_a_file_without_claims_is_kept(tmp_path, text):
    path = tmp_path / "claims.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="does not hold claims"):
        write_claims(path, [judged("D-pre")])
    assert path.read_text(encoding="utf-8") == text


def test_the_page_of_claims():
    head = "D-pre", "before", "0.90 ± 0.02", (ATTRIBUTED, BARE), "reproduced", "A note."
    claim = JudgedClaim(*head, of_nulls={"permuted": "reproduced"}, of_groups={"reproduced": 1.0})
    other = JudgedClaim("gini", "a peak", "stated", (BARE,), "not testable", "Another note.")
    lines = page([claim, other]).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert [len(row.split("|")) for row in rows] == [11] * 5 + [7] * 3
    assert rows[2] == (
        "| D-pre | before | 0.90 ± 0.02 | D_pre | 0.950 [0.900, 1.050] | 0.800 to 1.100; paper at 42 % "
        "| 0.850 [0.800, 0.875] | 0.875 [0.812, 0.900] | reproduced, and by the null |"
    )
    assert rows[3] == "|  |  |  | R² | 0.995 |  |  |  |  |"
    assert rows[4] == "| gini | a peak | stated | R² | 0.995 |  |  |  | not testable |"
    assert rows[7] == "| D-pre | D_pre | 0.040 [-0.020, 0.060] | 0.060 [0.045, 0.080] |  |"
    note = "- **D-pre**: A note. Nulls: permuted reproduced. Groups of six seeds: reproduced 100%."
    assert note in lines
    assert "- **gini**: Another note." in lines
    assert "The parts of the exponents" not in page([other])


# Claims on made-up evidence


def exponent(value, low=math.nan, high=math.nan, runs=6):
    return Estimate(value=value, low=low, high=high, invalid=0.0, runs=runs)


def test_a_condition_is_found_by_its_settings():
    results = [
        condition(settings, (0.5, 0.5), (1.5, 1.5))
        for settings in ({}, {"alpha_train": 0.0}, {"quantile": 0.80}, {"permute_train": True})
    ]
    evidence = SimpleNamespace(conditions=results)
    for settings, place in (
        ({}, 0), ({"quantile": 0.9}, 0), ({"alpha_train": 0}, 1), ({"quantile": 0.8}, 2)
    ):  # fmt: skip
        assert Evidence.condition(evidence, **settings) is results[place]
    told = r"no condition has quantile 0.96; there are the paper's settings; alpha_train 0.0; quantile"
    with pytest.raises(InputError, match=told):
        Evidence.condition(evidence, quantile=0.96)
    assert Evidence.varied(evidence, "alpha_train") == results[:2]
    assert Evidence.varied(evidence, "permute_train", "topology_train") == [results[0], results[3]]


def test_the_name_of_a_condition_may_change():
    for own in conditions():
        evidence = SimpleNamespace(conditions=[condition(own.settings, (1, 1), (1, 1))])
        assert Evidence.condition(evidence, **own.settings) is evidence.conditions[0]


def condition(settings, pre, post):
    """A condition with D and gamma, before and after."""
    values = {("pre", "max"): pre[0], ("pre", "mean"): pre[1]}
    values |= {("post", "max"): post[0], ("post", "mean"): post[1]}
    exponents = {key: exponent(d, d - 0.1, d + 0.1) for key, d in values.items()}
    named = Condition("control", "any name", settings)
    return SimpleNamespace(condition=named, exponent=lambda *key: exponents[key])
