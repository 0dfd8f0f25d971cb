"""How much processes that share a gradient tell each other, counted, and against the cost model.

Processes are threads here, and every number that one sends another is counted. The model, which stands
in docs/scaling.md too, is then asked what 10^12 parameters on 1,000 processes take.
"""

from __future__ import annotations

import argparse
import threading

import numpy as np

import gradquake as gq
from gradquake.avalanche._kernels_angle import BLOCK
from gradquake.avalanche.collective import BITS

COUNTS = 8 << BITS
TOPOLOGIES = ("random_regular", "barabasi_albert", "ring")


class Counted:
    """The exchange of one of several threads, which counts what it sends to the others."""

    def __init__(self, rank, size, table, barrier):
        self.rank, self.size, self.table, self.barrier = rank, size, table, barrier
        self.rounds = self.shares = self.counts = self.blocks = 0

    def alltoall(self, values):
        self.rounds += 1
        sent = [value for r, value in enumerate(values) if r != self.rank and value is not None]
        if isinstance(values[0], np.ndarray):
            self.counts += sum(stretch.nbytes for stretch in sent)
        elif any(isinstance(value, tuple) for value in sent):
            self.blocks += sum(array.nbytes for ends in sent for array in ends)
        else:
            self.shares += sum(array.nbytes for gifts in sent for gift in gifts for array in gift)
        return self._swapped(values)

    def allgather(self, value):
        self.rounds += 1
        if isinstance(value, np.ndarray):
            self.counts += (self.size - 1) * value.nbytes
        return self._swapped([value] * self.size)

    def _swapped(self, values):
        self.table[self.rank] = values
        self.barrier.wait()
        received = [of[self.rank] for of in self.table]
        self.barrier.wait()
        return received


def simulate(topology, gradient, processes):
    """Return the avalanche of the whole, and the mean over processes of what each sent."""
    table, barrier = [None] * processes, threading.Barrier(processes)
    exchanges = [Counted(rank, processes, table, barrier) for rank in range(processes)]
    pieces = np.array_split(gradient, processes)
    probe, found = gq.Probe(topology), [None] * processes
    whole = probe.measure(gradient)

    def run(rank):
        found[rank] = probe.measure_pieces([pieces[rank]], exchange=exchanges[rank])

    running = [threading.Thread(target=run, args=(rank,)) for rank in range(processes)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for one in found:
        assert (one.size, one.deviation, one.threshold) == (
            whole.size,
            whole.deviation,
            whole.threshold,
        )
    assert np.concatenate([one.relaxed for one in found]).tobytes() == whole.relaxed.tobytes()
    kinds = ("shares", "counts", "blocks", "rounds")
    return whole, {kind: np.mean([getattr(e, kind) for e in exchanges]) for kind in kinds}


def model(topology, n, processes, width, size, duration):
    """Return what a process sends on average, in bytes, and how often all talk to all."""
    away = (processes - 1) / processes
    shares = 4 * size / processes * away
    if topology == "ring":
        # Six edges cross a cut; each hands on two shares whenever its nodes topple, s / N times.
        shares = min(shares, 6 * size / n)
    # Sixteen bits of the magnitudes at a time, of an order statistic and the next. These differ by about
    # 1 / n, and are looked for apart from the bits on in which they do.
    levels = 8 * width // BITS
    alike = {4: 9, 8: 12}[width] + int(np.log2(n))
    descents = levels + max(levels - 1 - alike // BITS, 0)
    # Half a block, before and after, unless the process has less.
    block = min(BLOCK / 2, n / processes) * 2 * width
    return {
        "shares": shares * (4 + width),
        # All counts are added up in stretches, and these told.
        "counts": descents * 2 * away * COUNTS,
        "blocks": block * away,
        # A step: how many topple, and their shares. Beside them: what all have, who is finite, the sums.
        "rounds": 2 * duration + 2 * descents + ROUNDS_ELSE,
    }


# To begin with, one for the first count of topplings, and four for the angle.
ROUNDS_ELSE = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=float, default=1e6)
    parser.add_argument("--processes", default="2,16,128,1000")
    options = parser.parse_args()
    n = int(options.n)
    print(f"{'topology':<16}{'dtype':<8}{'R':>5}   sent by a process, counted / by the model")
    for topology in TOPOLOGIES:
        for dtype in (np.float32, np.float64):
            gradient = np.random.default_rng(0).standard_normal(n).astype(dtype)
            for processes in map(int, options.processes.split(",")):
                whole, sent = simulate(topology, gradient, processes)
                width = gradient.itemsize
                expected = model(topology, n, processes, width, whole.size, whole.duration)
                print(
                    f"{topology:<16}{np.dtype(dtype).name:<8}{processes:>5}   "
                    + "  ".join(f"{kind} {sent[kind]:.0f} / {expected[kind]:.0f}" for kind in sent),
                    flush=True,
                )
    for dtype in ("float32", "float64"):
        gradient = np.random.default_rng(0).standard_normal(n).astype(dtype)
        whole = gq.Probe("random_regular").measure(gradient)
        # A cascade of so many more nodes takes a few steps more.
        size, duration = whole.size / n * 1e12, whole.duration + 4
        sent = model("random_regular", 1e12, 1000, gradient.itemsize, size, duration)
        print(f"10^12 parameters in {dtype} on 1,000 processes, {duration} steps, random_regular:", sent)


if __name__ == "__main__":
    main()
