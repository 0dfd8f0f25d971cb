"""The command line on any arguments, in this process."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from choices import TEXTS, Choices
from oracle import check, scratch
from safetensors.numpy import save_file
from studies import wholes, write_hostile, write_odd

from gradquake.cli.app import app, main
from gradquake.study.recording import RunRecord
from gradquake.study.study import open_study

PATHS = (
    "live.gq", "several.gq", "wal.gq", "broken.gq", "empty", "text.txt", "folder", "pipe", "missing.gq",
    "missing/there.gq", "g1.npy", "g2.npy", "series", "g.npz", "g.safetensors", "g.pt", "ints.npz",
    "damaged.npz", "nothing.npy", ".", "out.gq", "out.png", "out", "folder/out.svg", "a.pdf", "x" * 300,
)  # fmt: skip

# What each command takes; "" is an argument.
OPTIONS = {
    "info": ("", "--json"),
    "measure": (
        "", "", "--differences", "--match", "--sample", "--graph", "--alpha", "--quantile",
        "--max-steps", "--seed", "--no-nulls", "--all-nulls", "--draws", "--out", "--label", "--label",
        "--json",
    ),
    "analyze": ("", "--where", "--where", "--nulls", "--sensitivity", "--statistic", "--json"),
    "watch": ("", "--interval", "--once"),
    "plot": ("", "--out", "--where", "--where"),
    "run": (
        "--out", "--hidden", "--seeds", "--epochs", "--learning-rate", "--alpha", "--alpha-train",
        "--quantile", "--max-steps", "--topology", "--topology-train", "--permute-train", "--task",
        "--every", "--jobs", "--scheduler",
    ),
    "reproduce": ("", "--out", "--seeds", "--quick", "--jobs", "--scheduler", "--json"),
}  # fmt: skip
FLAGS = (
    "--json", "--differences", "--no-nulls", "--all-nulls", "--nulls", "--sensitivity", "--once",
    "--permute-train", "--quick", "--version", "--help",
)  # fmt: skip
PAIRS = (
    "self=1", "alpha=0.2", "alpha=0.3", "topology=ring", "surrogate=real", "experiment=test", "seed=0",
    "run=1", "jobs=1", "out=1", "size=1", "lr=0.1", "n_parameters=41", "epoch=1", "hidden=5",
)  # fmt: skip

# What comes last counts: what would train for hours, wait for ever or ask the network is made small or
# refused, and so is what would draw a figure more often than the time allows.
LAST = {
    "run": ("--jobs", "1", "--hidden", "1", "--epochs", "2"),
    "reproduce": ("--seeds", "0"),
    "analyze": ("--jobs", "1"),
    "watch": ("--once",),
}


class Done(NamedTuple):
    """What a call of the command line left behind."""

    status: Any
    stdout: str
    stderr: str


@cache
def folder() -> Path:
    """Return a folder of studies and gradient files, good and bad."""
    made = scratch() / "cli"
    made.mkdir()
    rng = np.random.default_rng(0)
    for name, array in (("g1.npy", "f4"), ("g2.npy", "f8"), ("nothing.npy", "i8")):
        np.save(made / name, rng.standard_normal(21).astype(array))
    (made / "folder").mkdir()
    (made / "series").mkdir()
    for step in range(3):
        np.save(made / "series" / f"g{step}.npy", rng.standard_normal(17).astype("f4"))
    arrays = {"w": rng.standard_normal((3, 4)).astype("f4"), "b": np.ones(2, "f4")}
    np.savez(made / "g.npz", **arrays)
    np.savez(made / "ints.npz", **arrays, n=np.array(3))
    save_file(arrays, made / "g.safetensors")
    torch.save({"model": {name: torch.from_numpy(of) for name, of in arrays.items()}}, made / "g.pt")
    (made / "damaged.npz").write_bytes((made / "g.npz").read_bytes()[:-30])
    (made / "several.gq").write_bytes(wholes()[3].content)
    (made / "wal.gq").write_bytes(wholes()[-1].content)
    (made / "broken.gq").write_bytes(wholes()[3].content[:6000])
    (made / "empty").touch()
    (made / "text.txt").write_text("not a study")
    os.mkfifo(made / "pipe")
    settings = {"experiment": "xor", "task": "xor", "topology": "ring", "alpha": 0.3, "quantile": 0.9}
    settings |= {"max_steps": 20, "surrogate": "real"}
    with open_study(made / "live.gq", create=True) as study:
        for n in (41, 81):
            config = settings | {"n_parameters": n, "seed": 0, "labels": {"lr": 0.1, "of": "[red]a"}}
            values = {name: np.arange(1, 4) for name in ("size", "loss", "accuracy", "threshold")}
            study.write([RunRecord(config, None, np.arange(3), values)])
    return made


@cache
def _read_annotations() -> None:
    """Read the annotations of the commands once, which takes longer than most commands."""
    for command in (*app.registered_commands, app.registered_callback):
        function = command.callback
        function.__annotations__ = inspect.get_annotations(function, eval_str=True)


@cache
def _kept() -> dict[Path, tuple[bytes, float]]:
    files = [path for path in folder().rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def _tidy() -> None:
    """Put the folder back as it was."""
    kept = _kept()
    for path, (content, changed) in kept.items():
        if not path.is_file() or path.stat().st_mtime_ns != changed:
            shutil.rmtree(path, ignore_errors=True)
            path.write_bytes(content)
            os.utime(path, ns=(changed, changed))
    for within in (folder(), folder() / "folder", folder() / "series"):
        for path in within.iterdir():
            if path not in kept and path.name not in ("folder", "series", "pipe"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def call(arguments: list[str]) -> Done:
    """Call the command line in the folder, with streams like those of a terminal's."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    before = sys.argv
    status: Any = "nothing"
    folder(), _kept(), _read_annotations()
    try:
        sys.argv = ["gradquake", *arguments]
        with (
            contextlib.chdir(folder()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as stopped:
        status = stopped.code or 0
    finally:
        sys.argv = before
        if {"run", "plot", "--out"} & set(arguments):
            _tidy()
    return Done(status, *(_written(stream) for stream in (out, err)))


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()


def check_done(done: Done, arguments: list[str]) -> None:
    """Check a status, and that what went wrong is told in one line, or as usage."""
    check(done.status in (0, 1, 2), f"the status is {done.status!r}")
    check("Traceback" not in done.stdout + done.stderr, done.stderr)
    said = done.stderr.splitlines()
    if done.status == 0:
        check(not any(line.startswith("gradquake: ") for line in said), f"it failed with 0: {said}")
        if "--json" in arguments and "--help" not in arguments and "--version" not in arguments:
            json.loads(done.stdout, parse_constant=_no_constant)
        return
    words = ("Usage: ", " Error ─")  # in which usage is told
    usage = done.status == 2 and any(word in done.stdout + done.stderr for word in words)
    # Progress may stand before it.
    sentence = bool(said) and said[-1].startswith("gradquake: ") and len(said[-1]) > 15
    check(usage or sentence, f"it is not said what was wrong: {done}")
    lines = [line for line in said if line.startswith("gradquake: ")]
    check(usage or lines == said[-1:], f"it is not said in one line: {said}")


def _no_constant(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def called(choices: Choices) -> None:
    """Call the command line with arguments that are mostly its own."""
    arguments = drawn(choices)
    check_done(call(arguments), arguments)


# What reads a study; drawing and analyzing take longest.
READING = (
    ("info",), ("info",), ("info", "--json"), ("info", "--json"), ("watch", "--once"),
    ("watch", "--once"), ("watch", "--once"), ("plot", "--out", "out.png"), ("analyze", "--jobs", "1"),
    ("analyze", "--jobs", "1", "--json"),
)  # fmt: skip


def shown(choices: Choices) -> None:
    """Read an odd or hostile study by one of the commands."""
    command, *options = choices.pick(READING)
    write = write_hostile if choices.flag(4) else write_odd
    write(choices, folder() / "odd.gq")
    arguments = [command, "odd.gq", *options]
    try:
        done = call(arguments)
        check_done(done, arguments)
        for text in (done.stdout, done.stderr):
            raw = [c for c in text if not c.isprintable() and c != "\n"]
            check(not raw, f"raw control codes reach the terminal: {raw}")
    finally:
        _tidy()


def drawn(choices: Choices) -> list[str]:
    """Return arguments."""
    command = choices.pick(("info", "info", "measure", "measure", "measure", "analyze", "watch", "run",
                            "run", "reproduce", "", "plot"))  # fmt: skip
    if command == "plot" and not choices.flag(30):
        command = "measure"
    if not command:
        return safe([_word(choices) for _ in range(choices.integer(0, 3))])
    arguments = [command]
    if command == "run":
        arguments += ["xor"] if not choices.flag(16) else [_word(choices)]
    if command in ("info", "analyze", "watch", "plot", "measure") and not choices.flag(8):
        arguments.append(_path(choices))
    if command == "run" and not choices.flag(8):
        arguments += ["--out", choices.pick(("out.gq", _path(choices)))]
    options = OPTIONS[command]
    for _ in range(choices.integer(0, 4)):
        option = (
            choices.pick(options) if not choices.flag(16) else choices.pick((*FLAGS, _word(choices)))
        )
        arguments += [option] if option else []
        if option not in FLAGS:
            arguments.append(_value(choices, option))
    return safe(arguments)


def safe(arguments: list[str]) -> list[str]:
    """Return arguments that touch nothing outside the folder and are no lawful work of hours."""
    plain = [
        text.replace("/", "_") if text.startswith("/") or ".." in text else text for text in arguments
    ]
    plain = [text.replace("\0", "") for text in plain]
    named = [plain[0]] if plain and plain[0] in LAST else [text for text in plain if text in LAST]
    for command in named[:1]:
        plain += LAST[command]
    return plain


def _path(choices: Choices) -> str:
    return choices.pick(PATHS) if not choices.flag(8) else _word(choices)


def _word(choices: Choices) -> str:
    return choices.text().lstrip("/")


def _value(choices: Choices, option: str) -> str:
    if option in ("", "--out"):
        return _path(choices)
    if option in ("--where", "--label"):
        pair = choices.pick(PAIRS)
        name = pair.partition("=")[0] if choices.flag() else _word(choices)
        return pair if choices.flag(3) else f"{name}={_word(choices)}"
    if option in ("--draws", "--max-steps", "--seeds", "--every"):
        return choices.pick(("-1", "0", "1", "2", "3", "x", "1.5", "", "9" * 30))
    if option in ("--alpha", "--quantile", "--alpha-train", "--learning-rate"):
        return choices.pick(("0", "0.3", "0.9", "1", "-1", "nan", "inf", "1e308", "1e-320", "x", ""))
    if option.startswith(("--graph", "--topology")):
        return choices.pick(("ring", "computational", "random_regular", "erdos_renyi", *TEXTS[:9]))
    if option == "--task":
        return choices.pick(("xor", "and", "constant", "or", ""))
    return _word(choices)
