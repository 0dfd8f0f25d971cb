"""Sweeps by the name of their experiment, one of them added from outside the package."""

import math
import os
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gradquake import InputError, analyze, open_study
from gradquake.analysis.dimension import dimension
from gradquake.cli.app import app
from gradquake.cli.run import _helps
from gradquake.experiments import synthetic, xor
from gradquake.experiments.experiment import Experiment, ProbedRun
from gradquake.experiments.readings import Reading, read
from gradquake.experiments.run import run
from gradquake.experiments.table import EXPERIMENTS
from gradquake.scrutiny import replay
from gradquake.scrutiny.checks import check_beside
from gradquake.study.recording import GradientRecord


@dataclass(frozen=True)
class UniformRun(ProbedRun):
    """Gradients that are uniform between 0 and a bound.

    Parameters
    ----------
    n_parameters : int
        The length of the gradients.
    seed : int
    bound : float
        The largest entry.
    """

    experiment = "uniform"

    n_parameters: int
    seed: int
    bound: float = 1.0


def gradients(runs, epochs=None):
    records = []
    for r, uniform in enumerate(runs):
        at = uniform.snapshots if epochs is None else epochs[r]
        rng = np.random.default_rng(uniform.seed)
        draws = uniform.bound * rng.random((uniform.epochs + 1, uniform.n_parameters))
        records.append(
            GradientRecord(uniform.config(), 20, at, draws[at], {"all": uniform.n_parameters})
        )
    return records


def measure(runs):
    return [read(record, Reading()) for record in gradients(runs)]


UNIFORM = Experiment(UniformRun, "n_parameters", (30, 60, 120), measure, gradients)
HERE = Path(__file__).parent
SMALL = {"seeds": 3, "epochs": 40, "jobs": 1}


@pytest.fixture
def uniform(monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, UNIFORM.name, UNIFORM)


@pytest.mark.usefixtures("uniform")
def test_an_experiment_from_outside_is_run_analyzed_and_replayed_by_its_name(tmp_path):
    out = run("uniform", out=tmp_path / "s.sqlite", bound=2, topology="ring", **SMALL)
    with open_study(out) as study:
        sweep = study.select(experiment="uniform", bound=2)
    assert sweep["n_parameters"].values.tolist() == [30] * 3 + [60] * 3 + [120] * 3
    assert dimension(sweep, "max", n_resamples=50)["epoch"].values.tolist() == [0, 10, 20, 30, 40]
    runs = replay.runs_of(sweep)
    assert all(type(one) is UniformRun and one.topology == "ring" for one in runs)
    for one, record in zip(runs, replay.gradients(runs), strict=True):
        again = one.probe.measure_batch(record.gradients)
        measured = sweep["size"].sel(run=runs.index(one))
        assert again.size.tolist() == measured.values.tolist()


def test_an_unknown_experiment_is_asked_for_only_if_its_code_is_needed(tmp_path, monkeypatch):
    with monkeypatch.context() as known:
        known.setitem(EXPERIMENTS, UNIFORM.name, UNIFORM)
        out = run("uniform", out=tmp_path / "s.sqlite", **SMALL)
    message = (
        "^the experiment uniform is unknown here, and nulls of its runs need its code; import the "
        "module that defines it first$"
    )
    for options in ({}, {"nulls": True}, {"sensitivity": True}):
        with pytest.raises(InputError, match=message):
            analyze(out, jobs=1, **options)
    with open_study(out) as study:
        sweep = study.select()
    check_beside(sweep, dict.fromkeys(("gaussian", "permuted"), sweep))


@pytest.mark.usefixtures("uniform")
def test_an_experiment_from_outside_is_a_command(tmp_path):
    called = CliRunner().invoke(app, ["run", "uniform", "--help"], env={"COLUMNS": "200"})
    assert "The largest entry." in called.output
    arguments = ["--n-parameters", "30,60", "--seeds", "2", "--epochs", "10", "--jobs", "1"]
    out = tmp_path / "s.sqlite"
    called = CliRunner().invoke(app, ["run", "uniform", "--out", str(out), *arguments])
    assert called.output.endswith(
        f"4 runs of this sweep are in {out}; `gradquake analyze {out}` reads them\n"
    )


def test_a_sweep_is_what_its_measure_gives_and_is_not_repeated(tmp_path):
    found, out = [], tmp_path / "s.sqlite"
    for _ in range(2):
        found.append(0)
        run(
            "xor",
            hidden=[4, 3],
            alpha_train=0,
            out=out,
            progress=lambda _, n, __: found.append(n),
            **SMALL,
        )
    assert sum(found) == 12
    assert found[-2:] == [0, 6]
    expected = xor.measure(xor.sweep([4, 3], 3, epochs=40, alpha_train=0.0))
    with open_study(out) as study:
        records = {record.key: record for record in study.records()}
    assert records.keys() == {record.key for record in expected}
    for record in expected:
        for name, values in record.values.items():
            assert records[record.key].values[name].tobytes() == values.tobytes()


SCRIPT = """
from gradquake.experiments.run import run
print(run("xor", hidden=[20, 50], seeds=2, epochs=10, out="s.sqlite", jobs=2).name)
"""
OWN = """
import sys
import test_run
from gradquake.experiments.experiment import Experiment
from gradquake.experiments.run import run
from gradquake.experiments.table import EXPERIMENTS

class UniformRun(test_run.UniformRun):
    pass

EXPERIMENTS["uniform"] = Experiment(UniformRun, "n_parameters", (30,), test_run.measure)
if __name__ == "__main__" or "unguarded" in sys.argv:
    print(run("uniform", seeds=2, epochs=10, out="s.sqlite", jobs=2).name)
"""


