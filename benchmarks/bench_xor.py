"""How much faster are the paper's 48 runs than a careful PyTorch and SciPy script on one core."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from peers import torch_run

OURS = (
    "from gradquake.experiments import xor; "
    "xor.measure(xor.sweep(xor.PAPER_HIDDEN, 6)[:24]); xor.measure(xor.sweep(xor.PAPER_HIDDEN, 6)[24:])"
)


def seconds(function, repeats=1):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def cold_process():
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        subprocess.run([sys.executable, "-c", OURS], check=True, env=environment)


def main():
    import torch

    from gradquake.execution import _tasks
    from gradquake.experiments import xor
    from gradquake.graphs import build

    torch.set_num_threads(1)
    runs = xor.sweep(xor.PAPER_HIDDEN, 6)
    tasks = _tasks(runs)
    [record] = xor.measure(runs[:1])

    def peer(run):
        return torch_run(
            run, xor.initial_parameters(run), build(run.topology, run.n_parameters, run.seed)
        )

    snapshots, grokking_epoch = peer(runs[0])
    agree = int((snapshots[:, 0] == record.values["size"]).sum())
    print(f"first run: {agree} of {record.epochs.size} snapshot sizes are equal to the peer's, ")
    print(f"and the grokking epoch, {record.grokking_epoch}: {grokking_epoch == record.grokking_epoch}")

    ours = seconds(lambda: [xor.measure(task) for task in tasks], 5)
    theirs = seconds(lambda: [peer(run) for run in runs])
    cold = seconds(cold_process, 3)
    print(f"peer                            {theirs:6.2f} s  ({theirs / len(runs):.2f} s a run)")
    print(f"gradquake, compiled             {ours:6.2f} s  {theirs / ours:5.1f} times faster")
    print(f"gradquake, new process, cold    {cold:6.2f} s  {theirs / cold:5.1f} times faster")


if __name__ == "__main__":
    main()
