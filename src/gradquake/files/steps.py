"""The order of saved files: the step in each name, or the reason why no step can be read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from gradquake.files.formats import SUFFIXES, suffix_of

__all__ = ["HINT", "Order", "Reading", "in_order", "read_name"]

# Words that name a step, and their ranks. If a name has several, the lowest rank is the step.
RANKS = (
    dict.fromkeys(("step", "iter", "iteration", "itr", "update"), 0)
    | dict.fromkeys(("checkpoint", "ckpt", "chkpt"), 1)
    | dict.fromkeys(("epoch", "ep"), 2)
)
# These may end a longer word too, such as "globalstep".
ENDINGS = ("step", "iteration", "checkpoint", "ckpt", "epoch")

# Words whose number identifies a file, and never tells earlier from later.
IDENTITIES = frozenset(
    ("seed", "rank", "fold", "shard", "part", "layer", "worker", "gpu", "node", "v", "version", "run",
     "trial")
)  # fmt: skip

UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9}
NUMBER = re.compile(
    r"(?P<negative>(?<=[=_ -])-)?(?P<whole>[0-9]+)(?P<more>(?:\.[0-9]+)*(?:[eE][-+]?[0-9]+)?)"
    r"(?P<unit>[kKMB](?![A-Za-z0-9]))?(?P<of>-of-[0-9]+)?"
)
WORD = re.compile(r"([A-Za-z]+)([-_=. ]?)$")
HINT = "name the step, as in step=100"


@dataclass(frozen=True)
class Order:
    """Files in the order in which they are measured.

    Attributes
    ----------
    paths : tuple of Path
    steps : array of int64
        The step of each file, increasing.
    note : str
        How the order differs from the given one, or why the steps are counted; empty if neither.
    doubt : str
        Why the order in time is not known; empty if it is.
    """

    paths: tuple[Path, ...]
    steps: NDArray[np.int64] = field(repr=False)
    note: str = ""
    doubt: str = ""


@dataclass(frozen=True)
class Reading:
    """The numbers of one path that may be steps.

    Attributes
    ----------
    skeleton : tuple of str
        The parts of the path, the last one first. Each number in them is "#", unless it identifies the
        file.
    named : dict of (rank, word, occurrence from the end) to int
    bare : dict of (part, place in it) to int
    """

    skeleton: tuple[str, ...]
    named: dict[tuple[int, str, int], int]
    bare: dict[tuple[int, int], int]


def read_name(path: PurePath) -> Reading:
    """Return the numbers of a path that may be steps: not decimals, negative numbers or metrics."""
    name = path.name
    while (suffix := suffix_of(name)) in SUFFIXES:
        name = name[: -len(suffix)]
    skeleton, bare = [], {}
    named: dict[tuple[int, str, int], int] = {}
    seen: Counter[str] = Counter()
    for part, text in enumerate((name, *reversed(path.parts[:-1]))):
        pieces, end, words = [], 0, []
        for place, number in enumerate(NUMBER.finditer(text)):
            word, link = _word_before(text, number.start())
            key = next((e for e in ENDINGS if word.endswith(e)), word)
            value = int(number["whole"]) * UNITS[number["unit"] or ""]
            whole = not (number["negative"] or number["more"]) and value < 2**63
            identity = word in IDENTITIES or (number["of"] and key not in RANKS)
            # In checkpoint_1_500, for example, the word may belong to either number.
            two = RANKS.get(key) == 1 and re.match("[-_][0-9]+(?![0-9.])", text[number.end() :])
            if key in RANKS and whole and not two:
                words.append((key, value))
            elif whole and not identity and link != "=" and (word or link != "."):
                bare[part, place] = value
            pieces += [text[end : number.start()], number[0] if identity else "#"]
            end = number.end()
        for key, value in reversed(words):
            seen[key] += 1
            named[RANKS[key], key, seen[key]] = value
        skeleton.append("".join((*pieces, text[end:])))
    return Reading(tuple(skeleton), named, bare)


def _word_before(text: str, start: int) -> tuple[str, str]:
    """Return the word directly before a number, in the singular, and the character between them."""
    found = WORD.search(text[:start])
    if found is None:
        return "", text[:start][-1:]
    word = found[1].lower()
    return word[:-1] if word.endswith("s") and len(word) > 3 else word, found[2]


def in_order(paths: Sequence[Path], *, given: bool) -> Order:
    """Return files in the order of their steps.

    The step is a number that stands at the same place in all names, differs between them, and orders
    them. A number after a word such as ``step``, ``checkpoint`` or ``epoch`` comes before other numbers;
    if there are several such words, the first in this list counts. Folders are parts of a name.

    Parameters
    ----------
    paths : sequence of Path
    given : bool
        Whether a person gave the order of ``paths``. It is kept if no step can be read.
    """
    if len(paths) == 1:
        return _alone(paths[0])
    readings = [read_name(path) for path in paths]
    columns = _columns(readings)
    if not columns:
        return _unread(paths, readings, given=given)
    rows = list(zip(*(values for _, values in columns), strict=True))
    order = sorted(range(len(paths)), key=rows.__getitem__)
    ordered = tuple(paths[i] for i in order)
    rows = [rows[i] for i in order]
    for (before, after), (one, other) in zip(pairwise(ordered), pairwise(rows), strict=True):
        pair = f"{before} and {after}"
        if one == other:
            return _counted(paths, f"{pair} have the same step", doubt=True)
        if any(a > b for a, b in zip(one, other, strict=True)):
            return _counted(paths, f"the numbers in the names order {pair} both ways", doubt=True)
    moved = "" if ordered == tuple(paths) else "the files are in the order of their steps, not as given"
    unique = [
        (rank, values)
        for (rank, _), values in zip(columns, zip(*rows, strict=True), strict=True)
        if len(set(values)) == len(values)
    ]
    lowest = min((rank for rank, _ in unique), default=0)
    readable = {values for rank, values in unique if rank == lowest}
    if len(readable) == 1:
        return Order(ordered, np.array(readable.pop(), np.int64), moved)
    reason = (
        "several numbers in the names could be the step" if unique else "no number alone is the step"
    )
    return _counted(ordered, "; ".join(filter(None, (moved, reason))))


def _alone(path: Path) -> Order:
    """Return the order of one file. Its step is the named number, or the only number in its name."""
    reading = read_name(path)
    numbers = [value for (part, _), value in reading.bare.items() if part == 0]
    if reading.named:
        numbers = [reading.named[min(reading.named)]]
    if len(numbers) > 1:
        return _counted([path], f"several numbers in the name could be the step; {HINT}")
    return Order((path,), np.array(numbers or [0], np.int64))


def _columns(readings: Sequence[Reading]) -> list[tuple[int, tuple[int, ...]]]:
    """Return the ranks and values of the numbers that differ between the names.

    These are the named numbers, or the others if no name has a named one.
    """
    if any(reading.named for reading in readings):
        shared = set.intersection(*(set(reading.named) for reading in readings))
        found = [(key[0], tuple(r.named[key] for r in readings)) for key in sorted(shared)]
        found = [(rank, values) for rank, values in found if len(set(values)) > 1]
        if found or not all(reading.named for reading in readings):
            return found
    if len({reading.skeleton for reading in readings}) > 1:
        return []
    bare = [tuple(reading.bare.get(key, -1) for reading in readings) for key in readings[0].bare]
    return [(0, values) for values in bare if len(set(values)) > 1 and -1 not in values]


def _unread(paths: Sequence[Path], readings: Sequence[Reading], *, given: bool) -> Order:
    """Return files in the order given, unless the numbers in some of the names contradict it."""
    named = [reading.named for reading in readings]
    if named[0] and all(one == named[0] for one in named):
        return _counted(paths, f"{paths[0]} and {paths[1]} have the same step", doubt=True)
    alike: dict[object, list[Path]] = {}
    for path, reading in zip(paths, readings, strict=True):
        where = reading.skeleton, frozenset(reading.named), frozenset(reading.bare)
        alike.setdefault(where, []).append(path)
    for group in alike.values() if len(alike) > 1 else ():
        found = in_order(group, given=True)
        if found.doubt or found.paths != tuple(group):
            reason = f"only some names hold a step, and {group[0]} and {group[1]} are not in its order"
            return _counted(paths, reason, doubt=True)
    return _counted(paths, "no step can be read from the names", doubt=not given)


def _counted(paths: Sequence[Path], reason: str, *, doubt: bool = False) -> Order:
    note = f"{reason}; steps are counted 0, 1, ..."
    return Order(tuple(paths), np.arange(len(paths)), note, reason if doubt else "")
