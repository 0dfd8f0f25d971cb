"""What is fuzzed: one function a surface, from bytes, that raises where gradquake does what it may not.

Each answers any input with a right result or with one sentence (a ``GradquakeError``; of the command
line an exit status), without a warning, in less than ten seconds and within a GiB. The bytes are a
string of choices (``choices.py``), so that these serve a fuzzer that is guided by coverage, the short
form in ``test_fuzz.py``, and inputs that once failed.
"""

from __future__ import annotations

from collections.abc import Callable

import command_line
import gradients
import networks
import studies
from choices import Choices
from oracle import in_time


def store(data: bytes) -> None:
    """Read a study file that is damaged or hostile."""
    in_time(lambda: _either(studies.damaged, studies.hostile, 4, data))


def shown(data: bytes) -> None:
    """Show a study that is odd or hostile by the commands that read it."""
    in_time(lambda: command_line.shown(Choices(data)))


def files(data: bytes) -> None:
    """Read gradient files, or checkpoints' differences, that are damaged or hostile."""
    in_time(lambda: _either(gradients.damaged, gradients.hostile, 2, data))


def graphs(data: bytes) -> None:
    """Make graphs of arguments of any type and value."""
    in_time(lambda: networks.made(Choices(data)))


def cli(data: bytes) -> None:
    """Call the command line with any arguments."""
    in_time(lambda: command_line.called(Choices(data)))


def _either(
    often: Callable[[Choices], None], sometimes: Callable[[Choices], None], one_in: int, data: bytes
) -> None:
    choices = Choices(data)
    (sometimes if choices.flag(one_in) else often)(choices)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "store": store,
    "shown": shown,
    "files": files,
    "graphs": graphs,
    "cli": cli,
}
