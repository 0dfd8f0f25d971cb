"""The paper end to end on small networks: what is written, and that nothing disturbs it."""

import csv
import importlib
import json
import math
import random
import re
import shutil
import subprocess
import sys
import time
from itertools import product

import pytest
from markupsafe import escape

import gradquake.scrutiny.criticality
import gradquake.scrutiny.sensitivity
from gradquake.analysis.statistics import STATISTICS
from gradquake.analysis.transitions import PHASES
from gradquake.avalanche.surrogates import RUNGS
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.errors import InputError
from gradquake.paper import reproduce as module
from gradquake.paper.claims_page import null_text, range_text, value_text
from gradquake.paper.reproduce import carry_out, paper_of, reproduce
from gradquake.paper.verdicts import STRENGTHS
from gradquake.paper.xor.conditions import REGIMES, conditions
from gradquake.paper.xor.plan import MORE_PLATES, PLATES, Plan
from gradquake.scrutiny.sensitivity import FIRST
from gradquake.study.pools import open_executor
from gradquake.study.study import open_study

# Enough seeds for a first look and for two groups of six.
SEEDS = 12
SMALL = {"seeds": SEEDS, "gini_seeds": 12, "hidden": (3, 5, 8, 13)}
PLAN = Plan(**SMALL)
QUICK = Plan(**SMALL, quick=True)
SCRIPT = """
import sys
from gradquake.paper.xor.plan import Plan
from gradquake.study.pools import open_executor
from gradquake.paper.reproduce import carry_out
if __name__ == "__main__":
    plan = Plan(seeds=12, gini_seeds=12, hidden=(3, 5, 8, 13), quick=True)
    with open_executor(int(sys.argv[2])) as executor:
        carry_out("xor", plan, sys.argv[1], executor)
"""
IDS = [
    "grok-range",
    "grok-h21",
    "D-pre",
    "D-post",
    "D-synth",
    "D-agg",
    "gamma-agg",
    "D-range",
    "D-tavg",
    "fit-quality",
    "topology",
    "alpha",
    "quantile",
    "loo",
    "steps",
    "angle",
    "gini",
    "shadow",
    "heavy-tail",
    "collapse",
]
STAGES = [
    "measuring", "nulls", "judging", "ladders", "conditions", "topologies", "choices", "power", "kicks",
    "report", "drawing",
]  # fmt: skip
BEYOND = ("topologies", "choices", "power", "kicks")
PAGES = {f"{page}.{kind}" for page in ("claims", "scrutiny") for kind in ("json", "md")}


def made(folder, plan, jobs):
    """Reproduce into a folder; return it, claims and first look; check what progress was told."""
    told, looks, first = [], [], plan.first_look
    with open_executor(jobs) as executor:
        told_to = lambda *of: told.append(of)  # noqa: E731
        claims = carry_out("xor", plan, folder, executor, told_to, looks.append)
    assert [len(look) for look in looks] == [len(claims)]
    assert sum(runs for _, runs, _ in told) == first.n_runs + plan.n_runs
    assert {of for stage, _, of in told if stage == "measuring"} == {first.n_runs, plan.n_runs}
    stages = list(dict.fromkeys(stage for stage, *_ in told))
    assert stages == [s for s in STAGES if not plan.quick or s not in BEYOND]
    return folder, claims, looks[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All of it, in this process; some choices of the specification curve, few snapshots kicked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradquake.scrutiny.criticality, "EVERY", 25)
        patch.setattr(gradquake.scrutiny.sensitivity, "SPECIFIED_QUANTILES", (0.8, 0.9))
        patch.setattr(gradquake.scrutiny.sensitivity, "SPECIFIED_ALPHAS", (0.2, 0.3))
        return made(tmp_path_factory.mktemp("reproduce") / "whole", PLAN, 1)


@pytest.fixture(scope="module")
def quick(whole, tmp_path_factory):
    """What the claims rest on, from the same runs, on two processes."""
    folder = tmp_path_factory.mktemp("reproduce")
    shutil.copy(whole[0] / "study.sqlite", folder)
    return made(folder, QUICK, 2)


