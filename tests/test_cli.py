"""The command line as a user meets it: real processes, real files."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradquake.cli import main

COMMAND = str(Path(sys.executable).with_name("gradquake"))
SMALL = ["--hidden", "3,5,8", "--seeds", "2", "--epochs", "60", "--jobs", "1"]
README = Path(__file__).parents[1] / "README.md"


def gradquake(*arguments, cwd=None):
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "small.sqlite"
    done = gradquake("run", "xor", "--out", path, *SMALL)
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize("command", [[], ["reproduce"], ["run"], ["run", "xor"], ["analyze"], ["info"]])
def test_every_command_has_help(command):
    done = gradquake(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert "Traceback" not in done.stderr


def test_every_command_of_the_readme_exists():
    commands = set(re.findall(r"gradquake (reproduce|run xor|analyze|info)", README.read_text("utf-8")))
    assert commands == {"reproduce", "run xor", "analyze", "info"}


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
    assert "6 runs finished, 0 planned and missing" in gradquake("info", study).stdout


def test_info_counts_what_is_missing(tmp_path):
    from gradquake.experiments import xor
    from gradquake.experiments.xor import XorRun
    from gradquake.store import open_study

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
    assert "1 runs finished, 4 planned and missing" in text


def test_analyze_json(study):
    done = gradquake("analyze", study, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["settings"]["alpha_train"] == 0.3
    for phase in ("all", "pre", "post"):
        assert {"estimate", "ci_low", "ci_high"} <= set(found["D"][phase])
        assert {"estimate", "ci_low", "ci_high"} <= set(found["nulls"]["gaussian"]["D"][phase])
    assert len(found["D_t"]["max"]["exponent"]) == len(found["D_t"]["max"]["epoch"]) == 7


def test_analyze_text(study):
    done = gradquake("analyze", study)
    assert done.returncode == 0, done.stderr
    for words in ("gamma (mean)", "Gaussian null", "crosses 1 from below", "runs grok at epochs"):
        assert words in done.stdout


def test_analyze_asks_which_sweep(study, tmp_path):
    both = tmp_path / "both.sqlite"
    for alpha_train in ("0", "0.3"):
        gradquake("run", "xor", "--out", both, *SMALL, "--alpha-train", alpha_train)
    refused = gradquake("analyze", both)
    assert refused.returncode == 2
    assert "2 sweeps" in refused.stderr
    assert "alpha_train" in refused.stderr
    chosen = gradquake("analyze", both, "--where", "alpha_train=0.3", "--json")
    assert json.loads(chosen.stdout) == json.loads(gradquake("analyze", study, "--json").stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "xor", "--out", "s", "--hidden", "3,x"], "'3,x'; integers separated by commas"),
        (["run", "xor", "--out", "s", "--hidden", "0"], "hidden is 0; an integer of at least 1"),
        (["run", "xor", "--out", "s", "--hidden", "3,3"], "repeat"),
        (["run", "xor", "--out", "s", "--seeds", "0"], "--seeds is 0"),
        (["run", "xor", "--out", "s", "--jobs", "0"], "--jobs is 0"),
        (["run", "xor", "--out", "s", "--alpha", "1.5"], "alpha is 1.5; a number in (0, 1)"),
        (["run", "xor", "--out", "s", "--alpha", "nan"], "alpha is nan"),
        (["run", "xor", "--out", "s", "--alpha-train", "-1"], "alpha_train is -1.0"),
        (["run", "xor", "--out", "s", "--quantile", "2"], "quantile is 2.0"),
        (["run", "xor", "--out", "s", "--max-steps", "0"], "max_steps is 0"),
        (["run", "xor", "--out", "s", "--learning-rate", "-1"], "learning_rate is -1.0"),
        (["run", "xor", "--out", "s", "--topology", "torus"], "topology is 'torus'; one of"),
        (["run", "xor", "--out", "."], "is a folder"),
        (["run", "xor", "--out", "no/such/folder/s"], "no/such/folder/s"),
        (["analyze", "none.sqlite"], "does not exist"),
        (["info", "none.sqlite"], "does not exist"),
        (["reproduce", "--seeds", "0"], "--seeds is 0"),
        (["reproduce", "--out", "file"], "file cannot be written"),
    ],
)
def test_bad_input_is_one_clear_sentence(arguments, words, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("here first")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gradquake", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    assert stopped.value.code == 2
    assert words in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


@pytest.mark.parametrize("arguments", [["reproduc"], ["run", "xor"], ["info", "--jsn", "x"]])
def test_bad_usage_has_status_2_and_no_traceback(arguments):
    done = gradquake(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_too_few_scales(tmp_path):
    gradquake("run", "xor", "--out", tmp_path / "s", "--hidden", "3,5", "--seeds", "1", "--epochs", "10")
    done = gradquake("analyze", tmp_path / "s")
    assert done.returncode == 2
    assert "the sweep has 2 scales; D(t) needs at least 3" in done.stderr


def test_bad_where(study):
    assert (
        "--where is 'alpha'; name=value is needed"
        in gradquake("analyze", study, "--where", "alpha").stderr
    )
    refused = gradquake("analyze", study, "--where", "alpha=0.9")
    assert refused.returncode == 2
    assert "no finished run with alpha=0.9" in refused.stderr


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_interrupt_is_one_clean_line_and_resumes(jobs, tmp_path):
    path = tmp_path / "s.sqlite"
    command = [COMMAND, "run", "xor", "--out", str(path), "--hidden", "300,301,302", "--seeds", "60"]
    process = subprocess.Popen(
        [*command, "--jobs", jobs], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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
        with sqlite3.connect(path) as connection:
            return connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_a_single_seed_gives_estimates_without_intervals(tmp_path):
    path = tmp_path / "s.sqlite"
    gradquake("run", "xor", "--out", path, "--hidden", "3,5,8", "--seeds", "1", "--epochs", "60")
    found = json.loads(gradquake("analyze", path, "--json").stdout)
    assert found["D"]["all"]["estimate"] is not None
    assert found["D"]["all"]["ci_low"] is None
    assert "[none, none]" in gradquake("analyze", path).stdout
