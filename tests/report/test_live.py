"""Runs that are being written, as `watch` and `plot` show them."""

import json
import math
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gradquake import Probe, StudyError, open_study
from gradquake.analysis.dimension import dimension
from gradquake.analysis.live import gaussian_level
from gradquake.report import live, plot, watch
from gradquake.study.recording import RunRecord, to_dataset

SETTINGS = {
    "experiment": "attached", "surrogate": "real", "topology": "ring", "alpha": 0.3, "quantile": 0.9,
    "max_steps": 20,
}  # fmt: skip
STEPS = np.array([0, 10, 20])


def config(n, seed=0, **changed):
    return {**SETTINGS, "n_parameters": n, "seed": seed, "labels": {"width": n // 10}, **changed}


def record(n, seed=0, sizes=(2, 3, 4), **changed):
    values = {"size": n * np.array(sizes), "loss": np.array([0.5, math.nan, 0.25])}
    return RunRecord(config(n, seed, **changed), None, STEPS, values)


@pytest.fixture
def study(tmp_path):
    """Finished runs of two sizes, an unfinished one of a third, and a null of the first."""
    path = tmp_path / "runs.sqlite"
    with open_study(path, create=True) as opened:
        opened.write([record(100), record(200), record(100, surrogate="gaussian", sizes=(1, 1, 1))])
        (run,) = opened.begin([config(400)])
        opened.append({run: {0: {"size": 800}, 10: {"size": 1200}}})
    return path


def test_finished_and_unfinished_runs_are_one_sweep_with_its_nulls(study):
    (sweep,) = live.read(study)
    assert [run.config["n_parameters"] for run in sweep.runs] == [100, 200, 400]
    assert sweep.unfinished == {sweep.runs[2].key}
    assert list(sweep.nulls) == ["gaussian"]
    assert sweep.gaussian_level(sweep.runs[0]) == 1.0
    # Of the others by drawing; on the ring about 13 % topple.
    assert 0.1 < sweep.gaussian_level(sweep.runs[1]) < 0.2


def test_dimension_is_that_of_the_steps_that_all_runs_have(study):
    (sweep,) = live.read(study)
    found = sweep.dimension(watch.COLUMNS)
    assert found["epoch"].values.tolist() == [0, 10]
    expected = dimension(to_dataset(sweep.runs).isel(epoch=[0, 1]), "max", n_resamples=1)
    np.testing.assert_array_equal(found["value"].values, expected["value"].values)
    # s = 2 N at the first step.
    assert found["value"].values[0] == pytest.approx(1)


def test_two_sizes_give_no_dimension(tmp_path):
    with open_study(tmp_path / "s", create=True) as opened:
        opened.write([record(100), record(200)])
    (sweep,) = live.read(tmp_path / "s")
    assert sweep.dimension(watch.COLUMNS) is None
    assert "D(t) needs runs of three network sizes: 1 more." in watch.sweep_table(sweep).note


def test_table(study):
    (sweep,) = live.read(study)
    table = watch.sweep_table(sweep)
    assert table.header == ("run", "N", "step", "s/N", "Gaussian", "loss")
    assert [row[:3] for row in table.rows] == [
        ("width=10, seed=0 ✓", "100", "20"),
        ("width=20, seed=0 ✓", "200", "20"),
        ("width=40, seed=0", "400", "10"),
    ]
    assert table.rows[0][3] == "▁▅█ 4.000"
    assert table.rows[0][5] == "█▁ 0.25"
    assert table.rows[2][5] == ""
    assert "D(t) of s_max" in table.note


def test_the_costs_of_measuring_beside_a_training_are_a_note(tmp_path):
    path = tmp_path / "runs.sqlite"
    config = {"experiment": "attached", "surrogate": "real", "n_parameters": 90, "seed": 0}
    with open_study(path, create=True) as study:
        (run,) = study.begin([config])
        for step, (copying, left_out) in enumerate([(0.25, 0.0), (0.5, 3.0), (8.0, 1.0)]):
            values = {"size": 3, "probe_copying": copying, "probe_measuring": 2.0}
            more = {"probe_waiting": 0.0, "probe_left_out": left_out}
            study.append({run: {step: {**values, **more}}}, None)
    (sweep,) = live.read(path)
    assert sweep.costs == {
        "probe_copying": 0.5, "probe_waiting": 0.0, "probe_measuring": 2.0, "probe_left_out": 4.0,
    }  # fmt: skip
    (table,) = watch.tables([sweep])
    expected = "in the median: copying 0.5 s, waiting 0 s, measuring 2 s; 4 scheduled steps left out"
    assert f"{expected} before the last one." in table.note


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([1, 1, 1], "▁▁▁"),
        ([0, math.nan, 1], "▁ █"),
        ([math.nan, math.inf], "  "),
        ([], ""),
    ],
)
def test_sparkline(values, line):
    assert watch.sparkline(np.array(values, float)) == line


