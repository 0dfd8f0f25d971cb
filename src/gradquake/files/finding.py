"""The files that a person means: those given, or all of one series in a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gradquake.errors import InputError, require
from gradquake.files.formats import INDEX, SUFFIXES, suffix_of
from gradquake.files.steps import Order, in_order, read_name
from gradquake.files.tensors import natural

__all__ = ["find"]

# The name of one of several files that make up one checkpoint.
PART = re.compile(r"-[0-9]{5}-of-(?!00001)[0-9]{5}\.")


def find(paths: Sequence[Path]) -> Order:
    """Return the files that a person means, in the order of their steps.

    Parameters
    ----------
    paths : sequence of Path
        Files; or one folder, which means all its files that have one of ``SUFFIXES``.

    Raises
    ------
    InputError
        For a file that does not exist, has another suffix, is given twice or is a part of a checkpoint;
        or a folder beside other paths, without such files, or with names that differ in more than their
        numbers.
    """
    require(len(paths) > 0, "no file was given; gradient files or a folder of them are needed")
    if len(paths) == 1 and paths[0].is_dir():
        return in_order(_in_folder(paths[0]), given=False)
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; a gradient file or a folder of them is needed")
        if path.is_dir():
            raise InputError(
                f"{path} is a folder; files, or one folder alone, are needed, such as "
                f"{path / 'model.safetensors'}"
            )
        if not path.is_file():
            raise InputError(f"{path} is not a regular file; a gradient file is needed")
        suffix = suffix_of(path.name)
        if suffix not in SUFFIXES:
            raise InputError(f"{path} ends in {suffix!r}; one of {', '.join(SUFFIXES)} is needed")
        _require_whole(path)
    _require_once(paths)
    return in_order(paths, given=True)


def _require_whole(path: Path) -> None:
    if PART.search(path.name) is not None:
        raise InputError(
            f"{path} is one of several parts of a checkpoint; give the index of all parts, which ends "
            f"in {INDEX}"
        )


def _require_once(paths: Sequence[Path]) -> None:
    seen: dict[tuple[int, int], Path] = {}
    for path in paths:
        status = path.stat()
        file = (status.st_dev, status.st_ino)
        if file in seen:
            raise InputError(f"{path} and {seen.get(file)} are the same file; give it once")
        seen[file] = path


def _in_folder(folder: Path) -> list[Path]:
    found = [
        path
        for path in folder.iterdir()
        if suffix_of(path.name) in SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if not len(found) > 0:
        raise InputError(
            f"{folder} holds no file that ends in one of {', '.join(SUFFIXES)}" + _folders_hint(folder)
        )
    found.sort(key=lambda path: natural(path.name))
    _require_once(found)
    series: dict[str, Path] = {}
    for path in found:
        _require_whole(path)
        skeleton = read_name(Path(path.name)).skeleton[0] + suffix_of(path.name)
        series.setdefault(skeleton, path)
    one, *others = series.values()
    if others:
        raise InputError(
            f"{folder} holds several series, such as {one.name} and {others[0].name}; give the files of "
            "one series, or put them into a folder of their own"
        )
    return found


def _folders_hint(folder: Path) -> str:
    folders = sorted((p for p in folder.iterdir() if p.is_dir()), key=lambda path: natural(path.name))
    if not folders:
        return ""
    pattern = folder / re.sub("[0-9]+", "*", folders[0].name, count=1)
    return f"; give one file of each of its folders, such as {pattern}/model.safetensors"
