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
from oracle import bounded


def store(data: bytes) -> None:
    """Read a study file that is damaged or hostile."""
    choices = Choices(data)
    with bounded():
        (studies.hostile if choices.flag(4) else studies.damaged)(choices)


def files(data: bytes) -> None:
    """Read gradient files, or checkpoints' differences, that are damaged or hostile."""
    choices = Choices(data)
    with bounded():
        (gradients.hostile if choices.flag() else gradients.damaged)(choices)


def graphs(data: bytes) -> None:
    """Make graphs of arguments of any type and value."""
    with bounded():
        networks.made(Choices(data))


def cli(data: bytes) -> None:
    """Call the command line with any arguments."""
    with bounded():
        command_line.called(Choices(data))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "store": store,
    "files": files,
    "graphs": graphs,
    "cli": cli,
}