def test_a_long_sparkline_keeps_its_ends():
    line = watch.sparkline(np.arange(1000.0))
    assert (len(line), line[0], line[-1]) == (watch.SPARKLINE, "▁", "█")


def test_the_level_of_a_graph_of_the_models_own_is_not_known():
    assert math.isnan(gaussian_level(100, Probe("computational")))


def test_the_files_of_a_figure_have_names(study, tmp_path):
    files = plot.plot(study, tmp_path / "figure.png")
    assert files == plot.FigureFiles(png=tmp_path / "figure.png", svg=tmp_path / "figure.svg")
    assert files.png.is_file()
    assert files.svg.is_file()


def test_choose(study):
    with open_study(study) as opened:
        opened.write([record(100, alpha=0.2)])
    assert live.choose(study, {"alpha": 0.2}).runs[0].config["alpha"] == 0.2
    assert [table.title for table in watch.tables(live.read(study))] == [
        "attached, alpha=0.2",
        "attached, alpha=0.3",
    ]
    with pytest.raises(StudyError, match=r"holds 2 sweeps; .* they differ: alpha \(0\.2, 0\.3\)$"):
        live.choose(study, {})
    with pytest.raises(StudyError, match=r"no run with alpha=0\.7; its settings are alpha, exp"):
        live.choose(study, {"alpha": 0.7})


def test_watch_once_plot_and_info(study, call, tmp_path):
    shown = call("watch", study, "--once").stdout
    assert "width=40, seed=0" in shown
    assert "D(t) of s_max" in shown
    done = call("plot", study, "--out", tmp_path / "a.png")
    assert done.returncode == 0
    assert {path.suffix for path in tmp_path.glob("a.*")} == {".png", ".svg"}
    listed = call("info", study).stdout
    assert "gaussian" in listed
    assert "2 runs finished, 0 planned and missing, 1 unfinished; 1 record of nulls" in listed


