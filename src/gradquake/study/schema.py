"""The SQLite file of a study: its tables, its checksums, its opening, and its errors as sentences."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from platform import python_version
from typing import Any, TypeVar

from gradquake.errors import InputError, StudyError, printable, told

__all__ = ["PATIENCE", "Row", "StudyFile", "checksum_of", "damaged", "open_file", "software_versions"]

APPLICATION_ID = 0x47514B45  # "GQKE"
SCHEMA = 5

# SQLite's error names for a full disk.
NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE")

# SQLite's error names for a log that cannot be made in a folder without write access.
NO_LOG = ("SQLITE_READONLY_DIRECTORY", "SQLITE_CANTOPEN")

# Seconds to wait for another process that writes to the study.
PATIENCE = 30.0

TABLES = (
    "CREATE TABLE planned (key TEXT PRIMARY KEY, checksum INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        grokking_epoch INTEGER,
        software TEXT NOT NULL,
        measured TEXT NOT NULL,
        tensors TEXT NOT NULL,
        checksum INTEGER NOT NULL
    )""",
    """CREATE TABLE measurements (
        run INTEGER PRIMARY KEY REFERENCES runs (id),
        data BLOB NOT NULL,
        checksum INTEGER NOT NULL
    )""",
    """CREATE TABLE unfinished (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        grokking_epoch INTEGER,
        tensors TEXT NOT NULL,
        snapshots INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    )""",
    """CREATE TABLE snapshots (
        run INTEGER NOT NULL REFERENCES unfinished (id),
        epoch INTEGER NOT NULL,
        data TEXT NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (run, epoch)
    ) WITHOUT ROWID""",
    # SQLite does not notice that rows are missing from a damaged file; these counts and sums do.
    "CREATE TABLE tallies (name TEXT PRIMARY KEY, rows INTEGER, total INTEGER) WITHOUT ROWID",
)
# The columns of the tallied tables. The checksum of a row protects all of them but the id.
COLUMNS = {
    "planned": "key",
    "runs": "id, key, grokking_epoch, software, measured, tensors",
    "unfinished": "id, key, grokking_epoch, tensors, snapshots",
}
TALLY = (
    "CREATE TRIGGER {0}_added AFTER INSERT ON {0} BEGIN UPDATE tallies "
    "SET rows = rows + 1, total = total + new.checksum WHERE name = '{0}'; END",
    "CREATE TRIGGER {0}_removed AFTER DELETE ON {0} BEGIN UPDATE tallies "
    "SET rows = rows - 1, total = total - old.checksum WHERE name = '{0}'; END",
    "CREATE TRIGGER {0}_changed AFTER UPDATE OF checksum ON {0} BEGIN UPDATE tallies "
    "SET total = total + new.checksum - old.checksum WHERE name = '{0}'; END",
)
# Give SCHEMA another number with every change of these statements, or of the keys of a configuration.
SCRIPT = (*TABLES, *(text.format(table) for table in COLUMNS for text in TALLY))

Row = tuple[Any, ...]
Read = TypeVar("Read")


