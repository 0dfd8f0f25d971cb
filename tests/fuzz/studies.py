"""Damaged study files, and study files that somebody made to mislead."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from choices import TEXTS, Choices, mutated
from oracle import check, check_sentence, scratch

from gradquake.errors import GradquakeError, StudyError
from gradquake.study.recording import VARIABLES, RunRecord, stored_type
from gradquake.study.study import Study, open_study
from gradquake.study.wide import WIDE

SETTINGS = {"experiment": "test", "alpha": 0.3, "topology": "ring", "surrogate": "real"}

# Words of the schema and of JSON, each with a replacement of the same length.
WORDS = tuple(
    (old.encode(), new.encode())
    for old, new in (
        ("runs", "runs"), ("runs", "plan"), ("measurements", "measurementz"), ("planned", "runs   "),
        ("unfinished", "snapshots "), ("snapshots", "snapshotz"), ("tallies", "tollies"), ("key", "kez"),
        ("key", "id "), ("TEXT", "BLOB"), ("TEXT", "REAL"), ("INTEGER", "NUMERIC"),
        ("INTEGER", "TEXT   "), ("BLOB", "TEXT"), ("checksum", "checksun"),
        ("WITHOUT ROWID", "             "), ("TABLE", "INDEX"),
        ("table", "view "), ("table", "index"), ("trigger", "table  "), ("CREATE TABLE", "CREATE VIEW "),
        ("NOT NULL", "        "), ("UNIQUE", "CHECK "), ("PRIMARY", "       "), ("rows", "rowz"),
        ("AFTER INSERT", "AFTER DELETE"), ('"seed"', '"seee"'), ("n_parameters", "m_parameters"),
        ("epoch", "epocx"), ("size", "sizf"), ("ring", "rinj"), ("null", "true"),
    )
)  # fmt: skip


class Whole(NamedTuple):
    """A sound study, and its contents as text."""

    content: bytes
    page: int
    reading: str


@cache
def wholes() -> tuple[Whole, ...]:
    """Return small studies of several kinds, with write-ahead logging and without."""
    made = (_planned, _finished, _unfinished, _all_of_it, Study.keys)  # the last writes nothing
    found = [_whole(write, 4096, "DELETE") for write in made]
    return (*found, _whole(_all_of_it, 512, "DELETE"), _whole(_all_of_it, 4096, "WAL"))


def _whole(write: Callable[[Study], Any], page: int, journal: str) -> Whole:
    path = scratch() / "whole.gq"
    path.unlink(missing_ok=True)
    with open_study(path, create=True) as study:
        write(study)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        # Tokens are random; the bytes have to be the same every time.
        ids = connection.execute("SELECT id FROM unfinished ORDER BY key").fetchall()
        for new, (old,) in enumerate(ids, 10**17):
            connection.execute("UPDATE snapshots SET run = ? WHERE run = ?", (new, old))
            connection.execute("UPDATE unfinished SET id = ? WHERE id = ?", (new, old))
        connection.commit()
        connection.execute(f"PRAGMA page_size = {page}")
        connection.execute("VACUUM")
        connection.execute(f"PRAGMA journal_mode = {journal}")
    with open_study(path) as study:
        reading = _reading(study)
    return Whole(path.read_bytes(), page, reading)


def _record(n: int, seed: int, **more: Any) -> RunRecord:
    rng = np.random.default_rng((n, seed))
    values = {
        name: np.frombuffer(rng.bytes(np.dtype(kind).itemsize * 4), kind)
        for name, (kind, _) in VARIABLES.items()
    }
    config = SETTINGS | {"n_parameters": n, "seed": seed} | more
    return RunRecord(config, seed or None, np.arange(4) * 10, values)


def _planned(study: Study) -> None:
    study.plan([_record(41, seed).config for seed in range(3)])


def _finished(study: Study) -> None:
    study.write([_record(n, seed) for n in (41, 81) for seed in range(2)])


def _unfinished(study: Study) -> None:
    configs = [_record(41, seed, labels={"lr": 0.1, "of": "a"}).config for seed in range(2)]
    begun = study.begin(configs)
    for step in range(3):
        study.append({run: {step: {"size": step, "loss": 0.5, "extra": 1.5}} for run in begun}, step)


def _all_of_it(study: Study) -> None:
    for write in (_planned, _finished, _unfinished):
        write(study)
    study.write([_record(41, seed, alpha=0.2, labels={"lr": seed}) for seed in range(3)])


def _reading(study: Study) -> str:
    """Return everything in a study but its datasets, as text."""
    records = [_text(record) for record in (*study.records(), *study.unfinished())]
    return repr((sorted(study.keys()), study.missing(), study.contents(), records))


def _text(record: RunRecord) -> str:
    values = {name: (of.dtype.str, of.tobytes()) for name, of in sorted(record.values.items())}
    return repr((record.key, record.grokking_epoch, record.epochs.tolist(), values))


def read(content: bytes, *, datasets: bool = False) -> str | None:
    """Return the contents of a study file, as text, or None if it is refused."""
    path = scratch() / "study.gq"
    path.write_bytes(content)
    try:
        with open_study(path) as study:
            if datasets:
                _read_datasets(study)
            reading = _reading(study)
    except StudyError as error:
        check_sentence(error)
        check(str(path) in str(error), f"the file is not named: {error}")
        return None
    finally:
        if 2 in content[18:20]:  # write-ahead logging, whose files a damaged study may leave behind
            for beside in ("-wal", "-shm"):
                Path(f"{path}{beside}").unlink(missing_ok=True)
    return reading


def _read_datasets(study: Study) -> None:
    check(len(study.sweeps) <= len(study.contents()), "there are more sweeps than there are")
    for choose in (study.select, study.with_nulls):
        with contextlib.suppress(GradquakeError):  # none or several
            choose()
    for settings in study.sweeps:
        dataset = study.select(**settings)
        check(dataset.sizes["run"] <= len(study.keys()), "a dataset has more runs than there are")


def damaged(choices: Choices) -> None:
    """Read a study in which bytes were changed: it reads as it was, or not at all."""
    whole = choices.pick(wholes())
    pages = bytearray(whole.content)
    for _ in range(choices.integer(0, 3)):
        _change_page(choices, pages, whole.page)
    content = mutated(choices, bytes(pages), WORDS)
    reading = read(content, datasets=choices.flag(32))
    if content == whole.content:
        check(reading == whole.reading, "a whole study is not read")
    check(reading in (None, whole.reading), f"damage is not noticed: {reading}")


def _change_page(choices: Choices, content: bytearray, page: int) -> None:
    count = len(content) // page
    start, other = (page * choices.integer(0, count - 1) for _ in range(2))
    header = start + (100 if start == 0 else 0)
    kind = choices.integer(0, 6)
    if kind == 0:
        content[start : start + page] = content[other : other + page]
    elif kind == 1:
        here = content[start : start + page]
        content[start : start + page] = content[other : other + page]
        content[other : other + page] = here
    elif kind == 2:
        content[header] = choices.pick((2, 5, 10, 13, 0))
    elif kind == 3:  # the page's own numbers: free block, cells, where they start, fragments, child
        at = header + choices.integer(1, 11)
        content[at : at + 2] = choices.integer(0, 65535).to_bytes(2, "big")
    elif kind == 4:  # where a cell is
        at = header + 8 + 2 * choices.integer(0, 12)
        content[at : at + 2] = choices.integer(0, page).to_bytes(2, "big")
    elif kind == 5:  # a cell's lengths and types
        cell = header + 8 + 2 * choices.integer(0, 6)
        at = start + int.from_bytes(content[cell : cell + 2], "big") + choices.integer(0, 12)
        data = choices.take(choices.integer(1, 9))
        if at + len(data) <= len(content):
            content[at : at + len(data)] = data
    else:  # the file's own numbers
        content[16 + choices.integer(0, 83)] = choices.integer(0, 255)


HOSTILE_KEYS = (
    "", "x", "[]", "{}", "null", "7", '"text"', "[" * 9000, '{"a":' * 9000, "9" * 5000, "NaN", "\ud7ff",
    b"{}", b"\xff\xfe", None, 7, 1.5, '{"n_parameters": 5}', '{"seed": 1}',
)  # fmt: skip
HOSTILE_VALUES = (
    None, True, -1, 0, 2**31, 2**63, 10**400, 1.5, float("nan"), float("inf"), "", "41", "\udcff", [],
    [1], {}, {"a": 1}, {"a": [1]}, {"a": None}, {"size": 1}, {"epoch": "x"}, "\x1b[31m\n",
)  # fmt: skip


def hostile(choices: Choices) -> None:
    """Read a study with rows that gradquake would not write, and with the right checksums."""
    path = scratch() / "hostile.gq"
    write_hostile(choices, path)
    read(path.read_bytes(), datasets=choices.flag(6))


def write_hostile(choices: Choices, path: Path) -> None:
    """Write such a study."""
    path.write_bytes(choices.pick(wholes()[:5]).content)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("BEGIN")
        with contextlib.suppress(sqlite3.Error, UnicodeEncodeError, OverflowError):
            for _ in range(choices.integer(0, 3)):
                choices.pick((_plan, _finish, _leave_unfinished))(choices, connection)
            if choices.flag(4):
                _reshape(choices, connection)
        connection.execute("COMMIT")


# Settings, labels and measurements that people may have.
ODD = (
    None, True, 0, -1, 2**62, 2**70, 0.3, float("nan"), float("inf"), "", "a", "[red]", "\x1b]0;x\x07",
    "\u202e", "$x", ["a", 1], [], {"a": None}, ":bomb:", "a\nb",
)  # fmt: skip
EPOCHS = ((), (0,), (0, 10, 20), (0, 10, 20), (0, 10, 20), (-5, 7), (1, 2**62, 2**63 - 1))
MEASURED = {
    "b": (0, 1),
    "i": (0, 1, 7, 7, 7, 41, 2**62, -1),
    "f": (0, 1, 0.5, 1e308, float("nan"), float("inf"), -1),
}


def write_odd(choices: Choices, path: Path) -> None:
    """Write a study as gradquake does, with odd runs; some are refused."""
    path.unlink(missing_ok=True)
    shared = {choices.pick(("experiment", "surrogate", "alpha", "max_steps", "every", "lr", "topology"))
              for _ in range(choices.integer(0, 2))}  # fmt: skip
    odd = {name: choices.pick(ODD) for name in sorted(shared)}
    plain = {"quantile": 0.9, "max_steps": 20, "experiment": choices.pick(("attached", "test", "xor"))}
    with open_study(path, create=True) as study:
        for _ in range(choices.integer(1, 3)):
            epochs, mode = choices.pick(EPOCHS), choices.pick(("written", "finished", "unfinished"))
            names = sorted({choices.pick((*VARIABLES, "lr")) for _ in range(3)})
            names += ["size"] if not choices.flag(4) and "size" not in names else []
            for n in (41, 81, 161)[: choices.pick((3, 3, 1, 2))]:
                for rung in ("real", "gaussian", "permuted")[: choices.pick((3, 3, 1, 2))]:
                    config = SETTINGS | plain | {"n_parameters": n, "seed": 0, "surrogate": rung} | odd
                    if choices.flag(3):
                        name = choices.pick(("seed", "n_parameters", "labels", "hidden", "surrogate"))
                        config[name] = choices.pick((*ODD, {"lab": choices.pick(ODD)}))
                    if choices.flag(6):
                        del config[choices.pick(tuple(config))]
                    _write_odd(choices, study, mode, config, epochs, names)


def _write_odd(
    choices: Choices,
    study: Study,
    mode: str,
    config: Any,
    epochs: tuple[int, ...],
    names: list[str],
) -> None:
    kinds = {name: np.dtype(stored_type(name)).kind for name in names}
    values = {name: [choices.pick(MEASURED[kinds[name]]) for _ in epochs] for name in names}
    if choices.flag(6):
        values[choices.pick(tuple(values))] = [choices.pick(ODD) for _ in epochs]
    grokking = choices.pick((None, None, 0, 7, 2**62))
    try:
        if mode == "written":
            columns = {name: np.fromiter(of, object) for name, of in values.items()}
            with contextlib.suppress(TypeError, ValueError, OverflowError):  # such as text
                columns = {name: of.astype(stored_type(name)) for name, of in columns.items()}
            study.write([RunRecord(config, grokking, np.array(epochs, np.int64), columns)])
        else:
            [run] = study.begin([config])
            for i, epoch in enumerate(epochs):
                study.append({run: {epoch: {name: of[i] for name, of in values.items()}}}, grokking)
            if mode == "finished":
                study.finish([run])
    except GradquakeError as error:
        check_sentence(error)


def crc(*values: object) -> int:
    return zlib.crc32(repr(values).encode(errors="surrogatepass"))


def _key(choices: Choices) -> Any:
    if choices.flag(3):
        return choices.pick(HOSTILE_KEYS)
    config: dict[str, Any] = SETTINGS | {"n_parameters": 41, "seed": choices.integer(0, 9)}
    names = (*config, "hidden", "width", "labels", "epoch", "size", "lr")
    for _ in range(choices.integer(0, 3)):
        name = choices.text() if choices.flag(8) else choices.pick(names)
        config[name] = choices.pick(HOSTILE_VALUES)
        if choices.flag(4):
            del config[name]
    return json.dumps(config, sort_keys=not choices.flag(16))


def _plan(choices: Choices, connection: sqlite3.Connection) -> None:
    key = _key(choices)
    connection.execute("INSERT INTO planned VALUES (?, ?)", (key, crc(key)))


def _tensors(choices: Choices) -> Any:
    if choices.flag(4):
        return choices.pick([key for key in HOSTILE_KEYS if key is not None])
    return json.dumps(choices.pick(({}, {"a": 1}, {"a": 1, choices.text(): 2}, {"a": 0}, [1])))


def _finish(choices: Choices, connection: sqlite3.Connection) -> None:
    key = _key(choices)
    names: Any = dict.fromkeys(sorted(["epoch", choices.pick((*VARIABLES, "lr"))]), 1)
    if choices.flag(4):
        names = choices.pick(HOSTILE_VALUES)
    elif choices.flag(4):
        names[choices.pick((*WIDE, "lr", "epoch"))] = choices.pick((1, 2, 3, 2**62, *HOSTILE_VALUES))
    measured = choices.pick(HOSTILE_KEYS) if choices.flag(6) else json.dumps(names)
    tensors = _tensors(choices)
    grokking = choices.pick((None, 0, 7, 7, -1, 2**63 - 1, 1.5, "x", b"x", float("inf")))
    header = (key, grokking, "{}", measured, tensors)
    row = connection.execute(
        "INSERT INTO runs (key, grokking_epoch, software, measured, tensors, checksum) "
        "VALUES (?, ?, ?, ?, ?, 0)",
        header,
    ).lastrowid
    # As the columns store it: their types change it.
    sql = "SELECT key, grokking_epoch, software, measured, tensors FROM runs WHERE id = ?"
    checksum = crc(*connection.execute(sql, (row,)).fetchone())
    connection.execute("UPDATE runs SET checksum = ? WHERE id = ?", (checksum, row))
    data: Any = choices.take(40).ljust(choices.pick((0, 24, 24, 25, 7)), b"\1")
    if choices.flag(8):
        data = choices.pick(("text", 7, None))
    own = zlib.crc32(data, checksum) if isinstance(data, bytes) else 0
    connection.execute("INSERT INTO measurements VALUES (?, ?, ?)", (row, data, own))


def _leave_unfinished(choices: Choices, connection: sqlite3.Connection) -> None:
    key, row = _key(choices), choices.integer(1, 99)
    count = choices.integer(0, 3)
    grokking = choices.pick((None, 0, 7, -1, 1.5, "x"))
    started = (row, key, grokking, _tensors(choices), count)
    connection.execute("INSERT INTO unfinished VALUES (?, ?, ?, ?, ?, 0)", started)
    sql = "SELECT key, grokking_epoch, tensors, snapshots FROM unfinished WHERE id = ?"
    header = connection.execute(sql, (row,)).fetchone()
    connection.execute("UPDATE unfinished SET checksum = ? WHERE id = ?", (crc(*header), row))
    for i in range(count):
        names = (*VARIABLES, *WIDE, "lr", "epoch", choices.text())
        values: Any = {choices.pick(names): choices.pick((1, 0.5, [1], [2, 3], *HOSTILE_VALUES))}
        data = choices.pick(HOSTILE_KEYS) if choices.flag(6) else json.dumps(values)
        step = choices.pick((i, i, i, -i, 2**62 + i, i + 0.5, "x"))
        connection.execute("INSERT INTO snapshots VALUES (?, ?, ?, 0)", (row, step, data))
    for step, data in connection.execute(
        "SELECT epoch, data FROM snapshots WHERE run = ?", (row,)
    ).fetchall():
        connection.execute(
            "UPDATE snapshots SET checksum = ? WHERE run = ? AND epoch = ?",
            (crc(header[0], step, data), row, step),
        )


# A view or a computed column can take any time and memory.
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {limit})"
SHAPES = (
    "ALTER TABLE {table} RENAME TO gone; CREATE VIEW {table} AS {endless} SELECT x AS id, x AS key, "
    "x AS grokking_epoch, x AS software, x AS measured, x AS checksum, x AS rows, x AS total FROM c",
    "ALTER TABLE {table} ADD COLUMN more AS (zeroblob(100000000))",
    "ALTER TABLE {table} ADD COLUMN more TEXT DEFAULT 'x'",
    "DROP TABLE {table}",
    "DELETE FROM {table}",
    "UPDATE sqlite_master SET sql = replace(sql, 'checksum', 'checksun')",
    "CREATE VIEW another AS SELECT 1",
    "UPDATE tallies SET rows = 'x'",
    "UPDATE tallies SET total = NULL",
    "UPDATE {table} SET checksum = {text}",
)


def _reshape(choices: Choices, connection: sqlite3.Connection) -> None:
    table = choices.pick(("runs", "planned", "measurements", "unfinished", "snapshots", "tallies"))
    script = choices.pick(SHAPES)
    endless = ENDLESS.format(limit=10**7)
    text = "'" + choices.pick(TEXTS[:20]).replace("'", "") + "'"
    with contextlib.suppress(sqlite3.Error):
        for statement in script.format(table=table, endless=endless, text=text).split("; "):
            connection.execute(statement)