def test_bad_input(study, call, tmp_path):
    three = tmp_path / "three.sqlite"
    with open_study(three, create=True) as opened:
        opened.write([record(n, surrogate=of) for n in (100, 200, 400) for of in ("real", "gaussian")])
    for arguments, sentence in (
        (["watch", tmp_path / "none"], "does not exist; a study file is needed"),
        (["watch", study, "--interval", 0], "interval is 0.0; a number in [0.1, 3600] is needed"),
        (["plot", study, "--out", tmp_path / "a.gif"], "a .png or .svg name is needed"),
        (["plot", study, "--out", tmp_path / "no" / "a.png"], "there is no folder"),
        (["analyze", study], "the sweep has 2 scales; D(t) needs at least 3"),
        (["analyze", three], "no permuted null was measured beside these runs"),
        (["analyze", three, "--sensitivity"], "'attached'; its gradients cannot be made again"),
    ):
        done = call(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert sentence in done.stderr


def test_an_empty_study_is_said(tmp_path, call):
    open_study(tmp_path / "s", create=True).close()
    assert "holds no measurement of a run yet" in call("watch", tmp_path / "s", "--once").stdout


def seen(terminal, text, seconds=90):
    """Read from a terminal until a text has appeared; return all that was read."""
    shown, until = "", time.monotonic() + seconds
    while text not in shown:
        if not select.select([terminal], [], [], until - time.monotonic())[0]:
            pytest.fail(f"{text!r} did not appear in {shown!r}")
        shown += os.read(terminal, 65536).decode()
    return shown


def test_watching_follows_a_writer_until_it_is_interrupted(tmp_path):
    path = tmp_path / "runs.sqlite"
    command = [os.path.join(os.path.dirname(sys.executable), "gradquake"), "watch", str(path)]
    terminal, side = pty.openpty()
    with open_study(path, create=True) as opened:
        (run,) = opened.begin([config(100)])
        opened.append({run: {0: {"size": 100}}})
        watching = subprocess.Popen(
            [*command, "--interval", "0.2"],
            stdout=side,
            stderr=side,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
            # A shell that runs the tests in the background has interrupts ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(side)
        seen(terminal, "1.000")
        opened.append({run: {7: {"size": 300}}})
        seen(terminal, "3.000")
    watching.send_signal(signal.SIGINT)
    seen(terminal, "gradquake: stopped watching; the runs go on")
    assert watching.wait(timeout=30) == 130
    os.close(terminal)


def texts_of_figure(path, records):
    with open_study(path, create=True) as opened:
        opened.write(records)
    (sweep,) = live.read(path)
    plot.draw(sweep, path)
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.with_suffix(".svg").read_text("utf-8"))


def test_a_figure_names_at_most_eight_sizes_and_says_what_was_not_logged(tmp_path):
    texts = texts_of_figure(tmp_path / "many", [record(100 * 2**i) for i in range(14)])
    named = [text for text in texts if text.startswith("N = ")]
    assert len(named) == plot.MOST_NAMED
    assert (named[0], named[-1]) == ("N = 100", "N = 819,200")
    assert "accuracy: not logged" in texts
    assert "loss" in texts
    assert "permuted" not in texts
    # Every panel that has an axis of steps has the same one.
    assert texts.count("step") == texts.count("20") == 3


def test_a_figure_of_one_run_and_one_snapshot_can_be_drawn(tmp_path):
    values = {"size": np.array([7])}
    null = RunRecord(config(100, surrogate="permuted"), None, np.array([5]), values)
    texts = texts_of_figure(
        tmp_path / "one", [RunRecord(config(100), None, np.array([5]), values), null]
    )
    assert {"4", "5", "6", "loss: not logged", "N = 100", "permuted"} <= set(texts)


@pytest.mark.parametrize(
    ("losses", "said"),
    [([1.7e308, 1.0, -1.7e308, 2.0], "loss"), ([1.7e308, np.inf, np.nan, -np.inf], "loss: infinite")],
)
def test_a_figure_leaves_out_what_no_axis_holds(tmp_path, losses, said):
    values = {"size": np.arange(4), "loss": np.array(losses)}
    texts = texts_of_figure(tmp_path / "huge", [RunRecord(config(100), None, np.arange(4), values)])
    assert said in texts


def test_a_figure_has_the_name_of_its_study(study, call, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    study.rename(tmp_path / "my.runs.sqlite")
    assert "my.runs.png" in call("plot", tmp_path / "my.runs.sqlite").stdout
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"my.runs.png", "my.runs.svg"}


# Studies from somebody else, and of runs as nobody would think of

CODES = "\x1b]0;OWNED\x07\x1b[2J\x9b31m\x7f\u202e [red]a[/] :bomb: a\nb $x$"
SHOWN = "\\x1b]0;OWNED\\x07\\x1b[2J\\x9b31m\\x7f\\u202e [red]a[/] :bomb: a\\nb $x$"


def test_no_control_code_of_a_study_reaches_the_terminal(tmp_path, call):
    path = tmp_path / "codes.sqlite"
    with open_study(path, create=True) as opened:
        for n in (100, 200, 400):
            for rung in ("real", "gaussian", "permuted"):
                odd = {"surrogate": rung, "labels": {CODES: CODES}, CODES: CODES, "experiment": CODES}
                opened.write([record(n, **odd), record(n, seed=1, **odd)])
        opened.write([record(100, alpha=0.2, experiment=CODES)])
    for arguments in (
        ("info", path),
        ("watch", path, "--once"),
        ("analyze", path, "--where", "alpha=0.3", "--jobs", "1"),
        ("analyze", path, "--where", "alpha=0.7"),
        ("plot", path, "--out", tmp_path / "a.png"),
    ):
        done = call(*arguments)
        printed = done.stdout + done.stderr
        assert printed.replace("\n", "").isprintable()
        assert "alpha=0.2" in printed or SHOWN in printed
    said = json.loads(call("info", path, "--json").stdout)
    assert said["sweeps"][0]["settings"]["experiment"] == CODES
    for arguments in (("info", path), ("analyze", path, "--where", "alpha=0.3", "--jobs", "1")):
        printed = call(*arguments, "--json").stdout
        assert printed.replace("\n", "").isprintable()
        assert json.loads(printed)


def odd_study(path, **changed):
    """Runs of three sizes with their nulls, in which something is odd."""
    with open_study(path, create=True) as opened:
        for n in (100, 200, 400):
            for rung in ("real", "gaussian", "permuted"):
                odd = {name: value for name, value in changed.items() if name != "without"}
                run = config(n, **({"surrogate": rung} | odd))
                for name in changed.get("without", ()):
                    del run[name]
                opened.write([RunRecord(run, None, STEPS, record(n).values)])
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"without": ["experiment"]},
        {"experiment": ["xor", {}]},
        {"experiment": None},
        {"rate": math.nan},
        {"rate": -math.inf},
        {"labels": {"lr": math.nan, "of": math.inf, "on": True}},
        {"topology": ["ring"], "alpha": math.nan, "max_steps": "x"},
        {"topology": "ring", "quantile": 7, "max_steps": -1},
        {"max_steps": 2**62, "alpha": 0.999999, "quantile": 1e-9},
        {"without": ["topology", "alpha", "quantile", "max_steps", "labels"]},
        {"seed": -1},
    ],
    ids=str,
)
def test_an_odd_study_is_shown(tmp_path, call, changed):
    path = odd_study(tmp_path / "odd.sqlite", **changed)
    assert (
        "3 runs finished, 0 planned and missing, 0 unfinished; 6 records of nulls"
        in call("info", path).stdout
    )
    assert "D(t) of s_max" in call("watch", path, "--once").stdout
    assert "- D, the exponent of the largest" in call("analyze", path, "--jobs", "1").stdout
    for arguments in (("info", path), ("analyze", path, "--jobs", "1")):
        json.loads(call(*arguments, "--json").stdout, parse_constant=pytest.fail)


