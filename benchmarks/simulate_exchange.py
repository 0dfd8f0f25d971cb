"""How much pieces of a gradient on many processes tell each other, counted, and against the formula.

Processes are threads here, and every number that one sends another is counted. The formula stands in
docs/scaling.md: of all shares, each of 4 + w bytes, those leave a process that go to another's nodes. On
a random graph that is (R - 1) / R of them; on a ring, 6 edges cross each of the R cuts.
"""

from __future__ import annotations

import argparse
import threading
from queue import Queue

import numpy as np

import gradquake as gq


class Counted:
    """An exchange of threads that counts the bytes of the arrays that leave."""

    def __init__(self, rank, size, queues):
        self.rank, self.size, self.queues = rank, size, queues
        self.shares = self.rounds = 0

    def alltoall(self, values):
        self.rounds += 1
        for r, value in enumerate(values):
            if r != self.rank and isinstance(value, list):
                chunks = [chunk for piece in value for chunk in piece]
                self.shares += sum(array.nbytes for chunk in chunks for array in chunk)
            self.queues[self.rank][r].put(value)
        return [self.queues[r][self.rank].get() for r in range(self.size)]

    def allgather(self, value):
        self.rounds += 1
        for r in range(self.size):
            self.queues[self.rank][r].put(value)
        return [self.queues[r][self.rank].get() for r in range(self.size)]


def simulate(topology, gradient, processes):
    queues = [[Queue() for _ in range(processes)] for _ in range(processes)]
    exchanges = [Counted(rank, processes, queues) for rank in range(processes)]
    pieces = np.array_split(gradient, processes)
    probe, found = gq.Probe(topology), [None] * processes

    def run(rank):
        found[rank] = probe.measure_pieces([pieces[rank]], exchange=exchanges[rank])

    running = [threading.Thread(target=run, args=(rank,)) for rank in range(processes)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    whole = probe.measure(gradient)
    assert found[0].size == whole.size
    assert found[0].deviation == whole.deviation
    return whole, sum(e.shares for e in exchanges), exchanges[0].rounds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=float, default=1e6)
    n = int(parser.parse_args().n)
    print(
        f"{'topology':<16}{'dtype':<9}{'R':>3}{'bytes sent':>13}{'formula':>13}{'ratio':>7}{'rounds':>8}"
    )
    for topology in ("random_regular", "barabasi_albert", "ring"):
        for dtype in (np.float32, np.float64):
            gradient = np.random.default_rng(0).standard_normal(n).astype(dtype)
            for processes in (2, 4, 8, 16):
                whole, sent, rounds = simulate(topology, gradient, processes)
                a_share = 4 + np.dtype(dtype).itemsize
                formula = 4 * whole.size * (processes - 1) / processes * a_share
                if topology == "ring":
                    # Each hands on a share whenever its node topples: s / N times a step and node.
                    formula = 6 * processes * whole.size / n * a_share
                print(
                    f"{topology:<16}{np.dtype(dtype).name:<9}{processes:>3}{sent:>13}{formula:>13.0f}"
                    f"{sent / formula:>7.2f}{rounds:>8}"
                )


if __name__ == "__main__":
    main()
