"""Tables of named entries that may get more entries from outside the package.

Worker processes import the package, and not the module that added an entry. Tasks therefore carry such
entries with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

__all__ = ["Table", "added_entries", "carrying"]

Entry = TypeVar("Entry")
Result = TypeVar("Result")


class Table(dict[str, Entry], Generic[Entry]):
    """The entries of one kind by name. Add one as to any dictionary.

    Parameters
    ----------
    module, name : str
        The module that defines the table, and its name there, by which it is pickled.
    noun : str
        The word for an entry in messages.
    own : mapping
        The entries of the package.
    """

    def __init__(self, module: str, name: str, noun: str, own: Mapping[str, Entry]) -> None:
        super().__init__(own)
        self.__module__, self._name, self.noun = module, name, noun
        self._own = dict(own)
        _TABLES.append(self)

    @property
    def added(self) -> dict[str, Entry]:
        """The entries that are not the package's."""
        return {name: entry for name, entry in self.items() if self._own.get(name) is not entry}

    def __reduce__(self) -> str:
        """Pickle the table as the name of a global variable of ``__module__``."""
        return self._name


_TABLES: list[Table[Any]] = []


def added_entries() -> Iterator[tuple[str, str, object]]:
    """Yield the noun, the name and the value of every entry that was added from outside the package."""
    for table in _TABLES:
        for name, entry in table.added.items():
            yield table.noun, name, entry


def carrying(function: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function that does the same in another process, which gets all added entries first."""
    carried = [(table, table.added) for table in _TABLES if table.added]
    return partial(_with_entries, carried, function) if carried else function


def _with_entries(
    carried: list[tuple[Table[Any], dict[str, object]]],
    function: Callable[..., Result],
    *arguments: object,
) -> Result:
    for table, added in carried:
        table.update(added)
    return function(*arguments)