def test_info_says_what_a_setting_without_a_json_number_is(tmp_path, call):
    path = odd_study(tmp_path / "odd.sqlite", rate=math.nan)
    [*_, sweep] = json.loads(call("info", path, "--json").stdout)["sweeps"]
    assert sweep["settings"]["rate"] == "NaN"
    assert call("plot", path, "--where", "rate=NaN", "--out", tmp_path / "a.png").returncode == 0


def test_runs_without_a_surrogate_are_runs(tmp_path, call):
    path = tmp_path / "old.sqlite"
    with open_study(path, create=True) as opened:
        for n in (100, 200, 400):
            run = {name: value for name, value in config(n).items() if name != "surrogate"}
            opened.write([RunRecord(run, None, STEPS, record(n).values)])
        opened.write([record(n, alpha=0.2, surrogate="gaussian") for n in (100, 200)])
    said = call("info", path).stdout
    assert "3 runs finished, 0 planned and missing, 0 unfinished; 2 records of nulls" in said
    # The nulls, of which there is no run, too.
    assert [line.split()[1] for line in said.splitlines() if "alpha=" in line][:2] == ["3", "0"]
    assert "D(t) of s_max" in call("watch", path, "--once").stdout


@pytest.mark.parametrize(
    ("steps", "names", "said"),
    [
        ([], ["size", "loss"], "D(t) needs steps that all runs share"),
        ([0, 1], ["loss"], "D(t) needs the avalanche size of every run"),
        ([2**62, 2**63 - 1], ["size", "accuracy"], f"at step {2**63 - 1}, from 3 network sizes"),
        ([-5, 0], ["size", "loss"], "at step 0, from 3 network sizes"),
    ],
)
def test_odd_measurements_are_shown(tmp_path, call, steps, names, said):
    path = tmp_path / "odd.sqlite"
    values = {name: np.arange(1, len(steps) + 1) for name in names}
    with open_study(path, create=True) as opened:
        opened.write(
            [RunRecord(config(n), None, np.array(steps, np.int64), values) for n in (100, 200, 400)]
        )
    shown = call("watch", path, "--once").stdout
    assert said in shown
    assert shown.count("seed=0") == 3
    assert call("info", path).returncode == 0
    assert call("plot", path, "--out", tmp_path / "a.png").returncode == 0
    refused = call("analyze", path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1


def test_a_long_run_is_thinned_to_what_is_drawn(tmp_path):
    rng = np.random.default_rng(0)
    steps = np.arange(5000)
    with open_study(tmp_path / "long", create=True) as opened:
        for n in (100, 200, 400):
            values = {"size": rng.integers(1, n, 5000)}
            opened.write([RunRecord(config(n), None, steps, values)])
    (sweep,) = live.read(tmp_path / "long")
    found = sweep.dimension(watch.COLUMNS)
    assert (found.sizes["epoch"], *found["epoch"].values[[0, -1]]) == (watch.COLUMNS, 0, 4999)
    whole = dimension(to_dataset(sweep.runs), "max", n_resamples=1)
    np.testing.assert_array_equal(found["value"].values, whole["value"].sel(epoch=found["epoch"]).values)
