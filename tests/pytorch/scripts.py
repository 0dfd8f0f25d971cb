"""Scripts that train in a process of their own."""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = """
import gc, multiprocessing, os, signal, sqlite3, sys, threading, time
import torch, gradquake.torch as gqt
from gradquake.torch import journal
# A shell starts the jobs in its background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
journal.FLUSH_EVERY = {every}
path = {path!r}
torch.set_num_threads(1)
def begin(name, width=2, **options):
    model = torch.nn.Linear(4, width)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options = dict(every=1, study=path, labels=dict(name=name)) | options
    return optimizer, gqt.attach(model, optimizer, **options)
"""


def script(body, path, every=60.0):
    """Return a script that calls ``begin`` for a probe of a study."""
    return SCRIPT.format(path=str(path), every=every) + body


# Reads lists of scripts, runs those of a list at once, each in a child, and writes their exit codes.
# To import torch takes seconds: a child has it from the start. Its script is the rest of the main
# module, so the child ends as any interpreter does.
SERVER = """
import json, os, signal, sys
import numba, torch, torch._dynamo, torch.distributed, xarray
for line in sys.stdin:
    children = []
    for code, out, err in json.loads(line):
        children.append(os.fork())
        if not children[-1]:
            break
    if not children[-1]:
        break
    ends = [os.waitpid(child, 0)[1] for child in children]
    print(json.dumps([os.waitstatus_to_exitcode(end) for end in ends]), flush=True)
else:
    sys.exit()
signal.alarm(120)
for file, flags, path in ((0, os.O_RDONLY, os.devnull), (1, os.O_WRONLY, out), (2, os.O_WRONLY, err)):
    os.dup2(os.open(path, flags), file)
sys.stdin = open(0, closefd=False)
exec(code)
"""


@functools.cache
def _server():
    # Libraries that begin threads when they are imported begin none: a fork would not copy them.
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SERVER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=alone,
    )  # fmt: skip
    atexit.register(server.communicate)
    return server


def run_at_once(codes):
    """Run scripts at once, each in a process; return what each printed."""
    server = _server()
    with tempfile.TemporaryDirectory() as folder:
        files = [(Path(folder) / f"out{k}", Path(folder) / f"err{k}") for k in range(len(codes))]
        for path in (path for pair in files for path in pair):
            path.touch()
        asked = [(code, *map(str, pair)) for code, pair in zip(codes, files, strict=True)]
        print(json.dumps(asked), file=server.stdin, flush=True)
        ends = json.loads(server.stdout.readline())
        done = [
            subprocess.CompletedProcess("", end, out.read_text(), err.read_text())
            for end, (out, err) in zip(ends, files, strict=True)
        ]
    for one in done:
        assert one.returncode == 0, one.stderr
    return done


def run_script(body, path, every=60.0):
    """Run a script that calls ``begin`` for a probe of a study; return what it printed."""
    return run_at_once([script(body, path, every)])[0]