class StudyFile:
    """An open study file: transactions, queries, and rows that are checked when they are read.

    Every method raises ``StudyError`` if the file is damaged, locked, gone or cannot be written.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._identity = _identity(path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Read and write in one transaction, which keeps other writers out."""
        with self._clear(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        """Execute a statement within ``writing``."""
        return self._connection.execute(sql, parameters)

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Read all tables as they are at one moment, whatever others write meanwhile."""
        with self._clear():
            within = self._connection.in_transaction
            if not within:
                self._connection.execute("BEGIN")
        try:
            yield
        finally:
            if not within:
                self._connection.rollback()

    def query(self, sql: str, *parameters: object) -> list[Row]:
        """Return the rows of a query."""
        with self._clear():
            return self._connection.execute(sql, parameters).fetchall()

    def rows(self, table: str) -> list[Row]:
        """Return the ``COLUMNS`` of all rows of a table, in order, none missing and none changed."""
        with self.moment():
            found = self.query(f"SELECT {COLUMNS[table]}, checksum FROM {table} NOT INDEXED")  # noqa: S608
            tally = self.query("SELECT rows, total FROM tallies WHERE name = ?", table)
        rows = self._intact(table, found)
        with_id = table != "planned"
        keys = {row[with_id] for row in rows}
        if len(keys) != len(rows) or tally != [(len(rows), sum(row[-1] for row in found))]:
            raise damaged(self.path, f"rows of {table} are missing")
        if with_id and any(row[0] >= following[0] for row, following in pairwise(rows)):
            raise damaged(self.path, f"rows of {table} are out of order")
        return rows

    def rows_with(self, table: str, column: str, value: object) -> list[Row]:
        """Return the ``COLUMNS`` of the rows that have a value in a column, none of them changed."""
        sql = f"SELECT {COLUMNS[table]}, checksum FROM {table} WHERE {column} = ?"  # noqa: S608
        return self._intact(table, self.query(sql, value))

    def _intact(self, table: str, rows: list[Row]) -> list[Row]:
        """Return rows without the checksum at their end, after a comparison with it."""
        with_id = table != "planned"
        for *columns, checksum in rows:
            if checksum_of(*columns[with_id:]) != checksum:
                raise damaged(self.path, f"a row of {table} does not match its checksum")
        return [row[:-1] for row in rows]

    def checked(self, table: str, read: Callable[..., Read], *columns: object) -> Read:
        """Return the value that a function reads from columns.

        A checksum only shows that columns are as someone wrote them, who need not have been gradquake.
        """
        try:
            return read(*columns)
        except InputError as error:
            raise damaged(self.path, f"a row of {table} holds {error}") from error

    @contextmanager
    def _clear(self) -> Iterator[None]:
        """Turn errors into sentences. If the file was removed, SQLite would lose writes silently."""
        if _identity(self.path) != self._identity:
            raise StudyError(
                f"{self.path} was removed or replaced while it was open; put it back, or open it again"
            )
        with _clear_errors(self.path):
            yield


def open_file(path: str | Path, *, create: bool, patience: float) -> StudyFile:
    """Open a study file; parameters and errors are those of ``study.open_study``."""
    try:
        # Absolute, since the folder of this process may change.
        path = Path(path).absolute()
        if path.is_dir():
            raise StudyError(f"{path} is a folder; a study is a file")
        if create and not path.parent.is_dir():
            raise StudyError(f"{path} cannot be made: there is no folder {path.parent}")
        exists = path.exists()
    except OSError as error:
        raise StudyError(f"{path} cannot be reached: {error.strerror}") from error
    if not exists and not create:
        raise StudyError(f"{path} does not exist; a study file is needed")
    try:
        return _opened(path, _connected(path, patience), create=create, patience=patience)
    except _UnwritableError:
        return _opened(path, _immutable(path), create=False, patience=patience)


class _UnwritableError(Exception):
    """A study with write-ahead logging, in a folder in which its log cannot be made."""


def _connected(path: Path, patience: float) -> sqlite3.Connection:
    with _clear_errors(path):
        try:
            return sqlite3.connect(path, timeout=patience)
        except sqlite3.OperationalError as error:
            raise StudyError(f"{path} cannot be opened: {told(error)}") from error


def _immutable(path: Path) -> sqlite3.Connection:
    """Return a connection that only reads, for a folder in which SQLite cannot keep its log."""
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size > 0:
        raise StudyError(
            f"{log} may hold measurements that {path.name} lacks, and a folder without write access "
            "does not let them be read; copy both files to a folder with write access and open the copy"
        )
    with _clear_errors(path):
        return sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)


def _opened(path: Path, connection: sqlite3.Connection, *, create: bool, patience: float) -> StudyFile:
    try:
        with _clear_errors(path):
            # Rolls back the transaction of a killed process, even one that made the tables.
            try:
                connection.execute("PRAGMA schema_version")
            except sqlite3.OperationalError as error:
                if create or error.sqlite_errorname not in NO_LOG:
                    raise
                raise _UnwritableError from error
            if create and path.stat().st_size == 0:
                _make_tables(connection)
            _check_kind(path, connection)
            if create:
                # Others can then read while this process writes.
                _write_ahead(connection, patience)
            # With a log, a killed process loses nothing that was committed, although no commit waits for
            # the disk.
            connection.execute("PRAGMA synchronous = NORMAL")
            _check_tables(path, connection)
    except BaseException:
        connection.close()
        raise
    return StudyFile(path, connection)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return numbers that no other file has, or None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_kind(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if path.stat().st_size == 0:
        raise StudyError(f"{path} is empty; a study file is needed")
    if application != APPLICATION_ID:
        raise StudyError(f"{path} is an SQLite file, but not a gradquake study")
    if schema != SCHEMA:
        raise StudyError(
            f"{path} has schema {schema}, and this version of gradquake reads schema {SCHEMA} alone; "
            "measure the runs again into a new file, or use the version that wrote this one"
        )


def _check_tables(path: Path, connection: sqlite3.Connection) -> None:
    """Raise StudyError unless the tables are those of a study, and can be read.

    A view in place of a table could take any time and memory.
    """
    sql = "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_stat%'"
    found = [" ".join(str(text).split()) for (text,) in connection.execute(sql)]
    if sorted(found) != sorted(" ".join(text.split()) for text in SCRIPT):
        raise damaged(path, "its tables are not those of a study")
    for table in ("runs", "planned"):
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have made them since this one looked.
    if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
        for statement in SCRIPT:
            connection.execute(statement)
        connection.executemany("INSERT INTO tallies VALUES (?, 0, 0)", [(name,) for name in COLUMNS])
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.commit()


def _write_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """Turn write-ahead logging on. SQLite itself does not wait here for other processes."""
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            held = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
            if not held or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def software_versions() -> dict[str, str]:
    """Return the versions of gradquake, Python and the libraries that its numbers depend on."""
    packages = ("gradquake", "numpy", "scipy", "numba")
    return {"python": python_version()} | {package: version(package) for package in packages}


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's messages, which may quote a damaged file, into one line that names the file."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise StudyError(f"{path} already holds this run: {told(error)}") from error
    except sqlite3.OperationalError as error:
        name = getattr(error, "sqlite_errorname", None)
        if name is None:  # Python's own error for a column that is not text
            raise damaged(path, told(error)) from error
        if name in NO_ROOM:
            raise StudyError(
                f"{path} cannot be written ({told(error)}): the disk is full or has a limit; the study "
                "keeps what it holds; free some space, and the same command continues"
            ) from error
        raise StudyError(f"{path} cannot be used: {told(error)}") from error
    except sqlite3.ProgrammingError as error:
        raise StudyError(f"{path} cannot be used ({told(error)}); open it again") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if "not a database" in str(error):
            raise StudyError(f"{path} is not a gradquake study ({told(error)})") from error
        raise damaged(path, told(error)) from error


def checksum_of(*values: object) -> int:
    """Return the checksum that protects the columns of a row."""
    return zlib.crc32(repr(values).encode())


def damaged(path: Path, problem: str) -> StudyError:
    """Return the error for a damaged study; the problem may quote the file."""
    return StudyError(
        f"{path} is damaged: {printable(problem)}; restore it from a copy, or measure its runs again"
    )
