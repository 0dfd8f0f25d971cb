"""The `gradquake` command: an interrupt gives one line and exit status 130, even during imports.

Nothing that takes long to load is imported before interrupts are handled.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

MESSAGE = "gradquake: interrupted; what was finished is kept, and the same command continues from there"

# The seconds after which an interrupt that came at a bad moment is raised again.
SOON = 0.01


def main() -> None:
    """Run the command line, as ``gradquake.cli.app.main`` does."""
    try:
        _main()
    except KeyboardInterrupt:
        _stop()


def _main() -> None:
    import signal

    # In the background of a shell, interrupts are ignored and stay so.
    handled = [signal.SIGINT] if signal.getsignal(signal.SIGINT) is signal.default_int_handler else []
    if handled:
        if hasattr(signal, "setitimer"):
            handled.append(signal.SIGALRM)
        for number in handled:
            signal.signal(number, _interrupt)
        sys.unraisablehook = _raise_ignored_interrupt
    from gradquake.cli.app import main as run

    try:
        run()
    finally:
        # The work is done: an interrupt must not disturb the end of the interpreter.
        for number in handled:
            signal.signal(number, signal.SIG_IGN)


def _interrupt(_: int, frame: "FrameType | None") -> None:
    """Raise KeyboardInterrupt, but not during an import, which may swallow it or break."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _interrupt_soon()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _raise_ignored_interrupt(unraisable: "sys.UnraisableHookArgs") -> None:
    """Raise an interrupt again if Python ignored it, as it does in finalizers and callbacks."""
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
    # A study is consistent at every moment, and workers end with this process. Only the cursor, which a
    # progress bar hides, must be shown again.
    shown = "\r\x1b[2K\x1b[?25h" if os.isatty(2) else ""
    os.write(2, f"{shown}{MESSAGE}\n".encode())
    os._exit(130)


if __name__ == "__main__":
    main()
