"""Measurement in the background of a training: the same results as at once, and every way to end."""

import multiprocessing
import threading
import time
import warnings

import loops
import numpy as np
import pytest
import torch
from scripts import run_script

import gradquake.torch as gqt
from gradquake import InputError, Probe, open_study
from gradquake.analysis.dimension import dimension
from gradquake.avalanche import surrogates
from gradquake.avalanche.extrapolation import size_error
from gradquake.avalanche.probe import fixed_sample
from gradquake.study.recording import COSTS
from gradquake.torch import attaching, measurement
from gradquake.torch.background import Background

NULLS = ["gaussian", "permuted"]


@pytest.fixture(autouse=True)
def in_background(monkeypatch):
    """Measure in the background, however small the gradient is."""
    monkeypatch.setattr(attaching, "runs_beside", lambda *_: True)


@pytest.fixture
def gate(monkeypatch):
    """Return an event that measurements wait for, after the first one has begun."""
    opened = threading.Event()
    avalanche = measurement.Measurement.avalanche

    def gated(self):
        opened.wait(60)
        return avalanche(self)

    monkeypatch.setattr(measurement.Measurement, "avalanche", gated)
    return opened


def without_costs(dataset):
    return dataset.drop_vars([name for name in COSTS if name in dataset])


def trained(steps=6, **options):
    model = loops.network()
    optimizer = loops.sgd(model)
    quake = gqt.attach(model, optimizer, probe=Probe(seed=3), every=2, nulls=NULLS, **options)
    loops.train(model, optimizer, steps, quake)
    quake.detach()
    return model, quake


@pytest.mark.parametrize("when_behind", ["wait", "skip"])
@pytest.mark.parametrize("with_study", [False, True])
def test_results_are_those_of_measurement_at_once(tmp_path, monkeypatch, when_behind, with_study):
    path = {"study": tmp_path / "runs.sqlite"} if with_study else {}
    model, quake = trained(when_behind=when_behind, **path)
    monkeypatch.setattr(attaching, "runs_beside", lambda *_: False)
    same, at_once = trained()
    assert loops.same_weights(model, same)
    for name in ("real", *NULLS):
        found = without_costs(quake.dataset_of(name))
        expected = at_once.dataset_of(name)
        if when_behind == "skip":
            expected = expected.sel(epoch=found["epoch"].values)
        # Outcomes belong to other snapshots if steps between are left out.
        assert found.equals(expected) or quake.left_out
    assert quake.dataset.sizes["epoch"] + quake.left_out == 3
    assert {*COSTS} <= {*quake.dataset}
    assert not {*COSTS} & {*at_once.dataset}
    assert "seconds" in quake.dataset["probe_copying"].attrs["meaning"]


def test_outcomes_wait_for_their_snapshot(gate):
    model = loops.network()
    optimizer = loops.sgd(model)
    with gqt.attach(model, optimizer, every=3) as quake:
        for step in range(3):
            optimizer.zero_grad()
            loops.loss_of(model).backward()
            optimizer.step()
            quake.log(loss=step, accuracy=step / 2)
        gate.set()
        latest = quake.latest
    assert latest["step"] == 0
    assert latest["loss"] == 0
    assert quake.dataset["grokking_epoch"].values.tolist() == [2]


def test_outcomes_of_a_step_that_fails_go_to_the_snapshot_before():
    model = loops.network()
    optimizer = loops.sgd(model)

    def mend(*_):
        model[0].weight.grad.nan_to_num_()

    with gqt.attach(model, optimizer, every=1) as quake:
        # After the probe's hook, so that the optimizer does not see the NaN.
        optimizer.register_step_pre_hook(mend)
        for step, bad in enumerate([False, True, False]):
            optimizer.zero_grad()
            loops.loss_of(model).backward()
            if bad:
                model[0].weight.grad[0, 0] = torch.nan
            optimizer.step()
            quake.log(**{f"at_{step}": step})
        assert quake.skipped == 1
        with pytest.warns(UserWarning, match="1 step was not measured, the first at step 1"):
            quake.detach()
    assert quake.dataset["epoch"].values.tolist() == [0, 2]
    assert quake.dataset["at_1"].values[0, 0] == 1
    assert quake.dataset["at_2"].values[0, 1] == 2


