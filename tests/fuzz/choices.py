"""Bytes as a string of choices, so that a fuzzer that changes bytes changes decisions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

# Where counts, offsets and lengths go wrong.
EDGES = (0, 1, 2, 4, 127, 128, 255, 256, 4095, 4096, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)

TEXTS = (
    "", " ", "0", "1", "-1", "00", "1.5", "1e3", "1e999", "-0", "nan", "NaN", "inf", "-Infinity", "0x10",
    "1_000", "٣", "９", "9" * 25, "9" * 5000, "true", "null", '"', '"a"', "[", "[]", "[1, 2]", "{}",
    '{"a": 1}', '{"a": [{"b": null}]}', "[" * 9000, '{"a":' * 3000, '"\\ud800"', "\udcff", "é",
    "\U0001f30b", "\u202e", "\n", "\r\n", "\x1b[31m", "a b", "a=b", "=", "==", "%s", "{0}",
    "[red]", "[/]", "'", "`", ";", "--", "-", "*", "?", "[!a]", "**", ".", "~", "ring", "xor",
    "real", "x" * 300,
)  # fmt: skip


class Choices:
    """Decisions read off some bytes one after the other; once there are none left, the first option."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __repr__(self) -> str:
        return f"Choices({len(self._data) - self._at} bytes left)"

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """Return up to ``count`` bytes as they are."""
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def integer(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        width = ((high - low).bit_length() + 7) // 8
        return low + int.from_bytes(self.take(width), "little") % (high - low + 1)

    def flag(self, one_in: int = 2) -> bool:
        """Return whether something happens that does once in so many times, never without bytes."""
        return bool(self) and self.integer(0, 255) % one_in == one_in - 1

    def pick(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def text(self) -> str:
        if self.flag(3):
            return self.take(self.integer(0, 12)).decode("utf-8", "surrogateescape").replace("\0", "")
        return self.pick(TEXTS)

    def number(self) -> int:
        """Return an integer, of any size and sign."""
        kind = self.integer(0, 7)
        if kind < 5:
            return self.integer(-3, 60)
        edge = self.pick(EDGES) + self.integer(-2, 2)
        return (edge, -edge, edge * 2**64)[kind - 5]

    def anything(self, depth: int = 0) -> Any:
        """Return a value of any type that Python or NumPy has for such things."""
        kind = self.integer(0, 15 if depth < 3 else 9)
        if kind < 3:
            return self.number()
        if kind < 10:
            return (
                None,
                self.flag(),
                self.pick((0.0, 0.5, 1.0, -1.5, 7.0, 1e308, float("nan"), float("inf"), -0.0)),
                self.text(),
                self.take(4),
                complex(1, self.integer(0, 1)),
                self.scalar(),
            )[kind - 3]
        if kind < 12:
            return [self.anything(depth + 1) for _ in range(self.integer(0, 4))]
        if kind == 12:
            return tuple(self.anything(depth + 1) for _ in range(self.integer(0, 4)))
        if kind == 13:
            return {self.text(): self.anything(depth + 1) for _ in range(self.integer(0, 3))}
        return self.array()

    def scalar(self) -> np.generic:
        kind = self.pick(("i1", "u1", "i2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "?", "c8", "U3"))
        return np.array(self.integer(0, 120)).astype(kind)[()]

    def array(self) -> np.ndarray:
        kind = self.pick(
            ("i8", "i4", "u1", "i1", "u8", ">i4", "f4", "f8", "?", "O", "U2", "c8", "M8[s]")
        )
        shape = tuple(self.integer(0, 4) for _ in range(self.integer(0, 3)))
        values = np.array([self.integer(0, 9) for _ in range(int(np.prod(shape)))], np.int64)
        return values.reshape(shape).astype(kind)


def mutated(choices: Choices, content: bytes, words: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """Return some bytes changed in up to six places; ``words`` are pairs to replace one by the other."""
    changed = bytearray(content)
    for _ in range(choices.integer(0, 6)):
        _change(choices, changed, words)
    return bytes(changed)


def _change(choices: Choices, changed: bytearray, words: Sequence[tuple[bytes, bytes]]) -> None:
    size = len(changed)
    if size == 0:
        changed += choices.take(8)
        return
    at, kind = choices.integer(0, size - 1), choices.integer(0, 9)
    if kind < 3:
        changed[at] ^= 1 + choices.integer(0, 254)
    elif kind < 5:
        layout = choices.pick(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
        wide = 2 ** (8 * struct.calcsize(layout))
        data = struct.pack(layout, (choices.pick(EDGES) + choices.integer(-1, 1)) % wide)
        changed[at : at + len(data)] = data[: size - at]
    elif kind == 5:
        source, length = choices.integer(0, size - 1), choices.integer(1, 600)
        block = changed[source : source + length]
        changed[at : at + len(block)] = block[: size - at]
    elif kind == 6:
        del changed[at : at + choices.integer(1, 600)]
    elif kind == 7:
        changed[at:at] = choices.take(choices.integer(1, 8))
    elif kind == 8:
        if words:
            _replace(choices, changed, *choices.pick(words))
    else:
        del changed[at:]


def _replace(choices: Choices, changed: bytearray, old: bytes, new: bytes) -> None:
    """Replace one of the places of a word, whichever."""
    places = changed.count(old)
    if places:
        at = -1
        for _ in range(choices.integer(1, min(places, 40))):
            at = changed.find(old, at + 1)
        if at >= 0:
            changed[at : at + len(old)] = new