@pytest.fixture(scope="module")
def scrutiny(whole):
    return read(whole[0] / "scrutiny.json")


def read(path):
    """Return what is in a JSON file that holds nothing but JSON."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def recorded(path):
    with open_study(path) as study:
        sweeps = study.contents()
    assert not any(sweep["missing"] for sweep in sweeps)
    return sum(sweep["runs"] for sweep in sweeps)


# What is written


def test_every_file_is_there(whole, quick):
    kept = {*PAGES, "report.html", "study.sqlite", "study.sqlite-lock", "figures"}
    assert {path.name for path in whole[0].iterdir()} == {*kept, "specifications.csv"}
    assert {path.name for path in quick[0].iterdir()} == kept


def test_every_run_is_recorded_once(whole):
    assert recorded(whole[0] / "study.sqlite") == PLAN.n_runs


def test_figures_are_pictures(whole, quick):
    for (folder, *_), names in ((whole, PLATES + MORE_PLATES), (quick, PLATES)):
        files = {path.name for path in (folder / "figures").iterdir()}
        assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
        for name in names:
            assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
            assert "<svg" in (folder / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    assert {*MORE_PLATES} == {
        "controls", "intervention", "topologies", "power", "kicks", "specifications"
    }  # fmt: skip


# The claims


def test_every_claim_is_there_in_order(whole):
    folder, claims, _ = whole
    assert [claim.id for claim in claims] == IDS
    written = read(folder / "claims.json")
    assert written == [claim.to_json() for claim in claims]
    for claim in written:
        assert claim["verdict"] in STRENGTHS


def test_the_page_shows_every_quantity_and_note(whole):
    folder, claims, _ = whole
    page = (folder / "claims.md").read_text(encoding="utf-8")
    for claim in claims:
        assert f"| {claim.id} | {claim.text} | {claim.paper} |" in page
        assert claim.note in page
        for quantity in claim.quantities:
            cells = [quantity.name, value_text(quantity), range_text(quantity)]
            cells += [null_text(quantity, rung) for rung in ("gaussian", "permuted")]
            assert f"| {' | '.join(cells)} |" in page


def test_the_report_shows_every_claim_folded(whole):
    folder, claims, _ = whole
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert len(text) < 3_000_000
    titles = re.findall("<h2[^>]*>([^<]*)</h2>", text)
    assert titles[:2] == ["The reading of in-line training", "The claims"]
    assert titles[-1] == "Every table of the scrutiny"
    folded = re.findall(r'<details class="claim" id="claim-([^"]*)">(.*?)</details>', text, re.DOTALL)
    assert [name for name, _ in folded] == IDS
    for claim, (_, body) in zip(claims, folded, strict=True):
        assert escape(claim.note) in body
        assert f"verdict</small>{escape(claim.verdict_text)}</span>" in body
        for quantity in claim.quantities:
            if math.isfinite(quantity.value):
                assert f"<h4>{escape(quantity.name)}</h4>" in body
                assert value_text(quantity) in body
                assert range_text(quantity).partition(";")[0].split(" to ")[0] in body
                for rung in quantity.nulls:
                    assert null_text(quantity, rung) in body


def test_the_report_shows_kicks_only_if_they_were_measured(whole, quick):
    whole, quick = (f[0] / "report.html" for f in (whole, quick))
    title = "Kicks: is anything critical?"
    assert title in whole.read_text(encoding="utf-8")
    assert title not in quick.read_text(encoding="utf-8")
    assert "gradquake reproduce xor --seeds 12 --quick\n" in quick.read_text(encoding="utf-8")


def test_intervals_surround_what_they_should(whole):
    _, claims, _ = whole
    for claim in claims:
        for quantity in claim.quantities:
            if quantity.low == quantity.low:
                assert quantity.low <= quantity.value <= quantity.high


def test_what_accounts_for_an_exponent_adds_up_to_it(whole):
    _, claims, _ = whole
    attributed = [q for claim in claims for q in claim.quantities if q.attribution is not None]
    names = {q.name for q in attributed}
    assert {"D_pre", "D_post", "D", "gamma", "mean of D(t)", "gamma_post"} <= names
    for q in attributed:
        if q.value == q.value:
            distribution, arrangement = q.attribution.distribution, q.attribution.arrangement
            total = q.nulls["gaussian"].value + distribution.value + arrangement.value
            total += 0 if q.attribution.imprint is None else q.attribution.imprint.value
            assert total == pytest.approx(q.value, abs=1e-12)
            assert distribution.low <= distribution.high
            assert arrangement.low <= arrangement.high


def test_the_exponent_of_the_mean_size_is_gamma(whole):
    _, claims, _ = whole
    names = [quantity.name for claim in claims for quantity in claim.quantities]
    assert not [name for name in names if "(mean)" in name or "(max)" in name]


def test_the_groups_of_a_claim_have_verdicts(whole):
    _, claims, _ = whole
    shares = {claim.id: claim.of_groups for claim in claims}
    for name in ("D-pre", "D-post", "D-agg", "D-range", "shadow", "steps", "topology"):
        assert sum(shares[name].values()) == pytest.approx(1)
        # Of two groups.
        assert set(shares[name].values()) <= {0.5, 1.0}
    assert all(set(of) <= set(STRENGTHS) for of in shares.values())


def test_every_rule_is_applied_to_the_nulls_that_have_its_quantities(whole):
    _, claims, _ = whole
    by_id = {claim.id: claim for claim in claims}
    for name in ("D-pre", "D-post", "D-agg", "gamma-agg", "D-range", "loo", "shadow", "collapse"):
        assert set(by_id[name].of_nulls) == {"gaussian", "permuted"}
    assert set(by_id["quantile"].of_nulls) == {"permuted"}
    for name in ("grok-range", "gini", "D-synth", "heavy-tail"):
        assert by_id[name].of_nulls == {}


def test_a_first_look_is_the_plan_of_six_seeds(quick, tmp_path, monkeypatch):
    folder, _, look = quick
    monkeypatch.setattr(module, "_drawn", lambda *_: {})
    shutil.copy(folder / "study.sqlite", tmp_path)
    more_looks = []
    six = Plan(**SMALL | {"seeds": 6}, quick=True)
    claims = carry_out("xor", six, tmp_path, first_look=more_looks.append)
    assert repr(look) == repr(claims)
    assert not more_looks


def test_claims_do_not_rest_on_what_is_left_out(whole, quick):
    # Nor on the number of processes; and a run on a finished study changes nothing.
    for name in ("claims.json", "claims.md"):
        assert (quick[0] / name).read_bytes() == (whole[0] / name).read_bytes()
    for name in PLATES:
        picture = f"figures/{name}.svg"
        assert (quick[0] / picture).read_bytes() == (whole[0] / picture).read_bytes()


# The scrutiny


def test_the_scrutiny_holds_kicks_on_every_topology(whole, scrutiny):
    for mode in ("inline", "shadow"):
        on_each = {of["topology"]: of for of in scrutiny["kicks"][mode]}
        assert on_each.keys() == TOPOLOGIES.keys()
        for rung, moment in product(("real", "permuted"), ("before", "at", "after")):
            ratio = on_each["ring"]["at_largest"][rung][moment]["kick_branching"]
            assert 0 <= ratio["value"] < 1
            assert on_each["ring"]["at_largest"][rung][moment]["kick_median"]["value"] == 1
    page = (whole[0] / "scrutiny.md").read_text(encoding="utf-8")
    assert "## Kicks of one node, before, at and after t_g" in page


def test_the_scrutiny_is_one_strict_object(scrutiny):
    parts = {"sweeps", "conditions", "topologies", "tails", "power", "kicks", "specifications"}
    assert set(scrutiny) == {*parts, "follows_grokking", "many_seeds"}
    assert set(scrutiny["sweeps"]) == {"inline", "shadow"}
    for name, alpha_train in (("inline", 0.3), ("shadow", 0.0)):
        of = scrutiny["sweeps"][name]
        assert of["settings"]["alpha_train"] == alpha_train
        assert tuple(of["nulls"]) == RUNGS
        for phase, statistic in product(PHASES, STATISTICS):
            assert {"value", "low", "high"} <= set(of["exponents"][phase][statistic])
            parts = of["attribution"][phase][statistic]
            assert {"value", "low", "high"} == set(parts["arrangement"])
        assert of["timing"] is not None
    of_modes = ("topologies", "tails", "power", "follows_grokking", "many_seeds")
    for of in (scrutiny[name] for name in of_modes):
        assert set(of) == {"inline", "shadow"}
    for of_sweep in scrutiny["topologies"].values():
        assert [on["topology"] for on in of_sweep] == list(TOPOLOGIES)
    for fits in scrutiny["tails"].values():
        assert [fit["n_parameters"] for fit in fits] == [13, 21, 33, 53]
    for power in scrutiny["power"].values():
        assert {of["runs"] for of in power} == {6, 12}
        assert len(power) == 8
    for tests in scrutiny["follows_grokking"].values():
        assert set(tests) == set(STATISTICS)
        assert all(0 < test["p_value"] <= 1 for test in tests.values())


def test_every_condition_is_there(scrutiny):
    names = [(of["group"], of["name"]) for of in scrutiny["conditions"]]
    own = [("alpha_train", "0.3"), ("alpha_train", "0")]
    assert [of["settings"] for of in scrutiny["conditions"]] == [
        {}, {"alpha_train": 0.0}, *(dict(c.settings) for c in conditions())
    ]  # fmt: skip
    assert names == own + [(c.group, c.name) for c in conditions()]
    sweeps = [scrutiny["sweeps"][name] for name in ("inline", "shadow")]
    for of, sweep in zip(scrutiny["conditions"], sweeps, strict=False):
        for phase, statistic in product(PHASES, STATISTICS):
            estimate = of["exponents"][phase][statistic]["value"]
            assert estimate == sweep["exponents"][phase][statistic]["value"]
        for span, statistic in product((*PHASES, "rise"), STATISTICS):
            part = sweep["attribution"][span][statistic]["arrangement"]
            assert of["arrangement"][span][statistic] == part
        assert of["rise"] == sweep["rise"]
    assert all(of["runs"] == 4 * 6 for of in scrutiny["conditions"])
    assert scrutiny["conditions"][1]["later_than_shadow"]["value"] == 0


def test_quick_leaves_out_what_no_claim_rests_on(whole, quick, scrutiny):
    found = read(quick[0] / "scrutiny.json")
    assert found["topologies"] == found["power"] == found["follows_grokking"] == {}
    assert found["specifications"] is None
    assert found["sweeps"] == scrutiny["sweeps"]
    assert found["tails"] == scrutiny["tails"]
    assert found["conditions"] == scrutiny["conditions"][:2]
    page = (quick[0] / "scrutiny.md").read_text(encoding="utf-8")
    assert page != (whole[0] / "scrutiny.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["whole", "quick"])
def test_the_page_of_the_scrutiny_is_made_of_tables(name, request):
    folder, *_ = request.getfixturevalue(name)
    page = (folder / "scrutiny.md").read_text(encoding="utf-8")
    assert page.startswith("# The paper's experiment under scrutiny\n")
    sections = page.split("\n## ")[1:]
    titles = [section.splitlines()[0] for section in sections]
    assert len(set(titles)) == len(titles) == (30 if name == "whole" else 11)
    for section in sections:
        rows = [line for line in section.splitlines() if line.startswith("|")]
        assert len(rows) > 2
        assert len({row.count("|") for row in rows}) == 1
    assert "nan" not in page
    assert "never" not in page


def test_there_is_a_row_a_specification(whole, scrutiny):
    with (whole[0] / "specifications.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    choices = {
        "alpha_train": ["0", "0.3"],
        "training": [FIRST, *(f"{name}={v}" for name, values in REGIMES.items() for v in values)],
        "topology": list(TOPOLOGIES),
        "quantile": ["0.8", "0.9"],
        "alpha": ["0.2", "0.3"],
        "max_steps": ["20", "200"],
        "statistic": ["max", "mean", "p95"],
        "interval": ["10", "20"],
        "scales": ["all", "without 13", "without 21", "without 33", "without 53"],
    }
    found = [tuple(row[name] for name in choices) for row in rows]
    assert sorted(found) == sorted(product(*choices.values()))
    assert scrutiny["specifications"]["specifications"] == len(rows)
    own = (FIRST, "barabasi_albert", "0.9", "0.3", "20", "max", "10", "all")
    for alpha_train, name in (("0", "shadow"), ("0.3", "inline")):
        row = rows[found.index((alpha_train, *own))]
        of = scrutiny["sweeps"][name]["exponents"]
        for phase in PHASES:
            assert float(row[phase]) == pytest.approx(of[phase]["max"]["value"], rel=1e-5)


# Nothing disturbs it


def test_killed_at_random_moments_it_ends_with_the_same_bits(quick, tmp_path, monkeypatch):
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    moments = random.Random(0)
    for jobs in (1, 2):
        command = [sys.executable, str(script), str(out), str(jobs)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not (out / "study.sqlite").exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(moments.uniform(0.0, 2.0))
        process.kill()
        process.wait()
    monkeypatch.setattr(module, "_drawn", lambda *_: {})
    # It may be continued with the scales in another order.
    made(out, Plan(**SMALL | {"hidden": (13, 3, 8, 5)}, quick=True), 1)
    for name in PAGES:
        assert (out / name).read_bytes() == (quick[0] / name).read_bytes()
    assert recorded(out / "study.sqlite") == QUICK.n_runs


def test_a_single_seed_leaves_little_to_judge(tmp_path):
    plan = Plan(seeds=1, gini_seeds=3, hidden=(3, 5, 8), quick=True)
    claims = carry_out("xor", plan, tmp_path)
    assert {claim.verdict for claim in claims} == {"not testable"}
    assert "At least one size has a single run" in (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert "nan" not in (tmp_path / "scrutiny.md").read_text(encoding="utf-8")
    assert read(tmp_path / "scrutiny.json")["sweeps"]["inline"]["exponents"]["all"]["max"]["low"] is None


# Plans


def test_six_seeds_are_the_first_six_of_more():
    few, many = Plan(seeds=2), Plan(seeds=5)
    assert set(few.inline) <= set(many.inline)
    assert set(few.baselines[0]) <= set(many.baselines[0])
    assert Plan(seeds=200).first_look == Plan(seeds=6, quick=True)
    assert few.first_look is None


def test_no_run_of_a_plan_is_trained_twice():
    for plan in (PLAN, QUICK):
        runs = [run for sweep in plan.trained for run in sweep]
        assert len(set(runs)) == len(runs)
        synthetic = [run for sweep in plan.baselines for run in sweep]
        assert len(set(synthetic)) == len(synthetic)
        assert plan.n_runs == len(runs) + len(synthetic)


def test_a_quick_plan_is_part_of_the_whole():
    assert QUICK.conditions == []
    assert [(c.group, c.name) for c in PLAN.conditions] == [(c.group, c.name) for c in conditions()]
    assert {run for sweep in QUICK.trained for run in sweep} < {
        run for sweep in PLAN.trained for run in sweep
    }
    assert QUICK.n_runs < PLAN.n_runs


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"gini_seeds": 0}, "gini_seeds is 0"),
        ({"hidden": (3, 5), "quick": True}, "at least 3 different sizes are needed"),
        ({"hidden": (3, 5, 5), "quick": True}, "at least 3 different sizes are needed"),
        # The specification curve leaves each of them out.
        ({"hidden": (3, 5, 8)}, "at least 4 different sizes are needed"),
    ],
)
def test_a_plan_that_cannot_be_judged_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Plan(**wrong)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("here first")
    with pytest.raises(InputError, match=r"file cannot be written .*; a folder is needed"):
        carry_out("xor", QUICK, tmp_path / "file")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"paper": "nor"}, "the paper is 'nor'; one of xor, modadd, known is needed"),
        ({"jobs": 2, "scheduler": "tcp://host:8786"}, "jobs and scheduler were both given"),
        ({"jobs": 0}, "jobs is 0; an integer of at least 1 is needed"),
        ({"seeds": 0}, "seeds is 0; an integer of at least 1 is needed"),
    ],
)
def test_a_reproduction_says_what_is_wrong(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        reproduce(**{"out": tmp_path, "quick": True, **wrong})


def test_a_figure_that_does_not_exist_is_told_with_those_that_do():
    with pytest.raises(InputError, match="the figure is 'figure9'; one of figure1, figure2"):
        module._drawn(paper_of("xor").plates, None, "figure9")


def test_plates_are_those_of_the_plan():
    assert set(Plan().plates) == set(paper_of("xor").plates())


# A paper from elsewhere

TOY = """
from dataclasses import dataclass

