"""Runs that are being written, as `watch` and `plot` show them."""

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

from gradquake import StudyError, live, open_study
from gradquake.analysis.scaling import dimension
from gradquake.recording import RunRecord, to_dataset

SETTINGS = {
    "experiment": "attached", "surrogate": "real", "topology": "ring", "alpha": 0.3, "quantile": 0.9,
    "max_steps": 20,
}  # fmt: skip
STEPS = np.array([0, 10, 20])


def config(n, seed=0, **changed):
    return {**SETTINGS, "n_parameters": n, "seed": seed, "run": {"width": n // 10}, **changed}


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
    found = sweep.dimension(live.COLUMNS)
    assert found["epoch"].values.tolist() == [0, 10]
    expected = dimension(to_dataset(sweep.runs).isel(epoch=[0, 1]), "max", n_resamples=1)
    np.testing.assert_array_equal(found["exponent"].values, expected["exponent"].values)
    # s = 2 N at the first step.
    assert found["exponent"].values[0] == pytest.approx(1)


def test_two_sizes_give_no_dimension(tmp_path):
    with open_study(tmp_path / "s", create=True) as opened:
        opened.write([record(100), record(200)])
    (sweep,) = live.read(tmp_path / "s")
    assert sweep.dimension(live.COLUMNS) is None
    assert "D(t) needs runs of three sizes: 1 more" in live.table(sweep).note


def test_table(study):
    (sweep,) = live.read(study)
    table = live.table(sweep)
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
    assert live.sparkline(np.array(values, float)) == line


def test_a_long_sparkline_keeps_its_ends():
    line = live.sparkline(np.arange(1000.0))
    assert (len(line), line[0], line[-1]) == (live.SPARKLINE, "▁", "█")


def test_the_level_of_a_graph_of_the_models_own_is_not_known():
    assert math.isnan(live.gaussian_level(100, "computational", 0.3, 0.9, 20))


def test_choose(study):
    with open_study(study) as opened:
        opened.write([record(100, alpha=0.2)])
    sweeps = live.read(study)
    assert live.choose(sweeps, study, {"alpha": 0.2}).runs[0].config["alpha"] == 0.2
    assert [table.title for table in live.tables(sweeps)] == [
        "attached, alpha=0.2",
        "attached, alpha=0.3",
    ]
    with pytest.raises(StudyError, match=r"holds 2 sweeps; .* they differ: alpha \(0\.2, 0\.3\)$"):
        live.choose(sweeps, study, {})
    with pytest.raises(StudyError, match=r"no run with alpha=0\.7; its settings are alpha, exp"):
        live.choose(sweeps, study, {"alpha": 0.7})


def test_watch_once_plot_and_info(study, call, tmp_path):
    shown = call("watch", study, "--once").stdout
    assert "width=40, seed=0" in shown
    assert "D(t) of s_max" in shown
    done = call("plot", study, "--out", tmp_path / "a.png")
    assert done.returncode == 0
    assert {path.suffix for path in tmp_path.glob("a.*")} == {".png", ".svg"}
    listed = call("info", study).stdout
    assert "gaussian" in listed
    assert "2 runs finished, 0 planned and missing, 1 unfinished; 1 records of nulls" in listed


def test_bad_input(study, call, tmp_path):
    three = tmp_path / "three.sqlite"
    with open_study(three, create=True) as opened:
        opened.write([record(n, surrogate=of) for n in (100, 200, 400) for of in ("real", "gaussian")])
    for arguments, sentence in (
        (["watch", tmp_path / "none"], "does not exist; a study file is needed"),
        (["watch", study, "--interval", 0], "--interval is 0.0; a number in [0.1, 3600] is needed"),
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
    live.draw(sweep, path)
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.with_suffix(".svg").read_text("utf-8"))


def test_a_figure_names_at_most_eight_sizes_and_says_what_was_not_logged(tmp_path):
    texts = texts_of_figure(tmp_path / "many", [record(100 * 2**i) for i in range(14)])
    named = [text for text in texts if text.startswith("N = ")]
    assert len(named) == live.MOST_NAMED
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
