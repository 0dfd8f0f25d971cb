"""How near one cascade is to the time that its fewest bytes take at the machine's own copy bandwidth.

The fewest bytes of N entries of w bytes, s topplings and m shares: the threshold reads the gradient
(N w), the cascade reads it and writes the relaxed one (2 N w), a toppling reads where its row begins and
its neighbors (4 bytes each, where they are stored), a share is added to an entry (2 w), and the angle
reads both gradients (2 N w). Bandwidth is that of copying as many entries, each read and written once,
on as many threads.

Without arguments, all cases up to N = 10^8; ``--case TOPOLOGY N DTYPE THREADS`` measures one in a
process of its own, so that its memory can be told, and ``--largest`` those of N = 10^9.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import gradquake as gq
from gradquake.avalanche.probe import LARGE
from gradquake.avalanche.topologies import TOPOLOGIES

SIZES = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
LARGEST = [(topology, 10**9, "float32", 2) for topology in ("ring", "square_lattice", "random_regular")]


def best(function, repeats, calls=1):
    """Return the shortest time of a call: what disturbs a machine only ever adds to it."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        times.append((time.perf_counter() - start) / calls)
    return min(times)


def peak():
    """Return the most memory that this process had so far, the graph and all, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def normal(n, dtype):
    gradient, rng = np.empty(n, dtype), np.random.default_rng(0)
    for start in range(0, n, 10**7):
        part = gradient[start : start + 10**7]
        part[:] = rng.standard_normal(part.size, dtype=dtype)
    return gradient


def shares_of(gradient, graph, avalanche):
    """Count the shares of all topplings: the degrees of the nodes that topple, step by step."""
    if graph.is_computed:
        return 4 * avalanche.size
    degrees, state, shares, topplings = graph.degrees, gradient, 0, 0
    for _ in range(avalanche.duration):
        unstable = np.abs(state) > np.float64(avalanche.threshold)
        topplings += np.count_nonzero(unstable)
        shares += int(degrees[unstable].sum(dtype=np.int64))
        state = gq.relax(state, graph, threshold=avalanche.threshold, max_steps=1).relaxed
    assert topplings == avalanche.size
    return shares


def bandwidth(gradient, threads, calls):
    """Return how many bytes a second are read and written when a gradient is copied."""
    part = gradient[: 10**8]
    there = np.empty_like(part)
    ends = np.linspace(0, part.size, threads + 1).astype(int)

    def copy(i):
        np.copyto(there[ends[i] : ends[i + 1]], part[ends[i] : ends[i + 1]])

    with ThreadPoolExecutor(threads) as pool:
        once = (lambda: copy(0)) if threads == 1 else (lambda: list(pool.map(copy, range(threads))))
        return 2 * part.nbytes / best(once, 7, calls)


def measure(topology, n, dtype, threads, graph=None):
    start = time.perf_counter()
    graph = graph or gq.Probe(topology).graph_on(n)
    drawn = time.perf_counter() - start
    probe, gradient = gq.Probe(graph), normal(n, dtype)
    avalanche = probe.measure(gradient, threads=threads)
    calls = max(1, 2 * 10**5 // n)
    repeats = 1 if n > 10**8 else 3 if n > 10**7 else 7
    seconds = best(lambda: probe.measure(gradient, threads=threads), repeats, calls)
    most = peak()
    shares, width = shares_of(gradient, graph, avalanche), gradient.itemsize
    stored = 0 if graph.is_computed else 4
    fewest = 5 * n * width + stored * (avalanche.size + shares) + 2 * width * shares
    speed = bandwidth(gradient, threads, calls)
    return {
        "topology": topology, "n": n, "dtype": dtype, "threads": threads, "graph_s": drawn,
        "seconds": seconds, "bandwidth": speed, "over_floor": seconds * speed / fewest,
        "shares": shares / n, "bytes_a_parameter": most / n,
    }  # fmt: skip


def measure_all(topology, n):
    """Yield the cases of a graph that is drawn once."""
    graph = gq.topologies.build(topology, n, 0)
    for dtype in ("float32", "float64"):
        for threads in (1, 2) if n >= LARGE else (1,):
            yield measure(topology, n, dtype, threads, graph)


def in_a_process(*arguments):
    """Yield what this script prints, line by line, in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield from map(json.loads, process.stdout)
    assert process.returncode == 0


def cases(largest, topologies):
    if largest:
        for case in LARGEST:
            yield from in_a_process("--case", *case)
        return
    for topology in topologies:
        for n in SIZES:
            # A network has 4 h + 1 parameters.
            yield from in_a_process("--graph", topology, n // 4 * 4 + (topology == "computational"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("topologies", nargs="*", default=list(TOPOLOGIES))
    parser.add_argument("--case", nargs=4, metavar=("TOPOLOGY", "N", "DTYPE", "THREADS"))
    parser.add_argument("--graph", nargs=2, metavar=("TOPOLOGY", "N"))
    parser.add_argument("--largest", action="store_true", help="N = 10^9, which needs 20 GiB")
    options = parser.parse_args()
    if options.case:
        topology, n, dtype, threads = options.case
        print(json.dumps(measure(topology, int(float(n)), dtype, int(threads))))
        return
    if options.graph:
        for row in measure_all(options.graph[0], int(float(options.graph[1]))):
            print(json.dumps(row), flush=True)
        return
    print(
        "topology                  N dtype    threads        time   GB/s /floor shares/N bytes/N graph"
    )
    found = []
    for row in cases(options.largest, options.topologies):
        found.append(row)
        print(
            f"{row['topology']:<17}{row['n']:>10} {row['dtype']:<8} {row['threads']:>7} "
            f"{row['seconds'] * 1e3:>8.3f} ms {row['bandwidth'] / 1e9:>6.1f} {row['over_floor']:>6.1f} "
            f"{row['shares']:>8.2f} {row['bytes_a_parameter']:>7.1f} {row['graph_s']:.1f} s",
            flush=True,
        )
    if options.largest:
        return
    print("log-log slope of time against N, from 10^4 to 10^8:")
    for topology in options.topologies:
        for dtype in ("float32", "float64"):
            for threads in (1, 2):
                rows = [
                    (row["n"], row["seconds"])
                    for row in found
                    if (row["topology"], row["dtype"]) == (topology, dtype)
                    and row["n"] > 9_000
                    and row["threads"] == (threads if row["n"] >= LARGE else 1)
                ]
                slope = np.polyfit(*np.log(rows).T, 1)[0]
                print(f"  {topology:<17} {dtype:<8} {threads} {slope:.3f}")


if __name__ == "__main__":
    main()
