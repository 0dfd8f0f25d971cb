"""What is missing of a sweep is measured once, on any executor, and survives interruption."""

import functools
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from gradquake.errors import GradquakeError, InputError, StudyError
from gradquake.experiments import synthetic, xor
from gradquake.study.configuration import config_key
from gradquake.study.execution import (
    PARAMETERS_A_TASK,
    SweepError,
    _on_same_software,
    each,
    execute,
    sole_sweep,
    tasks,
    unpacked,
)
from gradquake.study.pools import WorkerDiedError, available_cores, open_executor
from gradquake.study.recording import to_dataset
from gradquake.study.schema import software_versions
from gradquake.study.study import open_study

# Sizes at which these six runs make three tasks: (1500, 1500), (2000), (2000, 20, 20).
RUNS = xor.sweep((1500, 2000, 20), 2, epochs=2, every=1)


class Counting:
    """``xor.measure``, with a list of the tasks it was given; it may stop after some of them."""

    def __init__(self, stop_after=None, error=KeyboardInterrupt):
        self.tasks = []
        self.stop_after = stop_after
        self.error = error

    def __call__(self, runs):
        if len(self.tasks) == self.stop_after:
            raise self.error
        self.tasks.append(list(runs))
        return xor.measure(runs)

    @property
    def runs(self):
        return [run for task in self.tasks for run in task]