def test_a_training_that_is_too_fast_leaves_steps_out_if_asked(gate, tmp_path):
    model = loops.network()
    optimizer = loops.sgd(model)
    path = tmp_path / "runs.sqlite"
    with gqt.attach(model, optimizer, every=1, when_behind="skip", study=path) as quake:
        loops.train(model, optimizer, 4, quake)
        gate.set()
        assert quake.latest["step"] == 0
        loops.train(model, optimizer, 1, quake)
        assert quake.left_out == 3
    with open_study(path) as study:
        real = study.dataset
    assert real["epoch"].values.tolist() == [0, 4]
    assert real["probe_left_out"].values.tolist() == [[0, 3]]


def test_a_training_that_is_too_fast_waits(monkeypatch):
    avalanche = measurement.Measurement.avalanche

    def slow(self):
        time.sleep(0.05)
        return avalanche(self)

    monkeypatch.setattr(measurement.Measurement, "avalanche", slow)
    model, optimizer = (network := loops.network()), loops.sgd(network)
    with gqt.attach(model, optimizer, every=1) as quake:
        loops.train(model, optimizer, 4)
    assert quake.dataset["epoch"].values.tolist() == [0, 1, 2, 3]
    assert quake.left_out == 0
    assert quake.dataset["probe_waiting"].values[0, 1:].min() > 0
    assert quake.dataset["probe_measuring"].values.min() >= 0.05


def test_the_training_goes_on_while_a_gradient_is_measured(gate):
    model = loops.network()
    optimizer = loops.sgd(model)
    with gqt.attach(model, optimizer, every=10) as quake:
        loops.train(model, optimizer, 9)
        assert quake.step == 9
        assert "gradquake measurement" in {thread.name for thread in threading.enumerate()}
        gate.set()
    assert quake.dataset["epoch"].values.tolist() == [0]


