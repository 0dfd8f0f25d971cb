"""The folder of results, and the files in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from gradquake.errors import InputError

__all__ = ["as_json", "made", "write"]


def made(out: str | Path) -> Path:
    """Return the folder with a place for figures; it is made if it does not exist.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    folder = Path(out)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); a folder is needed") from error
    return folder


def as_json(value: object) -> str:
    """Return a JSON object as the text of a file."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file in one step: a reader finds either the old file or the new one, never a part."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
