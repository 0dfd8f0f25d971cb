"""The paper end to end on small networks: what is written, and that nothing disturbs it."""

import json
import random
import subprocess
import sys
import time

import pytest

from gradquake.errors import InputError
from gradquake.paper.evidence import Plan
from gradquake.paper.reproduce import number, reproduce, with_interval

PLAN = Plan(seeds=3, gini_seeds=12, hidden=(3, 5, 8, 13))
SCRIPT = """
import sys
from gradquake.errors import InputError
from gradquake.paper.evidence import Plan
from gradquake.paper.reproduce import reproduce
if __name__ == "__main__":
    reproduce(sys.argv[1], Plan(seeds=3, gini_seeds=12, hidden=(3, 5, 8, 13)), jobs=int(sys.argv[2]))
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
    "loo",
    "steps",
    "angle",
    "gini",
    "shadow",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce")
    stages = []
    claims = reproduce(folder, PLAN, progress=lambda stage, runs: stages.append((stage, runs)))
    assert sum(runs for _, runs in stages) == PLAN.n_runs
    assert [stage for stage, _ in stages][-2:] == ["analysing", "drawing"]
    return folder, claims


def test_every_claim_is_there_in_order(undisturbed):
    folder, claims = undisturbed
    assert [claim.id for claim in claims] == IDS
    written = json.loads((folder / "claims.json").read_text())
    assert written == [claim.as_json() for claim in claims]
    for claim in written:
        assert {"id", "claim", "paper", "measured", "ci_low", "ci_high", "verdict", "null"} <= set(claim)
        assert claim["verdict"] in ("reproduced", "direction only", "not reproduced", "not testable")


def test_the_page_shows_every_quantity_and_note(undisturbed):
    folder, claims = undisturbed
    page = (folder / "claims.md").read_text()
    for claim in claims:
        assert f"| {claim.id} | {claim.claim} | {claim.paper} |" in page
        assert claim.note in page
        for quantity in claim.quantities:
            assert f"| {quantity.name} | {with_interval(quantity)} |" in page


def test_intervals_surround_what_they_should(undisturbed):
    _, claims = undisturbed
    for claim in claims:
        for quantity in claim.quantities:
            if quantity.ci_low == quantity.ci_low:
                assert quantity.ci_low <= quantity.ci_high


def test_figures_are_pictures(undisturbed):
    folder, _ = undisturbed
    for name in ("figure1", "figure2", "figure3"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / "figures" / f"{name}.svg").read_text(encoding="utf-8")


def test_a_second_run_changes_nothing(undisturbed):
    folder, _ = undisturbed
    files = [folder / "claims.json", folder / "claims.md", *sorted((folder / "figures").glob("*.svg"))]
    before = [path.read_bytes() for path in files]
    reproduce(folder, PLAN)
    assert [path.read_bytes() for path in files] == before


def test_two_processes_give_the_same_bits(undisturbed, tmp_path):
    folder, _ = undisturbed
    reproduce(tmp_path, PLAN, jobs=2)
    assert (tmp_path / "claims.json").read_bytes() == (folder / "claims.json").read_bytes()


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_at_random_moments_it_ends_with_the_same_bits(jobs, undisturbed, tmp_path):
    folder, _ = undisturbed
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "out"), str(jobs)]
    moments = random.Random(jobs)
    for _ in range(4):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.5, 3.0))
        process.kill()
        process.wait()
    subprocess.run(command, check=True)
    assert (tmp_path / "out" / "claims.json").read_bytes() == (folder / "claims.json").read_bytes()


def test_six_seeds_are_the_first_six_of_more():
    few, many = Plan(seeds=2), Plan(seeds=5)
    assert set(few.inline) <= set(many.inline)
    assert set(few.baselines[0]) <= set(many.baselines[0])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (float("nan"), "none"),
        (0.0, "0"),
        (1.0, "1"),
        (0.00123456, "0.00123"),
        (0.95518, "0.955"),
        (28.356, "28.4"),
        (214.67, "215"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_a_single_seed_leaves_little_to_judge(tmp_path):
    plan = Plan(seeds=1, gini_seeds=12, hidden=(3, 5, 8))
    claims = reproduce(tmp_path, plan)
    judged = {claim.id for claim in claims if claim.verdict != "not testable"}
    assert judged <= {"grok-h21", "angle", "gini"}
    assert "A scale has a single run" in (tmp_path / "claims.md").read_text()


def test_the_order_of_the_scales_does_not_matter(tmp_path):
    ascending = Plan(seeds=2, gini_seeds=3, hidden=(3, 5, 8))
    mixed = Plan(seeds=2, gini_seeds=3, hidden=(8, 3, 5))
    first = [claim.as_json() for claim in reproduce(tmp_path / "a", ascending)]
    assert first == [claim.as_json() for claim in reproduce(tmp_path / "b", mixed)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"gini_seeds": 0}, "gini_seeds is 0"),
        ({"hidden": (3, 5)}, "at least 3 different sizes are needed"),
    ],
)
def test_a_plan_that_cannot_be_judged_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Plan(**wrong)