from gradquake.paper.claim import Claim, Measured
from gradquake.paper.claims_part import CLAIMS
from gradquake.paper.paper import Paper
from gradquake.paper.quantity import Quantity
from gradquake.paper.verdicts import Region, Rule, Statement
from gradquake.report.page import Chapter


@dataclass(frozen=True)
class Plan:
    seeds: int
    n_runs = 1
    studies = ("toy.sqlite",)
    plates = ("toy",)
    has_intervals = True
    first_look = None


def draw(found, path):
    path.with_suffix(".png").write_bytes(b"drawn")


def plates():
    return {"toy": draw}


def measured(found):
    return Measured([Quantity("answer", found, found, found, paper=42)])


PAPER = Paper(
    name="toy",
    plan=lambda seeds, _: Plan(seeds),
    measure=lambda plan, *others: others[-1]("measuring", plan.n_runs, plan.n_runs),
    judged_on=lambda plan, *_: plan.seeds,
    gather=lambda plan, _, found, *others: found,
    claims=(
        Claim(
            "toy-answer",
            "the answer",
            "42",
            measured,
            Rule.of(Statement("answer", region=Region(41, 43))),
            "The answer must agree.",
        ),
    ),
    documents=lambda found: {"toy.md": f"# {found}\\n"},
    page="toy",
    report="toy.html",
    chapters=lambda _found, claims, _executor: [Chapter("", CLAIMS, claims)],
    plates=plates,
)
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_paper_is_one_object_and_one_entry_in_a_table(tmp_path, monkeypatch, jobs):
    (tmp_path / "toypaper.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toypaper", raising=False)
    toy = importlib.import_module("toypaper").PAPER
    monkeypatch.setitem(module.PAPERS, toy.name, toy)
    out = tmp_path / "out"
    for seeds, verdict in ((42, "reproduced"), (41, "not reproduced")):
        (judged,) = reproduce("toy", out=out, seeds=seeds, jobs=jobs)
        assert judged.verdict == verdict
    assert (out / "toy.md").read_text() == "# 41\n"
    assert (out / "figures" / "toy.png").read_bytes() == b"drawn"
    assert '<small class="ear">verdict</small>not reproduced</span>' in (out / "toy.html").read_text()
    assert "| toy-answer | the answer | 42 | answer | 41 [41, 41] |" in (out / "claims.md").read_text()


@pytest.mark.parametrize("text", ["[1]", '[{"id": "D-pre", "ci_low": 0.9}]'])
def test_claims_in_an_old_form_are_told_before_anything_is_measured(tmp_path, text):
    (tmp_path / "claims.json").write_text(text)
    with pytest.raises(InputError, match=r"does not hold claims in the form of this version; move it"):
        reproduce("xor", out=tmp_path, quick=True, jobs=1)
    assert not list(tmp_path.glob("*.sqlite*"))
    assert (tmp_path / "claims.json").read_text() == text
