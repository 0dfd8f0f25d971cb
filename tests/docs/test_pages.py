"""Every block of Python in the documentation is run, and the pages of the site name what there is."""

import re
import runpy
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import yaml

import gradquake as gq
from gradquake.avalanche.surrogates import SURROGATES
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.experiments.table import EXPERIMENTS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")]

# These pages need files or interruptions of their own; the tests beside them follow them.
ELSEWHERE = {
    "files.md": "cli/test_measure.py",
    "pytorch.md": "pytorch/test_guide.py",
    "report.md": "report/test_report.py",
}

# A block of Python, or a command that reads a study and ends.
STEP = re.compile(
    r"^```python\n(?P<python>[\s\S]*?)^```$|"
    r"^    gradquake (?P<command>(?!watch)\w+ \w+\.sqlite.*?)(?: +#.*)?$",
    re.M,
)


def has_python(page):
    return "```python\n" in page.read_text("utf-8")


@pytest.fixture
def same_tables():
    """Take entries that a page adds out again."""
    yield
    for table in (TOPOLOGIES, SURROGATES, EXPERIMENTS):
        for name in table.added:
            del table[name]


def test_these_pages_have_python():
    found = {page.name for page in PAGES if has_python(page)}
    assert found == {"README.md", "start.md", "extending.md", *ELSEWHERE}
    for page, test in ELSEWHERE.items():
        assert f'"{page}"' in (ROOT / "tests" / test).read_text("utf-8")


@pytest.mark.usefixtures("one_thread", "same_tables")
@pytest.mark.parametrize("page", ["README.md", "docs/start.md", "docs/extending.md"])
def test_a_page_can_be_followed(page, tmp_path, monkeypatch, call):
    """Do what the page says, from top to bottom, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "followed"}
    for step in STEP.finditer((ROOT / page).read_text("utf-8")):
        if step["python"]:
            exec(step["python"], names)
        else:
            done = call(*shlex.split(step["command"]))
            assert done.returncode == 0, f"{step['command']}: {done.stderr}"
    assert list(tmp_path.glob("*.sqlite"))
    if page == "docs/start.md":
        said = names["result"].reading  # as the page quotes it; only digits may differ
        assert any("shuffled gradients" in line and "change alike" in line for line in said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_work_in_the_repository_too(page):
    """The build checks them on the site; generated pages are none of the repository's."""
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        target = (page.parent / link).resolve()
        assert target.exists(), link
        assert target.relative_to(ROOT).parts[:2] not in {("docs", "api"), ("docs", "gallery_of")}


def test_the_versions_of_the_site_name_this_one():
    versions = yaml.safe_load((DOCS / "_static/switcher.json").read_text("utf-8"))
    assert gq.__version__ in [one["version"] for one in versions]
    assert [one["version"] for one in versions if one.get("preferred")]


def test_read_the_docs_builds_the_site_from_the_lock():
    settings = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text("utf-8"))
    assert settings["sphinx"] == {"configuration": "docs/conf.py", "fail_on_warning": True}
    assert any("-r locks/docs.txt" in line for line in settings["build"]["jobs"]["install"])


def test_every_term_of_the_glossary_stands_once():
    text = (DOCS / "glossary.md").read_text("utf-8").partition("```{glossary}\n")[2]
    terms = [term for line in re.findall(r"^(\w.*)$", text, re.M) for term in line.split(", ")]
    assert len(terms) == len(set(terms)) > 25


@pytest.mark.usefixtures("one_thread", "same_tables")
@pytest.mark.parametrize("example", sorted(DOCS.glob("gallery/plot_*.py")), ids=lambda path: path.stem)
def test_an_example_of_the_gallery_draws(example):
    plt.close("all")
    runpy.run_path(str(example))
    assert plt.get_fignums()
    plt.close("all")