def die_once(mark, runs):
    """``xor.measure`` whose first caller dies by SIGKILL."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return xor.measure(runs)
    return die(runs)


def die_of_the_third(runs):
    return die(runs) if RUNS[2] in runs else xor.measure(runs)


@pytest.fixture
def study(tmp_path):
    with open_study(tmp_path / "study.gq", create=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def expected():
    return to_dataset(xor.measure(RUNS))


@pytest.fixture(scope="module")
def pool():
    with open_executor(2) as opened:
        yield opened


def same(dataset, expected):
    """Whether two datasets are equal bit for bit (a flag reads back as 0 or 1)."""
    return dataset.equals(expected) and dataset.attrs == expected.attrs


# Any executor


def test_runs_are_measured_in_this_process_without_an_executor(study, expected):
    execute(study, xor.measure, RUNS)
    assert same(study.dataset, expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_give_the_same_bits(study, expected, threads):
    with ThreadPoolExecutor(threads) as executor:
        execute(study, xor.measure, RUNS, executor)
    assert same(study.dataset, expected)


def test_processes_give_the_same_bits(study, expected, pool):
    execute(study, xor.measure, RUNS, pool)
    assert same(study.dataset, expected)


def test_a_synthetic_sweep_runs_on_processes_too(study, pool):
    runs = [synthetic.SyntheticRun(n, seed, epochs=30) for n in (41, 8001) for seed in range(2)]
    execute(study, synthetic.measure, runs, pool)
    assert same(study.dataset, to_dataset(synthetic.measure(runs)))


def test_the_order_of_runs_does_not_matter(study, expected):
    execute(study, xor.measure, RUNS[::-1])
    assert same(study.dataset, expected)


# Only what is missing


def test_every_run_is_measured_once_in_tasks_of_several(study):
    measure = Counting()
    execute(study, measure, RUNS)
    assert measure.runs == RUNS
    assert [len(task) for task in measure.tasks] == [2, 1, 3]


def test_tasks_are_all_runs_in_order_and_no_larger_than_need_be():
    runs = xor.sweep((20, 500, 70, 5000, 1200), 6)
    groups = tasks(runs)
    assert [run for group in groups for run in group] == runs
    totals = [sum(run.n_parameters for run in group) for group in groups]
    # Only a run that is larger by itself makes a task larger.
    assert all(t <= PARAMETERS_A_TASK or len(g) == 1 for t, g in zip(totals, groups, strict=True))
    # Nothing that comes next would have found a place.
    for total, following in zip(totals, groups[1:], strict=False):
        assert total + following[0].n_parameters > PARAMETERS_A_TASK
    assert max(totals) > PARAMETERS_A_TASK
    assert max(map(len, groups)) > 1


def test_tasks_of_nothing_are_none():
    assert tasks([]) == []


def test_a_finished_sweep_is_not_measured_again(study, expected):
    execute(study, xor.measure, RUNS)
    measure = Counting()
    execute(study, measure, RUNS)
    assert measure.tasks == []
    assert same(study.dataset, expected)


@pytest.mark.parametrize("present", [[0], [1, 4], [0, 2, 3, 5]], ids=str)
def test_only_missing_runs_are_measured_and_give_the_same_bits(study, expected, present):
    study.write(xor.measure([RUNS[i] for i in present]))
    measure = Counting()
    execute(study, measure, RUNS)
    assert measure.runs == [run for i, run in enumerate(RUNS) if i not in present]
    assert same(study.dataset, expected)


def test_a_sweep_is_added_to_a_study_that_holds_another(study, expected):
    others = xor.sweep((20,), 2, epochs=2, every=1, alpha=0.2)
    execute(study, xor.measure, RUNS)
    execute(study, xor.measure, others)
    assert same(study.select(alpha=0.3), expected)
    assert same(study.select(alpha=0.2), to_dataset(xor.measure(others)))


def test_more_seeds_are_added_to_what_is_there(study):
    execute(study, xor.measure, xor.sweep((5, 20), 2, epochs=30))
    more, measure = xor.sweep((5, 20), 4, epochs=30), Counting()
    execute(study, measure, more)
    assert [run.seed for run in measure.runs] == [2, 3, 2, 3]
    assert same(study.dataset, to_dataset(xor.measure(more)))


def test_no_runs_are_no_work(study):
    execute(study, xor.measure, [])
    assert study.keys() == set()
    assert study.missing() == []


# Interruption


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("finished_tasks", [0, 1, 2])
def test_an_interruption_keeps_finished_tasks_and_is_resumed(study, expected, finished_tasks, error):
    first = Counting(finished_tasks, error)
    with pytest.raises(error):
        execute(study, first, RUNS)
    assert len(study.keys()) == len(first.runs)
    assert len(study.missing()) == len(RUNS) - len(first.runs)

    second = Counting()
    execute(study, second, RUNS)
    assert first.runs + second.runs == RUNS
    assert same(study.dataset, expected)
    assert study.missing() == []


def test_a_run_that_fails_stops_no_other_and_is_named(study, pool):
    runs = xor.sweep((5, 200), 2, epochs=30)
    diverging = xor.sweep((200,), 1, epochs=30, learning_rate=1e308, alpha_train=0)
    with pytest.raises(SweepError) as caught:
        execute(study, xor.measure, [*runs[:2], *diverging, *runs[2:]], pool)
    assert len(tasks([*runs[:2], *diverging])) == 1  # it failed in company
    [(config, error)] = caught.value.failures
    assert config == diverging[0].config()
    assert isinstance(error, InputError)
    message = str(caught.value)
    assert message.startswith("1 of 5 runs failed, each tried twice; the others are kept, and the same")
    assert re.search(r"again: xor N=801 hidden=200 seed=0: training diverged at epoch \d+", message)
    assert study.keys() == {config_key(run.config()) for run in runs}
    assert study.missing() == [diverging[0].config()]


class FailsAtFirst:
    """``xor.measure`` that fails on the first tasks, as where a disk or a network fails."""

    def __init__(self, failures):
        self.failures = failures
        self.tasks = []

    def __call__(self, runs):
        self.tasks.append(list(runs))
        if len(self.tasks) <= self.failures:
            raise OSError("the network is down")
        return xor.measure(runs)


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor(1)])
def test_what_failed_once_is_tried_again_run_by_run(study, expected, executor):
    measure = FailsAtFirst(2)
    execute(study, measure, RUNS, executor)
    assert [len(task) for task in measure.tasks] == [2, 1, 3, 1, 1, 1]
    assert same(study.dataset, expected)


def test_many_failures_are_counted_and_the_first_are_told(study):
    with pytest.raises(SweepError) as caught:
        execute(study, FailsAtFirst(100), RUNS)
    message = str(caught.value)
    assert message.startswith("6 of 6 runs failed")
    assert message.count("OSError: the network is down") == 3
    assert message.endswith("; and 3 more")
    assert len(caught.value.failures) == 6


def test_an_executor_that_is_shut_down_is_reported(study):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(GradquakeError, match=r"the workers are gone .* finished runs are kept"):
        execute(study, xor.measure, RUNS, executor)


def test_other_software_on_a_worker_is_refused():
    wanted = software_versions()
    assert _on_same_software(xor.measure, wanted, RUNS[:1])[0].key == config_key(RUNS[0].config())
    with pytest.raises(GradquakeError, match=r"has numpy .*, not 1\.0; install the same versions there"):
        _on_same_software(xor.measure, wanted | {"numpy": "1.0"}, RUNS)


def test_a_closed_study_is_refused_before_anything_is_measured(tmp_path):
    with open_study(tmp_path / "study.gq", create=True) as closed:
        pass
    measure = Counting()
    with pytest.raises(StudyError, match="closed"):
        execute(closed, measure, RUNS)
    assert measure.tasks == []


def test_a_killed_worker_costs_a_task_another_try(study, tmp_path, expected):
    with open_executor(2) as pool:
        execute(study, functools.partial(die_once, tmp_path / "died"), RUNS, pool)
    assert (tmp_path / "died").exists()
    assert same(study.dataset, expected)


def test_a_run_that_kills_its_workers_is_named_and_all_others_are_kept(study, expected):
    with open_executor(2) as pool, pytest.raises(SweepError) as caught:
        execute(study, die_of_the_third, RUNS, pool)
    message = str(caught.value)
    assert message.startswith("1 of 6 runs failed")
    assert "xor N=8001 hidden=2000 seed=0: a worker process died (killed, or out of memory)" in message
    assert [config for config, _ in caught.value.failures] == [RUNS[2].config()]
    assert len(study.keys()) == 5
    execute(study, xor.measure, RUNS)
    assert same(study.dataset, expected)


def test_an_interrupt_does_not_wait_for_the_workers():
    tasks = []

    def interrupted():
        with open_executor(2) as pool:
            tasks.extend([pool.submit(os.getpid), pool.submit(time.sleep, 600)])
            worker = tasks[0].result()
            assert is_running(worker)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert isinstance(tasks[1].exception(), WorkerDiedError)
    assert not is_running(tasks[0].result())


class Unpicklable:
    def __call__(self, _):
        return lambda: None


def test_what_cannot_be_sent_is_an_error_of_the_task():
    with open_executor(2) as pool:
        with pytest.raises(GradquakeError, match="a result cannot be sent"):
            list(each(Unpicklable(), [1], pool))
        with pytest.raises((AttributeError, pickle.PicklingError)):
            pool.submit(lambda: None).result()
        assert pool.submit(abs, -1).result() == 1


def test_a_second_sweep_on_a_study_is_refused(study):
    with sole_sweep(study), open_study(study.path) as other:
        with pytest.raises(StudyError, match=r"another process runs a sweep on .*study\.gq; wait until"):
            execute(other, xor.measure, RUNS)
        assert other.missing() == []
    execute(study, xor.measure, RUNS[:1])


# Progress


@pytest.mark.parametrize("present", [0, 1, 6])
def test_progress_adds_up_to_the_number_of_runs(study, present):
    if present:
        study.write(xor.measure(RUNS[:present]))
    seen = []
    execute(study, xor.measure, RUNS, progress=lambda *told: seen.append(told))
    assert seen[0] == ("measuring", present, len(RUNS))
    assert {(stage, of) for stage, _, of in seen} == {("measuring", len(RUNS))}
    assert sum(done for _, done, _ in seen) == len(RUNS)


def test_progress_is_told_after_the_runs_are_written(study):
    told = 0

    def check(_stage, count, _of):
        nonlocal told
        told += count
        with open_study(study.path) as reader:
            assert len(reader.keys()) == told

    execute(study, xor.measure, RUNS, progress=check)
    assert told == len(RUNS)


def test_progress_adds_up_on_processes(study, pool):
    seen = []
    execute(study, xor.measure, RUNS, pool, lambda *told: seen.append(told))
    assert sum(done for _, done, _ in seen) == len(RUNS)


# Pools


def test_one_job_needs_no_pool():
    with open_executor(1) as pool:
        assert pool is None


def test_workers_are_other_processes(pool):
    assert pool.submit(os.getpid).result() != os.getpid()


@pytest.mark.parametrize("jobs", [0, -1, 1.5, True])
def test_a_number_of_jobs_that_makes_no_sense_is_refused(jobs):
    message = rf"^jobs is {jobs!r}; an integer of at least 1 is needed$"
    with pytest.raises(InputError, match=message), open_executor(jobs):
        pass


def test_all_cores_are_used_by_default(monkeypatch):
    monkeypatch.setattr("gradquake.study.pools.available_cores", lambda: 1)
    with open_executor() as pool:
        assert pool is None


def test_jobs_beside_a_scheduler_are_refused():
    message = "^jobs and scheduler were both given; the cluster decides how many workers there are$"
    with pytest.raises(InputError, match=message), open_executor(2, "tcp://host:8786"):
        pass


def test_at_least_one_core_is_available():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


class Immediate(Executor):
    """Runs a task as it is submitted, so that all futures are done before any is looked at."""

    def submit(self, function, /, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def measure_but_the_last(runs):
    if runs[0].seed == 2:
        raise InputError("not this one")
    return xor.measure(runs)


def test_what_is_done_is_kept_whatever_failed_beside_it(tmp_path):
    runs = xor.sweep((2000,), 3, epochs=2, every=1)
    with open_study(tmp_path / "study.sqlite", create=True) as study:
        with pytest.raises(SweepError, match="not this one"):
            execute(study, measure_but_the_last, runs, Immediate())
        assert len(study.keys()) == 2


def test_a_run_given_twice_is_refused(tmp_path):
    runs = xor.sweep((3,), 1, epochs=2)
    with (
        open_study(tmp_path / "study.sqlite", create=True) as study,
        pytest.raises(InputError, match="a run is given twice"),
    ):
        execute(study, xor.measure, runs * 2)


COORDINATOR = """
import os, time
from gradquake.study.pools import open_executor

if __name__ == "__main__":
    with open_executor(2) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(60)
"""


def test_workers_end_with_a_killed_coordinator(tmp_path):
    script = tmp_path / "coordinator.py"
    script.write_text(COORDINATOR)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    process.kill()
    process.communicate()
    for _ in range(200):
        if not is_running(worker):
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its coordinator")


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_each_yields_in_order_here_and_on_a_pool():
    items = list(range(20))
    assert list(each(abs, items, None)) == items
    with open_executor(2) as pool:
        assert list(each(abs, items, pool)) == items
        assert list(each(unpacked(divmod), [(7, 2), (9, 4)], pool)) == [(3, 1), (2, 1)]


def test_each_says_that_a_worker_died():
    with open_executor(2) as pool, pytest.raises(GradquakeError, match="a worker process died"):
        list(each(die, [1, 2], pool))
