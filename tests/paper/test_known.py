"""`reproduce known` from end to end on small models, and its rules on chosen estimates."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gradquake.cli.app import app
from gradquake.errors import InputError
from gradquake.paper import reproduce as module
from gradquake.paper.known import pages
from gradquake.paper.known.estimators import ESTIMATORS, Found
from gradquake.paper.known.evidence import Evidence, Recovery
from gradquake.paper.known.plan import MODELS, SEEDS, Known, Plan, plan
from gradquake.paper.reproduce import carry_out
from gradquake.study.pools import open_executor

CRITICAL, SUBCRITICAL, DIRECTED, OSLO = MODELS[:4]
SMALL = Plan(
    seeds=4,
    avalanches=2000,
    models=[
        replace(DIRECTED, sizes=(16, 32, 64, 128)),
        replace(SUBCRITICAL, sizes=(64, 128, 256)),
        replace(OSLO, sizes=(8, 16, 32)),
    ],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("known")
    assert carry_out("known", SMALL, out) == []
    return out


@pytest.fixture(scope="module")
def recoveries(folder):
    return json.loads((folder / "known.json").read_text())


def of(recoveries, model, exponent, estimator):
    (found,) = (
        one
        for one in recoveries
        if (one["model"], one["exponent"], one["estimator"]) == (model, exponent, estimator)
    )
    return found


@pytest.mark.parametrize(
    ("exponent", "estimator"),
    [
        ("D", "largest"),
        ("D", "moments"),
        ("tau", "moments"),
        ("gamma", "mean"),
        ("D", "collapse of x and y"),
    ],
)
def test_the_exact_exponents_of_the_directed_sandpile_are_recovered(recoveries, exponent, estimator):
    found = of(recoveries, "directed sandpile", exponent, estimator)
    assert found["recovered"] is True
    assert found["low"] <= found["expected"] <= found["high"]
    assert found["value"] == pytest.approx(found["expected"], abs=0.06)


def test_the_collapse_with_one_exponent_misses_a_tau_above_1(recoveries):
    found = of(recoveries, "directed sandpile", "D", "collapse of x")
    assert found["recovered"] is False
    assert "there is no collapse" in found["note"]
    assert found["high"] < 1.4


@pytest.mark.parametrize("estimator", ["largest", "moments", "collapse of x", "collapse of x and y"])
def test_no_scaling_is_found_without_criticality(recoveries, estimator):
    found = of(recoveries, "subcritical branching process", "D", estimator)
    assert found["value"] == pytest.approx(0, abs=0.12)


def test_every_known_exponent_has_an_estimator(recoveries):
    seen = {(one["model"], one["exponent"]) for one in recoveries}
    assert seen == {(model.name, symbol) for model in SMALL.models for symbol in model.known}
    assert {one["estimator"] for one in recoveries} == set(ESTIMATORS)


def test_the_page_holds_every_recovery(folder, recoveries):
    page = (folder / "known.md").read_text()
    assert page.startswith("# Known exponents\n")
    assert len([line for line in page.splitlines() if line.startswith("| ")]) == len(recoveries) + 2
    assert not (folder / "claims.json").exists()


def test_two_processes_give_the_same_bits(folder, tmp_path):
    with open_executor(2) as executor:
        carry_out("known", SMALL, tmp_path, executor)
    for name in ("known.json", "known.md"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_command_prints_the_table_or_the_json(tmp_path, monkeypatch, capsys):
    tiny = replace(SMALL, seeds=2, avalanches=200, models=SMALL.models[2:])
    monkeypatch.setitem(module.PAPERS, "known", replace(module.PAPERS["known"], plan=lambda *_: tiny))
    for options, file in (((), "known.md"), (("--json",), "known.json")):
        command = ["reproduce", "known", "--out", str(tmp_path), "--jobs", "1", *options]
        app(command, standalone_mode=False)
        assert capsys.readouterr().out == (tmp_path / file).read_text()


def recovery(value, found):
    return Recovery("model", "D", "moments", Known(value, "source"), found)


@pytest.mark.parametrize(
    ("value", "found", "recovered", "told"),
    [
        (1.0, Found(1.1, 0.9, 1.2), True, "yes"),
        (1.0, Found(1.1, 1.05, 1.2), False, "no"),
        (
            1.0,
            Found(1.0, 0.9, 1.2, "S is 12 at best: there is no collapse."),
            False,
            "no; S is 12 at best",
        ),
        (1.0, Found(1.0, np.nan, np.nan), False, "no"),
        (None, Found(1.0, 0.9, 1.2), None, ""),
    ],
)
def test_an_exponent_is_recovered_if_a_trusted_interval_contains_it(value, found, recovered, told):
    one = recovery(value, found)
    assert one.recovered is recovered
    assert pages.table(Evidence((one,))).rows[0][-1] == told
    json.dumps(pages.as_object(Evidence((one,))), allow_nan=False)


def test_the_plan_has_every_model_at_five_doublings():
    full = plan()
    assert full.n_runs == len(MODELS) * 5 * SEEDS
    assert len({json.dumps(run.config()) for run in full.runs}) == full.n_runs
    for model in MODELS:
        assert np.diff(np.log2(model.sizes)).tolist() == [1, 1, 1, 1]


def test_scaling_relations_hold_between_the_known_exponents():
    for model in MODELS:
        known = {symbol: of.value for symbol, of in model.known.items()}
        if known.get("tau") and known["D"]:
            assert known["gamma"] == pytest.approx(known["D"] * (2 - known["tau"]), abs=0.002)
            scaled = known["z"] * (known["tau_T"] - 1)
            assert scaled == pytest.approx(known["D"] * (known["tau"] - 1), abs=0.002)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plan(quick=True), "quick is for the paper xor"),
        (lambda: plan(0), "seeds is 0; an integer of at least 1 is needed"),
        (lambda: Plan(avalanches=0), "avalanches is 0; an integer of at least 1 is needed"),
    ],
)
def test_bad_plans_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_single_seed_has_estimates_without_intervals(tmp_path):
    carry_out("known", replace(SMALL, seeds=1, models=SMALL.models[:1]), tmp_path)
    found = json.loads((tmp_path / "known.json").read_text())
    assert all(one["low"] is None for one in found if one["estimator"] != "collapse of x")
    assert not any(one["recovered"] for one in found)
