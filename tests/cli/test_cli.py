"""The command line as a user meets it: real processes, real files."""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import gradquake as gq
from gradquake.avalanche.surrogates import RUNGS
from gradquake.avalanche.topologies import TOPOLOGIES
from gradquake.cli.app import main
from gradquake.cli.reproduce import _print_claims
from gradquake.paper import reproduce
from gradquake.paper.claim import JudgedClaim
from gradquake.paper.quantity import Number, Parts, Quantity
from gradquake.paper.xor import plan as xor_plan
from gradquake.scrutiny import sensitivity
from gradquake.study.recording import RunRecord
from gradquake.study.study import open_study

COMMAND = str(Path(sys.executable).with_name("gradquake"))
SMALL = ["--hidden", "3,5,8", "--seeds", "2", "--epochs", "60", "--jobs", "1"]
README = Path(__file__).parents[2] / "README.md"
PHASES = ("all", "pre", "post")


def gradquake(*arguments, cwd=None):
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.fixture
def refused(call):
    """One sentence on the error stream and status 2, or the test fails."""

    def called(*arguments):
        done = call(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("gradquake: ")
        return done.stderr

    return called


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "small.sqlite"
    done = gradquake("run", "xor", "--out", path, *SMALL)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A study of four scales, all of whose runs grok."""
    path = tmp_path_factory.mktemp("cli") / "grown.sqlite"
    arguments = ["--hidden", "3,5,8,13", "--seeds", "2", "--epochs", "180", "--jobs", "1"]
    done = gradquake("run", "xor", "--out", path, *arguments)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def few_choices(monkeypatch):
    """A small specification curve."""
    monkeypatch.setattr(sensitivity, "SPECIFIED_QUANTILES", (0.9,))
    monkeypatch.setattr(sensitivity, "SPECIFIED_ALPHAS", (0.2, 0.3))
    monkeypatch.setattr(sensitivity, "SPECIFIED_STEPS", (20,))


def strict_json(done):
    """Return what a command printed, where it is JSON and nothing else."""
    assert done.returncode == 0, done.stderr

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(done.stdout, parse_constant=refuse)


COMMANDS = ["reproduce", "run", "run xor", "measure", "analyze", "report", "watch", "plot", "info"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(command):
    done = gradquake(*command.split(), "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_documentation_shows_every_command():
    pattern = rf"gradquake ({'|'.join(c for c in COMMANDS if c != 'run')})\b"
    pages = [README, *README.parent.glob("docs/*.md")]
    shown = {name for page in pages for name in re.findall(pattern, page.read_text("utf-8"))}
    assert shown == {*COMMANDS} - {"run"}


def test_version():
    assert gradquake("--version").stdout == "gradquake 0.1.0\n"


def test_run_says_what_it_did_and_keeps_progress_off_stdout(tmp_path):
    done = gradquake("run", "xor", "--out", tmp_path / "s.sqlite", *SMALL)
    assert done.stdout.startswith(f"6 runs of this sweep are in {tmp_path}/s.sqlite; ")
    assert "measuring" in done.stderr


def test_info(study):
    done = gradquake("info", study, "--json")
    found = json.loads(done.stdout)
    [sweep] = found["sweeps"]
    assert (sweep["runs"], sweep["seeds"], sweep["n_parameters"]) == (6, [0, 1], [13, 21, 33])
    assert sweep["missing"] == []
    assert sweep["settings"]["epochs"] == 60
    assert "6 runs finished, 0 planned and missing, 0 unfinished" in gradquake("info", study).stdout


def test_info_counts_what_is_missing(tmp_path):
    from gradquake.experiments import xor
    from gradquake.experiments.xor import XorRun
    from gradquake.study.study import open_study

    with open_study(tmp_path / "s.sqlite", create=True) as opened:
        runs = xor.sweep([3], 4, epochs=10)
        opened.plan([run.config() for run in runs])
        opened.write(xor.measure(runs[:1]))
        opened.plan([XorRun(5, 7, alpha_train=0).config()])
    found = json.loads(gradquake("info", tmp_path / "s.sqlite", "--json").stdout)
    begun, planned = found["sweeps"]
    assert begun["missing"] == [{"n_parameters": 13, "seed": seed} for seed in (1, 2, 3)]
    assert (planned["runs"], planned["missing"]) == (0, [{"n_parameters": 21, "seed": 7}])
    text = gradquake("info", tmp_path / "s.sqlite").stdout
    assert "1 run finished, 4 planned and missing" in text


def test_analyze_json(study):
    # As a process of its own, with as many workers as there are cores.
    found = strict_json(gradquake("analyze", study, "--json"))
    assert found["version"] == 1
    assert found["settings"]["alpha_train"] == 0.3
    assert found["reading"][0].startswith("The sweep has 6 runs of the experiment xor")
    assert set(found["nulls"]) == set(found["null_dimension"]) == {"gaussian", "permuted"}
    whole = found["exponents"]["all"]["max"]["value"]
    parts = found["attribution"]["all"]["max"]
    total = sum(parts[n]["value"] for n in ("estimator", "distribution", "arrangement", "imprint"))
    assert total == pytest.approx(whole - 1, abs=1e-12)
    assert len(found["dimension"]["max"]["value"]) == len(found["dimension"]["max"]["epoch"]) == 7
    assert "topologies" not in found
    assert "sensitivity" not in found


def test_analyze_is_a_call_of_the_function(study, call):
    found = gq.analyze(study, jobs=1)
    assert call("analyze", study, "--json", "--jobs", 1).stdout == f"{found.to_json()}\n"
    printed = call("analyze", study, "--jobs", 1).stdout
    assert printed.split("\n\n")[0].split("\n") == [f"- {sentence}" for sentence in found.reading]


def test_analyze_text(study, call):
    done = call("analyze", study, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    places = [
        done.stdout.index(words)
        for words in (
            "The sweep has 6 runs of the experiment xor",
            "D(t) ",
            "Settings: ",
            "Exponents and their nulls",
            "What accounts for the exponent",
            "When D(t) crosses",
        )
    ]
    assert places == sorted(places)
    for words in ("D (largest)", "gamma (mean)", "gaussian", "permuted", "distribution"):
        assert words in done.stdout, words
    for words in ("sign flipped", "computational", "Which choice matters", "nan", "window"):
        assert words not in done.stdout, words


def test_analyze_text_does_not_depend_on_the_jobs(study, call):
    one, two = (call("analyze", study, "--jobs", jobs) for jobs in (1, 2))
    assert one.stdout == two.stdout


def test_analyze_one_statistic(study, call):
    found = strict_json(call("analyze", study, "--statistic", "mean", "--json", "--jobs", 1))
    both = strict_json(call("analyze", study, "--json", "--jobs", 1))
    assert set(found["exponents"]["all"]) == set(found["dimension"]) == {"mean"}
    assert found["exponents"]["all"]["mean"] == both["exponents"]["all"]["mean"]
    assert set(both["exponents"]["all"]) == {"max", "mean"}
    text = call("analyze", study, "--statistic", "mean", "--jobs", 1).stdout
    assert "gamma (mean)" in text
    assert "D (largest)" not in text


def test_analyze_with_the_whole_ladder_and_every_topology(study, call):
    found = strict_json(call("analyze", study, "--nulls", "--json", "--jobs", 1))
    assert tuple(found["nulls"]) == tuple(found["null_dimension"]) == RUNGS
    assert {"which_tensor", "place_in_tensor", "signs"} < set(found["attribution"]["all"]["max"])
    assert set(found["collapse"]) == {"real", *RUNGS}
    assert [on["topology"] for on in found["topologies"]] == list(TOPOLOGIES)
    own = next(on for on in found["topologies"] if on["topology"] == found["settings"]["topology"])
    for phase in ("pre", "post"):
        own_real, real = (of["exponents"][phase]["max"]["value"] for of in (own, found))
        assert own_real == real
        null = own["nulls"]["gaussian"][phase]["max"]
        assert null == found["nulls"]["gaussian"][phase]["max"]
        assert own["arrangement"][phase]["max"] == found["attribution"][phase]["max"]["arrangement"]
    assert "sensitivity" not in found
    plain = strict_json(call("analyze", study, "--json", "--jobs", 1))
    assert plain["exponents"] == found["exponents"]


def test_analyze_text_with_the_whole_ladder(study, call):
    done = call("analyze", study, "--nulls", "--statistic", "max", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert "Collapse of P(>s) against s / N^D" in done.stdout
    assert "The same gradients on every topology" in done.stdout
    for name in TOPOLOGIES:
        assert name in done.stdout
    assert "gamma (mean)" not in done.stdout


@pytest.mark.usefixtures("few_choices")
def test_analyze_under_every_choice(grown, call):
    found = strict_json(call("analyze", grown, "--sensitivity", "--json", "--jobs", 1))
    assert set(found["nulls"]) == {"gaussian", "permuted"}
    assert "topologies" not in found
    curve = found["sensitivity"]
    assert curve["specifications"] == len(TOPOLOGIES) * 1 * 2 * 1 * 3 * 2 * 5
    assert 0 <= curve["holds"]["exponent after > before"]["share"] <= 1
    by_topology = curve["holds"]["exponent before < 1"]["by_choice"]["topology"]
    assert set(by_topology) == set(TOPOLOGIES)
    # Of what was varied.
    varied = {"topology", "alpha", "statistic", "interval", "scales"}
    assert set(curve["importance"]["exponent after"]) == varied


@pytest.mark.usefixtures("few_choices")
def test_analyze_text_under_every_choice_beside_the_whole_ladder(grown, call):
    done = call("analyze", grown, "--sensitivity", "--nulls", "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert "The specification curve: 480 ways to measure it" in done.stdout
    assert "Which choice matters" in done.stdout
    assert "The same gradients on every topology" in done.stdout
    assert "permuted within tensor" in done.stdout
    assert "nan" not in done.stdout


@pytest.mark.usefixtures("few_choices")
def test_analyze_under_every_choice_where_nothing_groks(tmp_path, call):
    path = tmp_path / "flat.sqlite"
    settings = ["--hidden", "3,5,8,13", "--seeds", 2, "--epochs", 20, "--learning-rate", 0.0001]
    call("run", "xor", "--out", path, *settings, "--jobs", 1)
    found = strict_json(call("analyze", path, "--sensitivity", "--json", "--jobs", 1))
    assert found["timing"] is None
    assert found["sensitivity"]["holds"]["exponent after > 1"]["share"] == 0


def test_a_learning_rate_over_the_hidden_units_is_run_and_found(tmp_path, call):
    path = tmp_path / "rates.sqlite"
    for rate in ("10.0/h", "0.5"):
        call("run", "xor", "--out", path, *SMALL, "--learning-rate", rate)
    for rate in ("10/h", 0.5):
        where = ["--where", f"learning_rate={rate}", "--json", "--jobs", 1]
        found = strict_json(call("analyze", path, *where))
        assert found["settings"]["learning_rate"] == rate


def test_analyze_what_never_groks(tmp_path, call):
    path = tmp_path / "flat.sqlite"
    call("run", "xor", "--out", path, *SMALL, "--learning-rate", 0.0001)
    found = strict_json(call("analyze", path, "--json", "--jobs", 1))
    assert found["exponents"]["post"]["max"]["value"] is None
    assert found["exponents"]["post"]["max"]["message"].startswith("There is no snapshot at N = 13")
    assert found["attribution"]["post"]["max"]["arrangement"] == dict.fromkeys(("value", "low", "high"))
    assert found["timing"] is None
    text = call("analyze", path, "--jobs", 1).stdout
    assert "No run grokked, so times relative to grokking are not defined" in text
    assert found["notes"] == [found["reading"][-1]]
    assert "When D(t) crosses" not in text


def test_analyze_asks_which_sweep(study, tmp_path, call, refused):
    both = tmp_path / "both.sqlite"
    shutil.copy(study, both)
    call("run", "xor", "--out", both, *SMALL, "--alpha-train", "0")
    message = refused("analyze", both)
    assert "2 sweeps" in message
    assert "alpha_train" in message
    chosen = call("analyze", both, "--where", "alpha_train=0.3", "--json", "--jobs", 1)
    assert strict_json(chosen) == strict_json(call("analyze", study, "--json", "--jobs", 1))


@pytest.mark.parametrize("statistic", ["median", "", "MAX", "p95"])
def test_another_statistic_is_refused(study, refused, statistic):
    message = refused("analyze", study, "--statistic", statistic)
    assert message == f"gradquake: the statistic is {statistic!r}; one of max, mean is needed\n"


def test_three_scales_are_too_few_to_leave_one_out(study, refused):
    message = refused("analyze", study, "--sensitivity", "--json")
    assert "the sweep has 3 scales; at least 4 are needed, since each is left out in turn" in message


def test_the_options_of_a_run_are_in_its_study(tmp_path, call):
    path = tmp_path / "s.sqlite"
    done = call(
        "run", "xor", "--out", path, "--hidden", "3,5", "--seeds", 1, "--epochs", 10, "--jobs", 1,
        "--task", "and", "--topology", "ring", "--topology-train", "erdos_renyi", "--permute-train",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [sweep] = strict_json(call("info", path, "--json"))["sweeps"]
    settings = sweep["settings"]
    assert settings["task"] == "and"
    assert (settings["topology"], settings["topology_train"]) == ("ring", "erdos_renyi")
    assert settings["permute_train"] is True


def test_the_graph_of_the_training_is_the_probes_where_it_is_not_given(tmp_path, call):
    path = tmp_path / "s.sqlite"
    call(
        "run",
        "xor",
        "--out",
        path,
        "--hidden",
        3,
        "--seeds",
        1,
        "--epochs",
        5,
        "--topology",
        "ring",
        "--jobs",
        1,
    )
    [sweep] = strict_json(call("info", path, "--json"))["sweeps"]
    assert sweep["settings"]["topology_train"] == "ring"
    assert sweep["settings"]["permute_train"] is False
    assert sweep["settings"]["task"] == "xor"


def test_a_task_can_be_chosen_among_others(tmp_path, call, refused):
    path = tmp_path / "s.sqlite"
    for task in ("xor", "constant"):
        call("run", "xor", "--out", path, *SMALL, "--task", task)
    assert "task" in refused("analyze", path)
    found = strict_json(call("analyze", path, "--where", "task=constant", "--json", "--jobs", 1))
    assert found["settings"]["task"] == "constant"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "xor", "--out", "s", "--hidden", "3,x"], "'3,x'; integers separated by commas"),
        (["run", "xor", "--out", "s", "--hidden", "0"], "hidden is 0; an integer of at least 1"),
        (["run", "xor", "--out", "s", "--hidden", "3,3"], "repeat"),
        (["run", "xor", "--out", "s", "--seeds", "0"], "seeds is 0"),
        (["run", "xor", "--out", "s", "--jobs", "0"], "jobs is 0"),
        (["run", "xor", "--out", "s", "--alpha", "1.5"], "alpha is 1.5; a number in (0, 1)"),
        (["run", "xor", "--out", "s", "--alpha", "nan"], "alpha is nan"),
        (["run", "xor", "--out", "s", "--alpha-train", "-1"], "--alpha-train is -1.0"),
        (["run", "xor", "--out", "s", "--quantile", "2"], "quantile is 2.0"),
        (["run", "xor", "--out", "s", "--max-steps", "0"], "--max-steps is 0"),
        (["run", "xor", "--out", "s", "--learning-rate", "-1"], "--learning-rate is -1.0"),
        (["run", "xor", "--out", "s", "--topology", "torus"], "topology is 'torus'; one of"),
        (["run", "xor", "--out", "s", "--topology-train", "torus"], "is 'torus'; one of"),
        (["run", "xor", "--out", "s", "--task", "or"], "task is 'or'; one of xor, and, constant"),
        (["run", "xor", "--out", "s", "--every", "0"], "every is 0"),
        (["run", "xor", "--out", "."], "is a folder"),
        (["run", "xor", "--out", "no/such/folder/s"], "no/such/folder/s"),
        (["analyze", "none.sqlite"], "does not exist"),
        (["info", "none.sqlite"], "does not exist"),
        (["reproduce", "--seeds", "0"], "seeds is 0"),
        (["reproduce", "--quick", "--jobs", "0"], "jobs is 0"),
        (["reproduce", "--quick", "--out", "file"], "file cannot be written"),
    ],
)
def test_bad_input_is_one_clear_sentence(arguments, words, tmp_path, monkeypatch, refused):
    (tmp_path / "file").write_text("here first")
    monkeypatch.chdir(tmp_path)
    assert words in refused(*arguments)


@pytest.mark.parametrize("arguments", [["reproduc"], ["run", "xor"], ["info", "--jsn", "x"]])
def test_bad_usage_has_status_2_and_no_traceback(arguments):
    done = gradquake(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", [[], ["--nulls"], ["--sensitivity"], ["--json"]])
def test_too_few_scales(tmp_path, call, refused, option):
    path = tmp_path / "s"
    call("run", "xor", "--out", path, "--hidden", "3,5", "--seeds", 1, "--epochs", 10, "--jobs", 1)
    assert "the sweep has 2 scales; D(t) needs at least 3" in refused("analyze", path, *option)


def test_bad_where(study, refused):
    message = refused("analyze", study, "--where", "alpha")
    assert "--where is 'alpha'; name=value is needed" in message
    assert "no finished run with alpha=0.9" in refused("analyze", study, "--where", "alpha=0.9")


@pytest.mark.parametrize(
    "name", ["study", "nulls", "statistic", "recorded", "jobs", "progress", "out", "where", "settings"]
)
@pytest.mark.parametrize("command", ["analyze", "plot"])
def test_where_takes_names_that_are_options_in_python(study, refused, command, name):
    assert f"{name}=1" in refused(command, study, "--where", f"{name}=1")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupt_is_one_clean_line_and_resumes(jobs, tmp_path):
    path = tmp_path / "s.sqlite"
    command = [COMMAND, "run", "xor", "--out", str(path), "--hidden", "300,301,302", "--seeds", "60"]
    process = subprocess.Popen(
        [*command, "--jobs", jobs],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What runs in the background of a shell ignores interrupts, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (path.exists() and finished(path) > 0):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("gradquake: interrupted; what was finished is kept")
    assert "Traceback" not in errors
    assert 0 < finished(path) < 180


def finished(path):
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_a_single_seed_gives_estimates_without_intervals(tmp_path, call):
    path = tmp_path / "s.sqlite"
    call("run", "xor", "--out", path, *SMALL, "--seeds", 1)
    found = strict_json(call("analyze", path, "--json", "--jobs", 1))
    assert found["exponents"]["all"]["max"]["value"] is not None
    assert found["exponents"]["all"]["max"]["low"] is None
    text = call("analyze", path, "--jobs", 1).stdout
    assert "A size has a single run, so there are no intervals over runs." in text
    assert "A size has a single run, so there are no intervals over runs." in found["notes"]


# The whole paper


def test_an_observable_is_recorded_and_its_channel_analyzed(tmp_path, call, refused):
    path = tmp_path / "kicks.sqlite"
    call("run", "xor", "--out", path, *SMALL, "--observe", "isolated,kicks")
    found = strict_json(call("analyze", path, "--channel", "kick_mean", "--jobs", 1, "--json"))
    assert (found["settings"]["observe"], found["channel"]) == (
        "kicks,isolated",
        "kick_mean",
    )
    assert "kick_mean" in found["reading"][1]
    assert "the channel is 'kick'; one of threshold, size, duration" in refused(
        "analyze", path, "--channel", "kick"
    )
    told = refused("run", "xor", "--out", path, "--observe", "kick")
    assert "observe names 'kick'; names of kicks, load, clusters" in told


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A folder in which the quick reproduction of few and small networks was made."""
    folder = tmp_path_factory.mktemp("cli") / "reproduction"
    arguments = ["--quick", "--seeds", "2", "--jobs", "1"]
    plan = functools.partial(xor_plan.Plan, hidden=(3, 5, 8), gini_seeds=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xor_plan, "Plan", plan)
        patch.setattr(reproduce, "_drawn", lambda *_: {})
        patch.setattr(sys, "argv", ["gradquake", "reproduce", "--out", str(folder), *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
    assert not stopped.value.code
    return folder


def test_reproduce_quick_writes_what_the_claims_rest_on(reproduced):
    files = {path.name for path in reproduced.iterdir()}
    pages = {f"{page}.{kind}" for page in ("claims", "scrutiny") for kind in ("json", "md")}
    assert files == pages | {"report.html", "study.sqlite", "study.sqlite-lock", "figures"}
    assert json.loads((reproduced / "scrutiny.json").read_text())["specifications"] is None


def test_reproduce_prints_what_it_writes(reproduced, monkeypatch, call):
    claims = [
        JudgedClaim.from_json(claim) for claim in json.loads((reproduced / "claims.json").read_text())
    ]
    monkeypatch.setattr(reproduce, "reproduce", lambda *_, **__: claims)
    found = strict_json(call("reproduce", "--quick", "--out", reproduced, "--json"))
    assert found == json.loads((reproduced / "claims.json").read_text())
    text = call("reproduce", "--quick", "--out", reproduced).stdout
    for claim in claims:
        assert claim.id in text
    assert f"{len(claims)} claims: " in text
    assert f"Written to {reproduced}: report.html, claims.md and scrutiny.md to read" in text


@pytest.mark.parametrize("options", [[], ["--quick"], ["--seeds", "3"], ["--quick", "--seeds", "12"]])
def test_reproduce_makes_the_plan_that_was_asked_for(options, tmp_path, monkeypatch, call):
    seen = []

    def taken(_, plan, out, executor, progress, _first_look):
        seen.append((out, plan, executor.submit(os.getpid).result()))
        progress("measuring", plan.n_runs, plan.n_runs)
        progress("nulls", 0, None)
        return []

    monkeypatch.setattr(reproduce, "carry_out", taken)
    done = call("reproduce", "--out", tmp_path / "r", "--jobs", 2, *options)
    assert done.returncode == 0, done.stderr
    [(out, plan, worker)] = seen
    assert out == tmp_path / "r"
    assert worker != os.getpid()
    assert plan.quick == ("--quick" in options)
    assert plan.seeds == (int(options[-1]) if "--seeds" in options else 200)
    assert (plan.hidden, plan.gini_seeds) == ((20, 30, 50, 70, 100, 120, 200, 500), 1000)


ATTRIBUTED = JudgedClaim(
    "D-pre",
    "D before",
    "0.90 ± 0.02",
    (
        Quantity(
            "D_pre",
            0.95,
            0.9,
            1.0,
            0.9,
            {"gaussian": Number(0.85, 0.8, 0.875)},
            Parts(Number(0.01, -0.02, 0.03), Number(0.07, 0.05, 0.09)),
        ),
        Quantity("R²", 0.995, 0.99, 1.0),
    ),
    "reproduced",
    "a note",
)


@pytest.mark.parametrize("width", [80, 200])
def test_claims_fit_narrow_and_wide_terminals(width, monkeypatch, capsys):
    from rich.console import Console

    monkeypatch.setattr("gradquake.report.console.console", lambda: Console(width=width))
    _print_claims([ATTRIBUTED])
    text = capsys.readouterr().out
    for words in (
        "D-pre", "0.950 [0.900, 1]", "0.850 [0.800, 0.875]", "R²", "reproduced",
        "1 claims: 1 reproduced",
    ):  # fmt: skip
        assert words in text, words


# Odd studies


def attached(path, sizes=(41, 81, 121), seeds=3, snapshots=40, *, shared_seed=False, **more):
    """Write a study of runs and their nulls as ``attach`` records them.

    ``more`` holds ``reached``, the grokking epoch of each seed, or ``size``, which makes the sizes of
    a run from N, its seed and its rung.
    """
    reached = more.get("reached", [100] * seeds)
    drawn = np.random.default_rng(0)
    made = more.get("size", lambda n, _seed, _rung: drawn.poisson(0.2 * n, snapshots) + 1)
    records = []
    for n, seed, rung in product(sizes, range(seeds), more.get("rungs", RUNGS_BESIDE)):
        config = {
            "experiment": "attached", "surrogate": rung, "n_parameters": n, "every": 10,
            "seed": 0 if shared_seed else seed, "labels": {"width": n, "number": seed},
        }  # fmt: skip
        size = np.asarray(made(n, seed, rung), np.int64)
        epochs = np.arange(snapshots) * more.get("every", 10)
        records.append(RunRecord(config, reached[seed], epochs, {"size": size}))
    with open_study(path, create=True) as made_study:
        made_study.write(records)
    return path


RUNGS_BESIDE = ("real", "gaussian", "permuted")

# By name, a study and the beginning of a note on it.
ODD_STUDIES = {
    "nothing groks": ({"reached": [None] * 3}, "No run grokked, so times relative to grokking"),
    "one of three groks": ({"reached": [100, None, None]}, "Fewer than half of the runs grokked, so"),
    "after the end": ({"reached": [100, 200, 900]}, "3 of 9 runs grokked after the last snapshot, at"),
    "one run a size": ({"seeds": 1}, "A size has a single run, so there are no intervals over runs"),
    "one seed": ({"shared_seed": True}, "Runs of one size share a seed (N = 41, 81, 121), so their"),
    "one snapshot": ({"snapshots": 1, "reached": [None] * 3}, "No run grokked, so times relative"),
    "no avalanche": ({"size": lambda _n, _seed, _rung: np.zeros(40)}, None),
    "no avalanche at one size": ({"size": lambda n, _s, _r: np.full(40, n) * (n != 81)}, None),
    "equal sizes": ({"size": lambda _n, _seed, _rung: np.full(40, 7)}, None),
}


@pytest.mark.parametrize("name", ODD_STUDIES)
def test_what_is_not_defined_is_left_out_and_told(tmp_path, call, name):
    settings, note = ODD_STUDIES[name]
    path = attached(tmp_path / "s.sqlite", **settings)
    done = call("analyze", path, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"\b(inf|nan|never)\b", done.stdout, re.IGNORECASE)
    for low, high in re.findall(r"\[([-\d.]+), ([-\d.]+)\]", done.stdout):
        assert low != high
    found = strict_json(call("analyze", path, "--json", "--jobs", 1))
    notes = found["notes"]
    assert {*notes} <= {*found["reading"]}
    assert all(f"- {sentence}\n" in done.stdout for sentence in found["reading"])
    assert [of.startswith(note) for of in notes] == ([] if note is None else [True])


def test_a_null_that_all_runs_share_has_no_interval(tmp_path, call):
    def size(n, seed, rung):
        seeds = (n, 0) if rung == "gaussian" else (n, 1 + seed)
        return np.random.default_rng(seeds).poisson(0.2 * n, 40) + 1

    path = attached(tmp_path / "s.sqlite", shared_seed=True, size=size)
    found = strict_json(call("analyze", path, "--json", "--jobs", 1))
    null, permuted = (found["nulls"][rung]["all"]["max"] for rung in ("gaussian", "permuted"))
    assert null["equal_in_all_resamples"] is True
    assert null["low"] is null["high"] is None
    assert permuted["low"] < permuted["high"]
    assert set(found["null_dimension"]["gaussian"]["max"]["low"]) == {None}
    assert set(found["null_dimension"]["permuted"]["max"]["low"]) != {None}
    estimator = found["attribution"]["all"]["max"]["estimator"]
    assert estimator["low"] is None
    assert estimator["equal_in_all_resamples"]
    text = call("analyze", path, "--jobs", 1).stdout
    assert f"{null['value']:.3f} (one value)" in text
    assert "One value: every resample of the runs gives the same value" in text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rungs": ("gaussian", "permuted")}, "holds no finished run with surrogate='real'"),
        ({"rungs": ("real",)}, "no gaussian and no permuted null was measured beside these runs"),
        ({"sizes": (41,)}, "all runs have N = 41; D(t) needs at least three sizes of network"),
        ({"sizes": (41, 81)}, "the sweep has 2 scales; D(t) needs at least 3 sizes of network"),
        ({"snapshots": 0}, "no run has a snapshot; there is nothing to analyze"),
    ],
)
def test_what_cannot_be_analyzed_is_refused_in_one_sentence(tmp_path, call, settings, told):
    settings = {"size": lambda _n, _seed, _rung: np.ones(settings.get("snapshots", 40)), **settings}
    done = call("analyze", attached(tmp_path / "s.sqlite", **settings), "--jobs", 1)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_analyze_shows_how_many_steps_are_done(tmp_path):
    done = gradquake("analyze", attached(tmp_path / "s.sqlite"), "--jobs", 1)
    assert "20/20 steps" in done.stderr
    assert "steps" not in done.stdout
