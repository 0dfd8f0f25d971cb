"""The folder that a reproduction is written to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from gradquake.errors import InputError
from gradquake.paper import claims_page
from gradquake.paper.claim import Claim


def made(out: str | Path) -> Path:
    """Return the folder, made where it is missing, with a place for figures.

    Raises
    ------
    InputError
        Where it cannot be written.
    """
    folder = Path(out)
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); a folder is needed") from error
    return folder


def write_claims(folder: Path, claims: Sequence[Claim]) -> None:
    """Write claims as ``claims.json`` and ``claims.md``, beside those of the other experiment.

    Raises
    ------
    InputError
        Where the claims that are there cannot be read.
    """
    path = folder / "claims.json"
    others = []
    if path.exists():
        try:
            held = [Claim.of_json(row) for row in json.loads(path.read_text(encoding="utf-8"))]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} does not hold claims ({error}); move it away") from error
        new = {claim.id for claim in claims}
        others = [claim for claim in held if claim.id not in new]
    # Modular addition comes last, whichever was done first.
    everything = sorted([*others, *claims], key=lambda claim: claim.id.startswith("modadd"))
    write(path, as_json([claim.as_json() for claim in everything]))
    write(folder / "claims.md", claims_page.page(everything))


def as_json(value: object) -> str:
    """Return a JSON object as the text of a file."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file so that whoever reads it finds the old one or the new one whole."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
