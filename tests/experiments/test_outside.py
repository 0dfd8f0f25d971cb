"""A topology, a surrogate, a statistic and an experiment from outside, on other processes."""

import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
from test_run import UNIFORM

import gradquake as gq
from gradquake.analysis import scaling
from gradquake.analysis.statistics import STATISTICS, SizeStatistic
from gradquake.avalanche.graphs import from_edges
from gradquake.avalanche.surrogates import SURROGATES, Surrogate
from gradquake.avalanche.topologies import TOPOLOGIES, Topology
from gradquake.experiments.readings import Reading
from gradquake.experiments.table import EXPERIMENTS
from gradquake.scrutiny.measure import measure
from gradquake.study.execution import each
from gradquake.study.pools import open_executor

SWEEP = {"seeds": 3, "epochs": 40, "topology": "path"}


def path(n, seed):
    first = seed % 2
    return from_edges(n, [(node, node + 1) for node in range(first, n - 1)])


def negated(rows, rng):  # noqa: ARG001
    return -rows


def exponent(pair, n_resamples):
    sweep, statistic = pair
    return scaling.exponent(sweep, statistic, n_resamples=n_resamples).value


def median(sizes, axis):
    return np.nanmedian(np.asarray(sizes, float), axis)


@pytest.fixture
def outside(monkeypatch):
    """Entries that workers cannot know: this module does not add them when it is imported."""
    monkeypatch.setitem(TOPOLOGIES, "path", Topology(path, "path"))
    monkeypatch.setitem(SURROGATES, "negated", Surrogate(negated, "negated", "every magnitude", 5))
    monkeypatch.setitem(STATISTICS, "median", SizeStatistic("m", "median", median))
    monkeypatch.setitem(EXPERIMENTS, UNIFORM.name, UNIFORM)


@contextmanager
def processes():
    yield {"jobs": 2}


@contextmanager
def cluster():
    from distributed import LocalCluster

    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **options) as local:
        yield {"scheduler": local.scheduler_address}


def sizes_and_exponents(out, **where):
    """Run a sweep, and return everything that is measured again, and the exponents of the medians."""
    gq.run("uniform", out=out, **SWEEP, **where)
    with gq.open_study(out) as study, open_executor(**where) as executor:
        sweep = study.select()
        readings = [Reading("negated"), Reading("negated", topology="path")]
        found = measure(sweep, readings, executor)
        exponents = each(partial(exponent, n_resamples=20), [(sweep, "median")] * 2, executor)
        return [sweep["size"].values.tolist()] + [
            of["size"].values.tolist() for of in found.values()
        ], list(exponents)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("workers", [processes, cluster])
def test_entries_from_outside_give_the_same_numbers_on_other_processes(workers, tmp_path):
    alone = sizes_and_exponents(tmp_path / "alone.sqlite", jobs=1)
    with workers() as where:
        assert sizes_and_exponents(tmp_path / "s.sqlite", **where) == alone
    assert np.max(alone[0]) > 0


@pytest.mark.parametrize(
    ("table", "noun", "entry"),
    [
        (TOPOLOGIES, "topology", Topology(lambda n, seed: path(n, seed), "mine")),
        (SURROGATES, "surrogate", Surrogate(lambda rows, rng: rows, "mine", "all", 6)),  # noqa: ARG005
        (STATISTICS, "statistic", SizeStatistic("m", "mine", lambda sizes, axis: median(sizes, axis))),
    ],
    ids=["topology", "surrogate", "statistic"],
)
def test_an_entry_that_cannot_be_sent_is_refused_before_any_work(
    table, noun, entry, monkeypatch, tmp_path
):
    monkeypatch.setitem(table, "mine", entry)
    out = tmp_path / "s.sqlite"
    message = f"^the {noun} mine cannot be sent to other processes; define its functions at the top"
    with pytest.raises(gq.InputError, match=message):
        gq.run("synthetic", n_parameters=[30, 60], seeds=1, epochs=10, out=out, jobs=2)
    assert list(tmp_path.iterdir()) == []
    gq.run("synthetic", n_parameters=[30, 60], seeds=1, epochs=10, out=out, jobs=1)


SESSION = """
import sys
import gradquake as gq
from gradquake.avalanche.topologies import TOPOLOGIES, Topology, ring
def mine(n, seed):
    return ring(n)
TOPOLOGIES["mine"] = Topology(mine, "mine")
if __name__ == "__main__":
    settings = dict(n_parameters=[30, 60], seeds=1, epochs=10, topology="mine", out="s.sqlite")
    for jobs in map(int, sys.argv[1:]):
        print(gq.run("synthetic", jobs=jobs, **settings).name)
"""


def run_python(folder, *arguments, text=None):
    return subprocess.run(
        [sys.executable, *arguments], input=text, cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_topology_of_a_script_goes_to_its_workers(tmp_path):
    (tmp_path / "script.py").write_text(SESSION)
    done = run_python(tmp_path, "script.py", "2")
    assert (done.stdout, done.stderr) == ("s.sqlite\n", "")


def test_a_topology_of_a_session_without_a_script_is_refused_before_any_work(tmp_path):
    done = run_python(tmp_path, "-", "2", text=SESSION)
    assert done.stderr.splitlines()[-1] == (
        "gradquake.errors.InputError: the topology mine cannot be sent to other processes; define its "
        "functions at the top level of a module that can be imported, or use jobs=1"
    )
    assert list(tmp_path.iterdir()) == []
    done = run_python(tmp_path, "-", "1", text=SESSION)
    assert (done.stdout, done.stderr) == ("s.sqlite\n", "")


@pytest.mark.usefixtures("outside")
def test_a_pool_that_was_open_before_knows_entries_that_are_added_later(monkeypatch, tmp_path):
    from gradquake.experiments import synthetic
    from gradquake.study.execution import execute

    with open_executor(2) as pool, gq.open_study(tmp_path / "s.sqlite", create=True) as study:
        monkeypatch.setitem(TOPOLOGIES, "later", Topology(path, "later"))
        execute(
            study,
            synthetic.measure,
            synthetic.SYNTHETIC.sweep([30], 2, epochs=10, topology="later"),
            pool,
        )
        assert study.select(topology="later").sizes["run"] == 2
