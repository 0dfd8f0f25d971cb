"""The HTML report: every part, every reason, and nothing that a label can smuggle in."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import gradquake as gq
from gradquake import InputError, StudyError
from gradquake.analysis.shown import bracketed
from gradquake.analysis.tensors import tensor_shares
from gradquake.report import origin, parts
from gradquake.report.page import Part, _environment
from gradquake.report.study_page import report
from gradquake.report.text import Table
from gradquake.study.recording import RunRecord

SCRIPT = "</script><script>alert(1)</script>"
ATTRIBUTE = '"><svg onload="alert(1)"><title>\'&{{ 7 * 7 }}'


class Elements(HTMLParser):
    """The elements of a page, with their attributes and the text inside."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def inside(self, tag):
        return "".join(text for of, text in self.texts if of == tag)

    def titles(self):
        return [text for of, text in self.texts if of == "h2"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "sweep.sqlite"
    return gq.run("xor", hidden=[3, 5, 8], seeds=3, alpha_train=0, epochs=200, out=path, jobs=1)


@pytest.fixture(scope="module")
def page(study):
    return report(study, jobs=1).read_text(encoding="utf-8")


def attached(path, sizes=(41, 81, 121), rungs=("real",), **labels):
    """A study of runs that belong to no experiment."""
    rng = np.random.default_rng(0)
    records = [
        RunRecord(
            {"experiment": "attached", "surrogate": rung, "n_parameters": n, "seed": seed, **labels},
            None,
            np.arange(20) * 10,
            {"size": rng.poisson(0.2 * n, 20) + 1, "loss": rng.random(20)},
        )
        for n in sizes
        for seed in range(2)
        for rung in rungs
    ]
    with gq.open_study(path, create=True) as opened:
        opened.write(records)
    return path


def data_of(text):
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_a_report_has_every_part(page):
    titles = Elements(page).titles()
    expected = [part.title for name, part in parts.PARTS.items() if name not in ("tensors", "tables")]
    assert titles == expected
    assert len(page) < 1_000_000


def test_a_report_requests_nothing_and_runs_only_its_own_script(page):
    found = Elements(page).found
    assert [attrs.get("type") for tag, attrs in found if tag == "script"] == ["application/json", None]
    assert not [attrs for _, attrs in found if {"src", "srcset", "action", "data"} & attrs.keys()]
    hrefs = [attrs["href"] for _, attrs in found if "href" in attrs]
    assert {href[0] for href in hrefs} == {"#", "d"}
    assert "url(" not in page
    assert "@import" not in page
    (policy,) = [attrs["content"] for _, attrs in found if "http-equiv" in attrs]
    assert policy.startswith("default-src 'none'")


def test_numbers_are_those_of_the_result(study, page):
    analyzed = gq.analyze(study, jobs=1)
    (curve,) = [
        series for chart in data_of(page)[:1] for series in chart["series"] if series["name"] == "real"
    ]
    found = analyzed.dimension("max")
    np.testing.assert_allclose(curve["value"], found["value"], rtol=1e-6)
    np.testing.assert_allclose(curve["low"], found["low"], rtol=1e-6)
    at_end = bracketed(*(float(found[name][-1]) for name in ("value", "low", "high")))
    assert f">{at_end}</td>" in page
    for sentence in analyzed.reading:
        assert sentence in Elements(page).inside("li")
    caution = analyzed.exponent("post", "max").cautions[0]
    assert caution in Elements(page).inside("p")


def test_every_recorded_channel_is_shown(study, page):
    channels = gq.analyze(study, jobs=1).channels
    assert {"duration", "area", "peak", "size_per_step", "size_per_node"} <= channels.keys()
    assert not {"size", "truncated", "loss", "accuracy"} & channels.keys()
    area = gq.analyze(study, channel="area", jobs=1)
    assert channels["area"].exponent("permuted", "post", "max").value == pytest.approx(
        area.scrutiny.ladder.exponent("permuted", "post", "max").value
    )
    shown = {attrs["data-channel"] for _, attrs in Elements(page).found if "data-channel" in attrs}
    assert shown == set(channels)
    assert area.channels == {}


def test_charts_can_be_read_without_a_script(page):
    found = Elements(page).found
    figures = [attrs for tag, attrs in found if tag == "figure"]
    drawings = [attrs for tag, attrs in found if attrs.get("role") == "img"]
    assert len(figures) == len(drawings) > 20
    assert all(attrs["aria-label"] for attrs in drawings)
    lines = [attrs["d"] for tag, attrs in found if attrs.get("class") == "line"]
    assert all(line.startswith("M") for line in lines if line)
    assert not any("nan" in line.lower() or "inf" in line.lower() for line in lines)


def test_a_result_writes_the_same_page(study, tmp_path):
    analyzed = gq.analyze(study, jobs=1)
    text = analyzed.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text == analyzed.to_html()
    with pytest.raises(InputError, match=r"cannot be written .*; a file is needed"):
        analyzed.to_html(tmp_path / "none" / "page.html")


def test_commands_make_the_sweep_again(study, page):
    (block,) = re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    first, second, third = block.strip().split("\n")
    assert first.startswith(f"gradquake run xor --out {study} --hidden 3,5,8 --seeds 3 --epochs 200 ")
    assert second == f"gradquake analyze {study}"
    assert third == f"gradquake report {study} --out {study.with_suffix('.html')}"


def test_the_command_makes_the_same_runs(study, call, tmp_path):
    with gq.open_study(study) as opened:
        command = origin.run_command(opened.dataset, tmp_path / "again.sqlite").split()[1:]
        keys = opened.keys()
    assert call(*command, "--jobs", 1).returncode == 0
    with gq.open_study(tmp_path / "again.sqlite") as again:
        assert again.keys() == keys


def test_some_sweeps_have_no_command(study, tmp_path):
    with gq.open_study(study) as opened:
        sweep = opened.dataset
    assert origin.run_command(sweep.isel(run=slice(1, None)), "x") is None
    assert origin.run_command(sweep.assign_attrs(experiment="unknown"), "x") is None
    with gq.open_study(attached(tmp_path / "a.sqlite")) as opened:
        assert origin.run_command(opened.dataset, "x") is None
    assert origin.spans_of([9, 0, 1, 2, 2]) == "0 to 2, 9"


def test_the_whole_ladder_and_further_tables(study, tmp_path):
    text = report(study, tmp_path / "r.html", nulls=True, jobs=1).read_text(encoding="utf-8")
    elements = Elements(text)
    assert elements.titles() == [of.title for name, of in parts.PARTS.items() if name != "tensors"]
    assert "sign flipped" in text
    assert "Was gradient descent stable?" in elements.inside("summary")
    assert "--nulls" in elements.inside("pre")


@pytest.mark.parametrize(
    ("sizes", "rungs", "words", "has_exponents"),
    [
        ((41, 81, 121), ("real",), "No gaussian and no permuted null was measured", True),
        ((41, 81, 121), ("real", "gaussian"), "No permuted null was measured", True),
        ((41, 81), ("real",), "The sweep has 2 scales; D(t) needs at least 3", False),
        ((41,), ("real",), "All runs have N = 41; D(t) needs at least three", False),
    ],
)
def test_a_study_that_lacks_something_says_what(tmp_path, sizes, rungs, words, has_exponents):
    text = report(attached(tmp_path / "a.sqlite", sizes, rungs)).read_text(encoding="utf-8")
    elements = Elements(text)
    assert words in elements.inside("p")
    assert ("D(t) beside its nulls" in elements.titles()) == has_exponents
    assert ("Do not conclude anything from these exponents" in text) == has_exponents
    assert elements.titles()[-2:] == ["Single runs", "How to make it again"]
    names = {of["name"] for chart in data_of(text) for of in chart["series"]}
    assert ("gaussian" in names) == ("gaussian" in rungs)


def test_recorded_nulls_are_used(tmp_path):
    path = attached(tmp_path / "a.sqlite", rungs=("real", "gaussian", "permuted"))
    titles = Elements(report(path, jobs=1).read_text(encoding="utf-8")).titles()
    assert "The ladder of nulls" in titles


def test_no_label_becomes_code(tmp_path):
    labels = {"note": SCRIPT, ATTRIBUTE: ATTRIBUTE, "javascript:alert(1)": "\x1b]0;x\x07\u2028"}
    path = attached(tmp_path / f"a{ATTRIBUTE.replace('/', '')[:30]}.sqlite", **labels)
    text = report(path).read_text(encoding="utf-8")
    elements = Elements(text)
    assert [attrs.get("type") for tag, attrs in elements.found if tag == "script"] == [
        "application/json", None,
    ]  # fmt: skip
    assert not [attrs for _, attrs in elements.found if any(name.startswith("on") for name in attrs)]
    assert SCRIPT in elements.inside("td")
    assert ATTRIBUTE in elements.inside("td")
    assert "\x1b" not in text
    own = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert own == [(Path(parts.__file__).parent / "templates" / "script.js").read_text(encoding="utf-8")]


def test_an_experiment_with_a_bad_name_is_only_text(tmp_path):
    path = attached(tmp_path / "a.sqlite", experiment_=SCRIPT)
    with gq.open_study(path) as opened:
        sweep = opened.dataset.assign_attrs(experiment=SCRIPT)
        nulls = {rung: sweep.assign_attrs(surrogate=rung) for rung in ("gaussian", "permuted")}
    for text in (
        gq.analyze(sweep, recorded=nulls, jobs=1).to_html(),
        gq.analyze(sweep, recorded=nulls, jobs=1)._repr_html_(),
    ):
        assert not [tag for tag, attrs in Elements(text).found if attrs.get("onload")]
        assert text.count("alert(1)</script>") == 0


def test_json_for_the_script_cannot_end_its_element():
    shown = _environment().from_string("{{ data|tojson }}").render(data={"x": SCRIPT + "<!--&"})
    assert not set("<>&") & set(shown)
    assert json.loads(shown) == {"x": SCRIPT + "<!--&"}


def test_a_part_from_outside(study, tmp_path, monkeypatch):
    template = tmp_path / "mine.html"
    template.write_text(
        '{% from "macros.html" import table %}<p>{{ runs }} runs of {{ text }}</p>{{ table(one) }}',
        encoding="utf-8",
    )

    def mine(subject):
        found = Table("Mine", ("a",), [("<b>1</b>",)])
        return {"runs": subject.sweep.sizes["run"], "text": "<i>", "one": found}

    monkeypatch.setitem(parts.PARTS, "mine", Part("My own part", mine, template))
    nothing = Part("Nothing", lambda _subject: None, template)
    monkeypatch.setitem(parts.PARTS, "nothing", nothing)
    elements = Elements(gq.analyze(study, jobs=1).to_html())
    assert elements.titles()[-1] == "My own part"
    assert "9 runs of <i>" in elements.inside("p")
    assert "<b>1</b>" in elements.inside("td")


def test_the_part_of_the_documentation(study, tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    (code,) = re.findall("```python\n(.*?)```", text, re.DOTALL)
    shutil.copy(study, tmp_path / "sweep.sqlite")
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    assert "The seeds go up to 2." in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_bad_input_is_refused_before_any_work(study, tmp_path):
    with pytest.raises(InputError, match="is no folder; the report needs a folder that exists"):
        report(study, tmp_path / "none" / "r.html")
    with pytest.raises(InputError, match="jobs is 0"):
        report(study, tmp_path / "r.html", jobs=0)
    with pytest.raises(StudyError, match="does not exist"):
        report(tmp_path / "none.sqlite")
    assert not list(tmp_path.iterdir())


def test_the_command_line(study, call, tmp_path):
    done = call("report", study, "--out", tmp_path / "r.html", "--where", "task=xor", "--jobs", 1)
    assert (done.returncode, done.stdout) == (0, f"Written: {tmp_path / 'r.html'}\n")
    assert "--where task=xor" in (tmp_path / "r.html").read_text(encoding="utf-8")
    done = call("report", tmp_path / "none.sqlite")
    assert done.returncode == 2


def test_topplings_by_tensor_are_a_part_of_their_own(tmp_path, study):
    path = tmp_path / "tensors.sqlite"
    gq.run("xor", hidden=[3, 5, 8], seeds=3, tensors=True, epochs=40, out=path, jobs=1)
    page = gq.analyze(path, jobs=1).to_html()
    found = tensor_shares(gq.open_study(path).select())
    assert "Where it topples" in page
    for name, entries in zip(found.names, found.entries, strict=True):
        assert f"{name}, {entries:.0%} of entries" in page
    assert "Where it topples" not in gq.analyze(study, jobs=1).to_html()
