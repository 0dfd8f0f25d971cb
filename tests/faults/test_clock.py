"""A wall clock that jumps by days, back and forth, while a sweep runs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from small_sweep import COORDINATOR, FULL, KEYS, announced_by, check_whole, finished

from gradquake.study.study import open_study

# What Python loads as it starts, in the coordinator, the fork server and the workers.
PRELUDE = """
import datetime
import itertools
import time

DAY = 86_400
JUMPS = itertools.cycle([0, -3 * DAY, 40 * DAY, -400 * DAY, DAY])
real, real_ns, real_datetime = time.time, time.time_ns, datetime.datetime


class Jumping(real_datetime):
    @classmethod
    def now(cls, tz=None):
        return real_datetime.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return real_datetime.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)


time.time = lambda: real() + next(JUMPS)
time.time_ns = lambda: real_ns() + next(JUMPS) * 10**9
datetime.datetime = Jumping
"""
# The same of the C library's clock, which everything compiled asks: SQLite, and Python's own timers.
LIBRARY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static long jump(void) {
    static const long days[] = {0, -3, 40, -400, 1};
    static unsigned int calls;
    return 86400 * days[__sync_fetch_and_add(&calls, 1) % 5];
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (status == 0 && clock == CLOCK_REALTIME) now->tv_sec += jump();
    return status;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static int (*real)(struct timeval *restrict, void *restrict);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int status = real(now, zone);
    if (status == 0) now->tv_sec += jump();
    return status;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""
SHOW = "import datetime, time; print(*(time.time() for _ in range(5)), datetime.datetime.now())"


@pytest.fixture(params=["python", "library"])
def jumping(request, tmp_path):
    """The environment in which a process has a clock that jumps."""
    environment = dict(os.environ)
    compiler = shutil.which("cc")
    # Where there is no compiler, Python's clock jumps twice.
    if request.param == "python" or compiler is None or os.uname().sysname != "Linux":
        (tmp_path / "sitecustomize.py").write_text(PRELUDE)
        path = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    else:
        (tmp_path / "jumping.c").write_text(LIBRARY)
        library = tmp_path / "jumping.so"
        build = [compiler, "-shared", "-fPIC", "-o", library, tmp_path / "jumping.c", "-ldl"]
        subprocess.run(build, check=True)
        environment["LD_PRELOAD"] = str(library)
    return environment


@pytest.mark.parametrize("_", range(5 if FULL else 1))
def test_the_clock_is_of_no_account(_, jumping, undisturbed, tmp_path):
    shown = finished([*COORDINATOR[:1], "-c", SHOW], env=jumping).stdout.split()
    assert max(map(float, shown[:5])) - min(map(float, shown[:5])) > 86_400
    path = Path(tmp_path) / "study.sqlite"
    done = finished([*COORDINATOR, path], env=jumping)
    assert (done.returncode, done.stderr) == (0, "")
    assert announced_by(done.stdout) == set(KEYS)
    with open_study(path) as study:
        check_whole(study, undisturbed)