def run_script(folder, text, *arguments):
    (folder / "script.py").write_text(text)
    command = [sys.executable, "script.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_plain_script_runs_on_several_processes(tmp_path):
    done = run_script(tmp_path, SCRIPT)
    assert (done.stdout, done.stderr) == ("s.sqlite\n", "")


def test_an_experiment_of_a_script_needs_its_calls_guarded(tmp_path):
    done = run_script(tmp_path, OWN, "unguarded")
    assert 'put the calls in the script under `if __name__ == "__main__":`' in done.stderr
    done = run_script(tmp_path, OWN)
    assert (done.stdout, done.stderr) == ("s.sqlite\n", "")


def test_sizes_are_the_experiments_own_unless_given(tmp_path):
    out = run("synthetic", out=tmp_path / "s.sqlite", seeds=1, epochs=10, jobs=1)
    with open_study(out) as study:
        assert study.dataset["n_parameters"].values.tolist() == list(synthetic.SYNTHETIC.sizes)


@pytest.mark.parametrize("sizes", [[4, 3], np.array([4, 3]), (np.int64(4), np.int8(3)), range(4, 2, -1)])
def test_sizes_are_integers_of_any_kind(sizes):
    assert xor.sweep(sizes, np.int64(2)) == xor.sweep([4, 3], 2)


ODD = (
    None, True, 2.5, -1, 10**30, math.nan, "", "ab", b"ab", [], [[3]], {3}, {3: 1}, 1j, object(), len,
    np.array(3), np.array([3.0]), np.array([[3], [4]]), np.array(["a"]), np.bool_(True),
)  # fmt: skip


def refusal(make):
    """Return the message of an InputError, or "" if there is none."""
    try:
        make()
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=list(EXPERIMENTS))
def test_any_value_of_any_setting_is_taken_or_refused_in_one_line(experiment):
    for value in ODD:
        told = [
            refusal(lambda value=value: experiment.sweep(value, 1)),
            refusal(lambda value=value: experiment.sweep([value], 1)),
            refusal(lambda value=value: experiment.sweep([8], value)),
            *(
                refusal(lambda given={name: value}: experiment.sweep([8], 1, **given))
                for name in experiment.settings
            ),
        ]
        assert all(len(message.splitlines()) <= 1 for message in told), value


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "weather",
            {},
            "the experiment is 'weather'; one of xor, modular_addition, synthetic, branching, ",
        ),
        (
            "xor",
            {"alfa": 0.2},
            "xor has no setting alfa; its settings are alpha, quantile, max_steps, epochs, ",
        ),
        ("xor", {"seed": 1}, "xor has no setting seed; its settings are"),
        ("xor", {"hidden": 20}, "hidden is 20; a list of sizes is needed"),
        ("xor", {"hidden": []}, "hidden is empty; at least one size is needed"),
        ("xor", {"hidden": [3, 3]}, "hidden is [3, 3], which repeats a size"),
        ("xor", {"hidden": [[3], [4]]}, "hidden is [[3], [4]]; a list of integers is needed"),
        ("xor", {"hidden": np.array([[3], [4]])}, "hidden is [[3], [4]]; a list of integers is needed"),
        ("xor", {"hidden": np.array(3)}, "hidden is 3; a list of sizes is needed"),
        ("xor", {"hidden": [2.5]}, "hidden is [2.5]; a list of integers is needed"),
        ("xor", {"hidden": ["a"]}, "hidden is ['a']; a list of integers is needed"),
        ("xor", {"hidden": [None]}, "hidden is [None]; a list of integers is needed"),
        ("xor", {"hidden": [True, 3]}, "hidden is [True, 3]; a list of integers is needed"),
        ("xor", {"hidden": b"ab"}, "hidden is b'ab'; a list of sizes is needed"),
        ("xor", {"hidden": [np.int64(3), 3]}, "hidden is [np.int64(3), 3], which repeats a size"),
        ("xor", {"hidden": [0]}, "hidden is 0; an integer of at least 1 is needed"),
        ("xor", {"alpha": np.array([1, 2])}, "alpha is array([1, 2]); a number is needed"),
        ("xor", {"alpha_train": np.array([1, 2])}, "alpha_train is array([1, 2]); a number is needed"),
        (["xor"], {}, "the experiment is ['xor']; one of"),
        ("xor", {"seeds": [0, 1]}, "seeds is [0, 1]; an integer of at least 1 is needed"),
        ("xor", {"seeds": 2.5}, "seeds is 2.5; an integer of at least 1 is needed"),
        ("xor", {"seeds": True}, "seeds is True; an integer of at least 1 is needed"),
        ("xor", {"topology": "torus"}, "topology is 'torus'; one of"),
        ("xor", {"seeds": 0}, "seeds is 0; an integer of at least 1 is needed"),
        ("xor", {"jobs": 0}, "jobs is 0; an integer of at least 1 is needed"),
        ("xor", {"jobs": 1, "scheduler": "tcp://h:1"}, "jobs and scheduler were both given; "),
    ],
)
def test_bad_input_is_refused_before_a_study_is_made(tmp_path, name, options, message):
    with pytest.raises(InputError) as raised:
        run(name, out=tmp_path / "s.sqlite", **options)
    assert str(raised.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda found: found.name)
def test_every_option_says_what_it_is(experiment):
    assert {field.name for field in fields(experiment.run)} <= _helps(experiment.run).keys()
