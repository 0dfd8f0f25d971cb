"""Metadata, recipe, citation, workflows and the list for the owner agree with each other."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import gradquake

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
RECIPE = yaml.safe_load((ROOT / "recipe/recipe.yaml").read_text("utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
WORKFLOWS = {
    path.stem: yaml.safe_load(path.read_text("utf-8"))
    for path in (ROOT / ".github/workflows").glob("*.yml")
}
ON_CONDA = {"matplotlib": "matplotlib-base", "torch": "pytorch"}
DIST = runpy.run_path(str(ROOT / "tests/packaging/dist.py"))


def bounds(requirements):
    """The bounds of requirements, by their names on conda-forge."""
    parsed = [Requirement(one) for one in requirements]
    return {ON_CONDA.get(one.name, one.name): str(one.specifier) for one in parsed}


def of_recipe(kind):
    lines = [line.split(" ", 1) for line in RECIPE["requirements"][kind]]
    return {name: bound for name, bound in lines if name != "python"}


def test_the_version_has_one_place():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert DIST["version"]() == gradquake.__version__
    assert RECIPE["context"]["version"] == CITATION["version"] == gradquake.__version__
    command = [sys.executable, "-m", "gradquake", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == f"gradquake {gradquake.__version__}\n"


def test_the_recipe_needs_what_the_package_needs():
    assert of_recipe("run") == bounds(PROJECT["project"]["dependencies"])
    extras = PROJECT["project"]["optional-dependencies"].values()
    assert of_recipe("run_constraints") == bounds(one for extra in extras for one in extra)
    python = PROJECT["project"]["requires-python"]
    assert f">={RECIPE['context']['python_min']}" == python
    (hatchling,) = PROJECT["build-system"]["requires"]
    assert f"hatchling {Requirement(hatchling).specifier}" in RECIPE["requirements"]["host"]
    (script,) = RECIPE["build"]["python"]["entry_points"]
    assert script == f"gradquake = {PROJECT['project']['scripts']['gradquake']}"
    about = RECIPE["about"]
    assert (about["summary"], about["license"]) == (
        PROJECT["project"]["description"],
        PROJECT["project"]["license"],
    )


def test_the_lowest_lock_holds_the_lowest_versions():
    lines = (ROOT / "locks/lowest.txt").read_text("utf-8").split()
    locked = {name.replace("-", "_"): found for name, found in (line.split("==") for line in lines)}
    for one in map(Requirement, PROJECT["project"]["dependencies"]):
        (bound,) = one.specifier
        (exact,) = Requirement(f"x>={locked[one.name.replace('-', '_')]}").specifier
        padded = [(*map(int, part.split(".")), 0, 0)[:3] for part in (bound.version, exact.version)]
        assert padded[0] == padded[1], one


def test_the_classifiers_name_the_pythons_that_are_tested():
    classified = {
        line.rpartition(" ")[2]
        for line in PROJECT["project"]["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    }
    matrix = WORKFLOWS["tests"]["jobs"]["core"]["strategy"]["matrix"]
    assert set(matrix["python"]) == classified
    assert f">={min(classified, key=lambda v: int(v[2:]))}" == PROJECT["project"]["requires-python"]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_has_few_permissions_and_pinned_actions(name):
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    more = {job: of["permissions"] for job, of in workflow["jobs"].items() if "permissions" in of}
    assert more == {
        "tests": {},
        "docs": {"deploy": {"pages": "write", "id-token": "write"}},
        "release": {"pypi": {"id-token": "write"}, "github": {"contents": "write"}},
    }.get(name)
    steps = [step for job in workflow["jobs"].values() for step in job.get("steps", [])]
    for used in (step["uses"] for step in steps if "uses" in step):
        assert re.fullmatch(r"[\w-]+/[\w-]+@(release/)?v\d+", used), used


def test_the_papers_are_cited_with_their_identifiers():
    dois = {reference["doi"].rpartition(".")[2] for reference in CITATION["references"]}
    bibliography = (ROOT / "paper/paper.bib").read_text("utf-8")
    ids = {"2604.04655", "2604.16431", "2605.02968"}
    assert {reference["url"].rpartition("/")[2] for reference in CITATION["references"]} == ids
    assert dois == {one.partition(".")[2] for one in ids}
    for one in ids:
        assert f"eprint = {{{one}}}" in bibliography


def test_every_reference_of_the_paper_is_cited_and_every_citation_has_one():
    text = (ROOT / "paper/paper.md").read_text("utf-8")
    bibliography = (ROOT / "paper/paper.bib").read_text("utf-8")
    cited = set(re.findall(r"@([a-z]+\d{4}[a-z]*)", text))
    assert cited == set(re.findall(r"^@\w+\{(\w+),$", bibliography, re.M))


def test_whatever_is_left_to_the_owner_is_listed_in_one_place():
    page = (ROOT / "docs/release.md").read_text("utf-8")
    listed = re.findall(r"^\| `([^`]+)` \|", page.partition("## Set-up")[0], re.M)
    assert sorted(listed) == DIST["marked"](listed)
