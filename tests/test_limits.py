"""Measurements in a process that the system gives few threads or little memory."""

import hashlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from gradquake import Probe
from gradquake.avalanche._kernels_angle import BLOCK

# What both processes measure, and a limit on the memory from then on.
MEASURE = """
import hashlib, resource, sys, threading
import numpy as np
from gradquake import GradquakeError, Probe

def limit(more):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)

def told(avalanche):
    return avalanche.size, hashlib.sha256(avalanche.relaxed.tobytes()).hexdigest()
"""


def vector(n):
    return np.random.default_rng(0).standard_normal(n)


def told(avalanche):
    return avalanche.size, hashlib.sha256(avalanche.relaxed.tobytes()).hexdigest()


def process(code):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE + code], check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


@pytest.fixture
def no_more_threads():
    # No system has room for a stack of 64 TiB.
    before = threading.stack_size(1 << 46)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        threading.Thread(target=print).start()
    yield
    threading.stack_size(before)


@pytest.mark.usefixtures("no_more_threads")
def test_without_another_thread_a_measurement_is_the_same():
    gradient, probe = vector(3 * BLOCK), Probe("ring")
    whole = probe.measure_pieces([gradient], threads=1)
    assert told(probe.measure_pieces([gradient], threads=4)) == told(whole)
    rows = gradient.reshape(3, -1)
    batch, alone = (probe.measure_batch(rows, threads=threads) for threads in (4, 1))
    assert batch.size.tolist() == alone.size.tolist()
    assert batch.relaxed.tobytes() == alone.relaxed.tobytes()


def test_with_fewer_threads_than_asked_for_a_measurement_is_the_same():
    code = f"""
gradient = np.random.default_rng(0).standard_normal({3 * BLOCK})
probe = Probe("ring")
probe.measure_pieces([gradient], threads=1)
# Three stacks fit, and what else threads need.
threading.stack_size(512 << 20)
limit((3 * 512 + 450) << 20)
print(*told(probe.measure_pieces([gradient], threads=16)))
print(*told(probe.measure_batch(gradient.reshape(3, -1), threads=16)[2]))
"""
    gradient, probe = vector(3 * BLOCK), Probe("ring")
    first, second = process(code)
    assert first.split() == list(map(str, told(probe.measure(gradient))))
    assert second.split() == list(map(str, told(probe.measure(gradient[2 * BLOCK :]))))


def test_too_little_memory_is_told_in_a_sentence():
    code = """
gradient = np.ones(1 << 22, np.float32)
probe = Probe("ring")
probe.measure_pieces([gradient[:100]], threads=1)
limit(10 << 20)
one, two = [gradient], [gradient, gradient]
calls = [(probe.measure, gradient), (probe.measure_batch, two), (probe.measure_pieces, one)]
for measure, given in calls:
    try:
        measure(given)
    except GradquakeError as error:
        print(isinstance(error, MemoryError), error)
"""
    advice = "; free some memory, or measure fewer entries"
    assert process(code) == [
        f"True there is not enough memory to measure {what}{advice}"
        for what in ("a gradient of 4194304 entries", "the batch", "a gradient in 1 piece")
    ]
