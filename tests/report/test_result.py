"""The one call from a study to a result."""

import json
import re

import matplotlib as mpl
import numpy as np
import pytest

import gradquake as gq
from gradquake import InputError, StudyError
from gradquake.avalanche.surrogates import RUNGS
from gradquake.experiments import xor
from gradquake.report import result
from gradquake.report.result import Result, analyze
from gradquake.study.recording import RunRecord


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of two sweeps of XOR networks."""
    path = tmp_path_factory.mktemp("result") / "study.sqlite"
    with gq.open_study(path, create=True) as opened:
        for alpha_train in (0.0, 0.3):
            opened.write(xor.measure(xor.sweep((3, 5, 8), 3, epochs=200, alpha_train=alpha_train)))
    return path


@pytest.fixture(scope="module")
def analyzed(study):
    return gq.analyze(study, alpha_train=0, jobs=1)


@pytest.fixture(scope="module")
def attached(tmp_path_factory):
    """A study of runs with recorded nulls, whose gradients cannot be computed again."""
    path = tmp_path_factory.mktemp("result") / "attached.sqlite"
    rng = np.random.default_rng(0)
    records = []
    for n in (41, 81, 121):
        for seed in range(2):
            for rung in ("real", "gaussian", "permuted", "sign_flipped"):
                config = {"experiment": "attached", "surrogate": rung, "n_parameters": n, "seed": seed}
                size = rng.poisson(0.2 * n, 20) + 1
                records.append(
                    RunRecord({**config, "every": 10}, 100, np.arange(20) * 10, {"size": size})
                )
    with gq.open_study(path, create=True) as opened:
        opened.write(records)
    return path


def test_a_result_gives_what_was_computed(analyzed):
    ladder = analyzed.scrutiny.ladder
    post = analyzed.exponent("post", "max")
    assert post is ladder.exponent("real", "post", "max")
    assert post.low <= post.value <= post.high
    assert set(analyzed.dimension("max")) >= {"value", "low", "high"}
    assert analyzed.dimension("mean").sizes == {"epoch": 21}
    assert analyzed.crossing("max") is ladder.real.curves["max"].crossing
    parts = analyzed.attribution("post", "mean")
    total = parts.estimator.value + parts.distribution.value + parts.arrangement.value
    assert total == pytest.approx(analyzed.exponent("post", "mean").value - 1)
    rise = analyzed.exponent("post", "max").value - analyzed.exponent("pre", "max").value
    assert analyzed.attribution("rise", "max").total.value == pytest.approx(rise)


def test_a_result_is_its_reading(analyzed):
    assert str(analyzed).split("\n") == analyzed.reading
    assert analyzed.reading[0].startswith("The sweep has 9 runs of the experiment xor, 3 at each of 3 ")
    assert repr(analyzed).startswith("<Result of 9 runs: D = ")
    assert len(repr(analyzed)) < 80


def test_a_result_in_a_notebook_is_escaped(study, analyzed):
    shown = analyzed._repr_html_()
    assert len(re.findall("<li[ >]", shown)) == len(analyzed.reading)
    assert "the gradient&#39;s entries" in shown
    assert "<caption>Exponents and their nulls</caption>" in shown
    assert "<script" not in shown
    assert gq.info(study)._repr_html_().startswith("<p>18 runs finished, 0 planned and missing")


@pytest.mark.parametrize("of", ["path", "text", "study", "dataset"])
def test_a_study_a_path_and_a_dataset_give_the_same(study, analyzed, of):
    with gq.open_study(study) as opened:
        if of == "dataset":
            found = analyze(opened.select(alpha_train=0), jobs=1)
        else:
            given = {"path": study, "text": str(study), "study": opened}[of]
            found = analyze(given, alpha_train=0, jobs=1)
    assert found.to_json() == analyzed.to_json()


def test_a_dataset_with_its_recorded_nulls(attached):
    whole = analyze(attached, jobs=1, nulls=True)
    assert tuple(whole.scrutiny.ladder.nulls) == ("permuted", "sign_flipped", "gaussian") or set(
        whole.scrutiny.ladder.nulls
    ) == {"gaussian", "permuted", "sign_flipped"}
    assert whole.topologies == ()
    assert "Collapse of P(>s) against s / N^D" in [table.title for table in whole.tables]
    found = analyze(attached, jobs=1)
    assert set(found.scrutiny.ladder.nulls) == {"gaussian", "permuted"}
    with gq.open_study(attached) as opened:
        dataset, nulls = opened.with_nulls()
    assert analyze(dataset, recorded=nulls, jobs=1).to_json() == found.to_json()
    with pytest.raises(InputError, match="no gaussian and no permuted null was measured"):
        analyze(dataset, jobs=1)


def test_one_statistic(study):
    found = analyze(study, alpha_train=0, statistic="mean", jobs=1)
    assert found.statistics == ("mean",)
    assert repr(found).startswith("<Result of 9 runs: gamma = ")
    assert set(json.loads(found.to_json())["crossing"]) == {"mean"}
    assert {row[0] for row in found.tables[0].rows} == {"gamma (mean)"}


def test_the_whole_ladder(study):
    stages = []
    found = analyze(study, alpha_train=0, nulls=True, jobs=1, progress=lambda *of: stages.append(of))
    assert set(found.scrutiny.ladder.nulls) == set(RUNGS)
    assert found.topologies
    assert [stage for stage, steps, _ in stages if steps == 0] == ["nulls", "topologies", "stability"]
    assert [of.n_parameters for of in found.stability] == sorted(
        {*found.scrutiny.ladder.real.dataset["n_parameters"].values}
    )
    assert any(table.title == "Was gradient descent stable?" for table in found.tables)
    assert len(json.loads(found.to_json())["stability"]) == len(found.stability)
    steps = [of for of in stages if of[0] == "analysis"]
    assert sum(done for _, done, _ in steps) == steps[0][2] == len(steps)


def test_a_plot_is_of_the_curve_and_its_nulls(analyzed):
    ax = analyzed.plot()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["gaussian", "permuted", "real"]
    np.testing.assert_array_equal(ax.lines[2].get_ydata(), analyzed.dimension("max")["value"])
    given = mpl.figure.Figure().subplots()
    assert analyzed.plot("mean", given) is given
    assert "gamma" in given.get_ylabel()
    mpl.pyplot.close("all")


def test_results_have_no_further_parts(analyzed):
    with pytest.raises(AttributeError):
        analyzed.nulls = True
    assert Result(analyzed.scrutiny).tables


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"statistic": "median"}, "statistic is 'median'; one of max, mean is needed"),
        ({"jobs": 0}, "jobs is 0; an integer of at least 1 is needed"),
        ({"jobs": 1, "scheduler": "tcp://x:1"}, "jobs and scheduler were both given"),
        ({"sensitivity": True}, "the sweep has 3 scales; at least 4 are needed"),
        ({"recorded": {}}, "recorded nulls were given beside a study, which has its own; omit them"),
    ],
)
def test_bad_options_are_refused(study, options, words):
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        analyze(study, alpha_train=0, **options)


def test_bad_studies_are_refused(study, analyzed, tmp_path):
    with pytest.raises(InputError, match="study is a list; a Study, the path of one, or a Dataset"):
        analyze([study])
    with pytest.raises(InputError, match="a Dataset and the settings alpha_train were given"):
        analyze(analyzed.scrutiny.ladder.real.dataset, alpha_train=0)
    with pytest.raises(StudyError, match="holds 2 sweeps"):
        analyze(study)
    with pytest.raises(StudyError, match="does not exist"):
        analyze(tmp_path / "none")
    for call in (analyzed.exponent, analyzed.attribution):
        with pytest.raises(InputError, match="'during'; "):
            call("during", "max")
    for of_one in (analyzed.dimension, analyzed.crossing, analyzed.plot):
        with pytest.raises(InputError, match="statistic is 'p95'"):
            of_one("p95")


def test_the_version_of_the_json_is_that_of_the_result(analyzed):
    assert json.loads(analyzed.to_json())["version"] == result.VERSION
