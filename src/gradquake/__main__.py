"""The `gradquake` command: an interrupt is one line and exit status 130, from the first import on.

Nothing that takes long to load is imported before interrupts are taken care of.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

MESSAGE = "gradquake: interrupted; what was finished is kept, and the same command continues from there"

# Seconds after which an interrupt that came at a bad moment is tried again.
SOON = 0.01


def main() -> None:
    """Run the command line, as ``gradquake.cli.app.main`` does."""
    try:
        _main()
    except KeyboardInterrupt:
        _stop()


def _main() -> None:
    import signal

    # Who started this in the background of a shell wants no interrupts.
    listened_to = (
        [signal.SIGINT] if signal.getsignal(signal.SIGINT) is signal.default_int_handler else []
    )
    if listened_to:
        if hasattr(signal, "setitimer"):
            listened_to.append(signal.SIGALRM)
        for number in listened_to:
            signal.signal(number, _interrupt)
        sys.unraisablehook = _raise_what_is_ignored
    from gradquake.cli.app import main as run

    try:
        run()
    finally:
        # All is done and said; what is left is the interpreter's own end.
        for number in listened_to:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(_: int, frame: "FrameType | None") -> None:
    """Raise KeyboardInterrupt; but after an import, which may swallow it or break by it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _interrupt_soon()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _raise_what_is_ignored(unraisable: "sys.UnraisableHookArgs") -> None:
    """Raise an interrupt again that Python ignores, as it does in finalizers and callbacks."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _interrupt_soon()
    else:
        sys.__unraisablehook__(unraisable)


def _interrupt_soon() -> None:
    import signal

    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, SOON)
    else:
        _stop()


def _stop() -> "NoReturn":
    # A study is whole at every moment, and workers end with this process: nothing is left to do but
    # to show the cursor again that a progress bar hides.
    shown = "\r\x1b[2K\x1b[?25h" if os.isatty(2) else ""
    os.write(2, f"{shown}{MESSAGE}\n".encode())
    os._exit(130)


if __name__ == "__main__":
    main()