@pytest.mark.parametrize("errors", ["warn", "raise"])
@pytest.mark.parametrize("broken", ["avalanche", "null"])
def test_errors_are_told_in_the_thread_that_trains(monkeypatch, errors, broken):
    def fail(*_):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(measurement.Measurement, broken, fail)
    model = loops.network()
    optimizer = loops.sgd(model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        quake = gqt.attach(model, optimizer, every=1, nulls=["gaussian"], errors=errors)
        if errors == "raise":
            loops.train(model, optimizer, 1)
            with pytest.raises(RuntimeError, match="on purpose"):
                quake.detach()
            return
        loops.train(model, optimizer, 3, quake)
        quake.detach()
    texts = [str(one.message) for one in said]
    assert all(one.filename == loops.__file__ for one in said[:1])
    what = "step 0 was not measured" if broken == "avalanche" else "gaussian was not measured at step 0"
    assert sum(what in text for text in texts) == 1
    assert sum("3 steps" in text for text in texts) == 1


def test_loggers_are_called_in_the_thread_that_trains():
    seen = []

    def logger(scalars, step):
        seen.append((step, threading.get_ident(), "gradquake/probe_copying" in scalars))

    model = loops.network()
    optimizer = loops.sgd(model)
    with gqt.attach(model, optimizer, every=2, loggers=[logger]):
        loops.train(model, optimizer, 5)
    assert seen == [(step, threading.get_ident(), True) for step in (0, 2, 4)]


def test_without_a_thread_it_is_measured_at_once(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    _, quake = trained()
    assert quake.dataset["epoch"].values.tolist() == [0, 2, 4]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_exception_in_the_training_keeps_the_measurement_under_way(tmp_path, gate, error):
    path = tmp_path / "runs.sqlite"
    model = loops.network()
    optimizer = loops.sgd(model)

    def interrupted():
        with gqt.attach(model, optimizer, every=1, study=path) as quake:
            loops.train(model, optimizer, 1, quake)
            gate.set()
            raise error

    with pytest.raises(error):
        interrupted()
    with open_study(path) as study:
        (unfinished,) = study.unfinished()
    assert unfinished.epochs.tolist() == [0]


def test_ctrl_c_during_the_wait_and_a_second_detach(tmp_path, gate, monkeypatch):
    path = tmp_path / "runs.sqlite"
    model = loops.network()
    optimizer = loops.sgd(model)
    quake = gqt.attach(model, optimizer, every=1, study=path)
    loops.train(model, optimizer, 1)
    wait = Background.wait

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Background, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quake.detach()
    monkeypatch.setattr(Background, "wait", wait)
    gate.set()
    quake.detach()
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == [0]


SLOW = """
import signal
from gradquake.torch import attaching, measurement
attaching.runs_beside = lambda *_: True
avalanche = measurement.Measurement.avalanche
begun = threading.Event()
def slow(self):
    begun.set()
    time.sleep(0.3)
    return avalanche(self)
measurement.Measurement.avalanche = slow
optimizer, quake = begin("a")
for _ in range(2):
    optimizer.step()
begun.wait()
"""


@pytest.mark.parametrize(
    ("ending", "steps"),
    [
        ("", [0, 1]),
        ("sys.exit()", [0, 1]),
        ("del optimizer, quake; gc.collect()", [0, 1]),
        ("quake.detach(finished=False)", [0, 1]),
        ("raise ValueError('on purpose')", [0, 1]),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", [0, 1]),
        (
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
            "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
            [0, 1],
        ),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", None),
        ("time.sleep(0.6); os._exit(0)", None),
        ("quake._journals['gradient'].flush(1); os._exit(0)", None),
        ("os.kill(os.getpid(), 9)", None),
    ],
)
def test_every_end_of_a_process(tmp_path, ending, steps):
    path = tmp_path / "runs.sqlite"
    if "exit()" not in ending and ("kill" in ending or "raise" in ending):
        with pytest.raises(AssertionError):
            run_script(SLOW + ending, path)
    else:
        run_script(SLOW + ending, path)
    with open_study(path) as study:
        found = [record.epochs.tolist() for record in study.unfinished()]
    # An end without notice loses at most the measurement under way, and those not yet written.
    assert found == [steps] if steps else found in ([], [[0]], [[0, 1]])


CHILD = """
from gradquake.torch import attaching
attaching.runs_beside = lambda *_: True
def train():
    optimizer, quake = begin("child", width=100, nulls=["gaussian", "permuted"])
    for _ in range(3):
        optimizer.step()
if __name__ == "__main__":
    optimizer, quake = begin("parent", width=100)
    optimizer.step()
    process = multiprocessing.get_context("fork").Process(target=train)
    process.start()
    process.join()
    assert process.exitcode == 0
    optimizer.step()
"""


def test_a_forked_training_that_forgets_to_detach_keeps_what_it_measured(tmp_path):
    path = tmp_path / "runs.sqlite"
    run_script(CHILD, path)
    with open_study(path) as study:
        found = {
            (r.config["labels"]["name"], r.config["surrogate"]): r.epochs.tolist()
            for r in study.unfinished()
        }
    child = {("child", name): [0, 1, 2] for name in ("real", *NULLS)}
    assert found == child | {("parent", "real"): [0, 1]}


INTERRUPTED = """
import random, signal, sys
from gradquake.torch import attaching
attaching.runs_beside = lambda *_: True
random.seed(0)
def interrupt():
    time.sleep(0.01 * random.random())
    os.kill(os.getpid(), signal.SIGINT)
for k in range(40):
    optimizer, quake = begin(f"run {k}")
    thread = threading.Thread(target=interrupt)
    try:
        with quake:
            thread.start()
            while True:
                optimizer.step()
                quake.log(loss=quake.step)
    except KeyboardInterrupt:
        pass
    thread.join()
    print(k, quake.step)
"""


def test_ctrl_c_at_any_moment_of_a_training(tmp_path):
    path = tmp_path / "runs.sqlite"
    lines = run_script(INTERRUPTED, path).stdout.splitlines()
    with open_study(path) as study:
        runs = {record.config["labels"]["name"]: record for record in study.unfinished()}
    for k, steps in (map(int, line.split()) for line in lines):
        # All but the step that was interrupted are measured. The study drops a run without any.
        run = runs.get(f"run {k}")
        epochs = run.epochs.tolist() if run else []
        assert epochs == list(range(len(epochs)))
        assert len(epochs) >= steps - 1
        if steps > 1:
            assert run.values["loss"][: steps - 1].tolist() == list(range(1, steps))


@pytest.mark.parametrize("begins", ["before", "after", "never"])
def test_ctrl_c_while_the_thread_starts(monkeypatch, begins):
    """Work whose thread began is waited for; other work is dropped, also if its thread begins later."""
    done, late, begun, start = [], [], threading.Event(), threading.Thread.start

    def work():
        begun.set()
        time.sleep(0.1)
        done.append(1)
        return "done"

    def interrupted(thread):
        if begins == "before":
            start(thread)
            begun.wait()
        late.append(thread)
        raise KeyboardInterrupt

    background = Background()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            background.start(work)
    background.wait()
    if begins == "after":
        start(late[0])
        late[0].join()
    assert (background.busy, background.result(), done) == (
        (False, "done", [1]) if begins == "before" else (False, None, [])
    )
    background.start(lambda: "next")
    background.wait()
    assert background.result() == "next"


def test_a_large_measurement_with_threads_at_the_end_of_the_interpreter(tmp_path):
    path = tmp_path / "runs.sqlite"
    code = """
from gradquake.torch import attaching
from gradquake.avalanche import probe
attaching.runs_beside, probe.LARGE = lambda *_: True, 1
optimizer, quake = begin("a", width=50_000, threads=2, nulls=["gaussian", "permuted"])
optimizer.step()
"""
    run_script(code, path)
    with open_study(path) as study:
        assert [record.epochs.tolist() for record in study.unfinished()] == [[0]] * 3


def test_a_child_that_is_forked_during_a_measurement(tmp_path):
    path = tmp_path / "runs.sqlite"
    code = (
        SLOW
        + """
child = os.fork()
if child == 0:
    optimizer.step()
    quake.log(loss=1.0)
    print(quake.latest["step"], flush=True)
    quake.detach()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
optimizer.step()
quake.detach()
"""
    )
    code = "import warnings; warnings.simplefilter('ignore')\n" + code
    assert run_script(code, path).stdout == "1\n"
    with open_study(path) as study:
        assert study.dataset["epoch"].values.tolist() == [0, 1, 2]


METHODS = [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_data_loader(tmp_path, method):
    model = loops.network()
    optimizer = loops.sgd(model)
    data = torch.utils.data.TensorDataset(loops.X, loops.Y)
    with gqt.attach(model, optimizer, every=1, study=tmp_path / "runs.sqlite", nulls=NULLS) as quake:
        for _ in range(2):
            loader = torch.utils.data.DataLoader(
                data, batch_size=8, num_workers=2, multiprocessing_context=method
            )
            for x, y in loader:
                optimizer.zero_grad()
                loops.loss_of(model, x, y).backward()
                optimizer.step()
    assert quake.dataset["epoch"].values.tolist() == [0, 1, 2, 3]


def test_the_work_of_threads_holds_no_lock_of_the_interpreter():
    """A thread in Python goes on while a gradient and its nulls are measured."""
    n = 1 << 20
    model = torch.nn.Module()
    model.p = torch.nn.Parameter(torch.zeros(n))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    quake = gqt.attach(model, optimizer, every=1, nulls=["gaussian", "permuted"])
    rng = np.random.default_rng(0)
    for _ in range(2):  # the first one compiles
        model.p.grad = torch.from_numpy(rng.standard_normal(n, dtype=np.float32))
        optimizer.step()
    ticks = 0
    while quake._beside._background.busy:
        ticks += 1
    quake.detach()
    # A measurement that held the lock would leave a tick or two.
    assert ticks > 100


def test_the_memory_of_a_long_training_is_bounded(tmp_path):
    resource = pytest.importorskip("resource")
    model = loops.network()
    optimizer = loops.sgd(model)
    with gqt.attach(model, optimizer, every=1, study=tmp_path / "runs.sqlite") as quake:
        loops.train(model, optimizer, 100, quake)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        loops.train(model, optimizer, 600, quake)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Snapshots kept in memory are a kilobyte each; a thread has a little memory of its own.
    assert after - before < 600
    assert quake.dataset.sizes["epoch"] == 700


def test_background_waits_at_most_as_long_as_it_is_given():
    background, gate = Background(), threading.Event()
    background.start(lambda: gate.wait(60))
    assert background.busy
    background.wait(0.05)
    assert background.busy
    assert background.result() is None
    gate.set()
    background.wait()
    assert background.result() is True
    assert background.result() is None


def test_work_may_wait_for_itself():
    background = Background()
    background.start(lambda: background.wait() or "ended")
    background.wait(10)
    assert background.result() == "ended"


def test_gaussian_nulls_of_a_large_gradient_are_measured_once_for_each_draw(monkeypatch):
    monkeypatch.setattr(surrogates, "LARGE", 1)
    drawn = []

    def counted(rung, *arguments, **options):
        drawn.append(rung)
        return surrogates.surrogate(rung, *arguments, **options)

    monkeypatch.setattr(measurement, "surrogate", counted)
    model = loops.network()
    optimizer = loops.sgd(model)
    with gqt.attach(model, optimizer, every=1, nulls=NULLS) as quake:
        loops.train(model, optimizer, 40)
    sizes = quake.dataset_of("gaussian")["size"].values[0]
    draws = [surrogates.repeated_draw("gaussian", quake.n_parameters, 0, step) for step in range(40)]
    assert drawn.count("permuted") == 40
    assert drawn.count("gaussian") == len(set(draws)) <= 8
    n = quake.n_parameters
    expected = [
        Probe().measure(
            surrogates.gaussian(np.zeros(n, np.float32), seed=surrogates.seed_at(0, 0, draw))
        )
        for draw in draws
    ]
    assert sizes.tolist() == [avalanche.size for avalanche in expected]


@pytest.mark.parametrize(
    ("small", "cores", "when_behind", "expected"),
    [
        (1, 10**6, "wait", True),
        (1, 1, "wait", False),  # PyTorch takes all cores
        (1, 1, "skip", True),
        (10**9, 10**6, "skip", False),
    ],
)
def test_a_measurement_runs_beside_a_training_that_leaves_a_core(
    monkeypatch, small, cores, when_behind, expected
):
    monkeypatch.undo()
    monkeypatch.setattr(attaching, "SMALL", small)
    monkeypatch.setattr(attaching, "CORES", cores)
    model = loops.network(width=600)
    optimizer = loops.sgd(model)
    with gqt.attach(model, optimizer, every=1, when_behind=when_behind) as quake:
        loops.train(model, optimizer, 1)
    assert ("probe_measuring" in quake.dataset) == expected


@pytest.mark.parametrize("beside", [True, False])
def test_the_whole_is_estimated_from_a_sample(tmp_path, monkeypatch, beside):
    """Models of three sizes with samples of one size have a D(t)."""
    monkeypatch.setattr(attaching, "runs_beside", lambda *_: beside)
    path = tmp_path / "runs.sqlite"
    shares = {}
    for width in (600, 1200, 2400):
        model = loops.network(width=width)
        optimizer = loops.sgd(model)
        with gqt.attach(
            model, optimizer, every=1, study=path, sample=2000, estimate=True, nulls=["permuted"],
            probe=Probe("random_regular"), labels={"width": width},
        ) as quake:  # fmt: skip
            loops.train(model, optimizer, 2)
        total = sum(p.numel() for p in model.parameters())
        assert quake.config["n_parameters"] == total
        assert quake.config["estimated"] is True
        flat = loops.flat(model)[fixed_sample(total, 2000, 0)]
        expected = Probe("random_regular").measure(flat)
        data = quake.dataset
        assert data["size"].values[0, 1] == round(expected.size * total / 2000)
        assert data["threshold"].values[0, 1] == expected.threshold
        error = size_error(Probe("random_regular"), flat, total)
        assert data["size_error"].values[0, 1] == error > 0
        assert quake.dataset_of("permuted")["size_error"].values.min() > 0
        shares[total] = data["size"].values[0, 1]
    with open_study(path) as study:
        real = study.select(surrogate="real")
    assert dict(zip(real["n_parameters"].values, real["size"].values[:, 1], strict=True)) == shares
    assert np.isfinite(dimension(real, "max")["value"].values).all()


def test_a_whole_that_cannot_be_estimated_is_refused():
    model = loops.network(width=600)
    optimizer = loops.sgd(model)
    for options in ({}, {"sample": 2000}, {"sample": 100, "probe": Probe("erdos_renyi")}):
        with pytest.raises(InputError, match=r"estimate needs a sample|plays a part|at least 1600"):
            gqt.attach(model, optimizer, estimate=True, **options)
    # A sample of all entries is the whole.
    with gqt.attach(model, optimizer, estimate=True, sample=10_000, probe=Probe("erdos_renyi")) as quake:
        loops.train(model, optimizer, 1)
    assert "size_error" not in quake.dataset
