"""Writes the pages of the reference: the API from ``__all__``, the command line from the application."""

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path
from typing import get_args

from sphinx.ext.autodoc.mock import mock

FOLDER = "api"
SCHEMA = "analyze.schema.json"
LONGEST_DEFAULT = 60
# The rooms in the order of the import rule; cli is described by its commands.
ROOMS = {
    "avalanche": "one gradient, one avalanche",
    "study": "runs on disk",
    "analysis": "statistics",
    "experiments": "experiments",
    "scrutiny": "a sweep measured again",
    "files": "gradients and checkpoints in files",
    "report": "results for a reader",
    "torch": "the modules inside",
    "paper": "papers and claims",
}


def setup(app):
    """Write the pages before Sphinx looks for pages."""
    app.connect("config-inited", prepare)
    app.connect("autodoc-process-signature", shorten)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def prepare(app, config):
    """Write the pages; frameworks that the site does not install are stood in for."""
    with mock(config.autodoc_mock_imports):
        write(Path(app.srcdir) / FOLDER)


def write(folder):
    """Write all pages into ``folder``; a page that has not changed keeps its date."""
    pages = {"gradquake.rst": face("gradquake", "measure, sweep, analyze")}
    pages["gradquake.torch.rst"] = face("gradquake.torch", "in a training loop")
    pages |= {f"room-{room}.rst": of_room(room, title) for room, title in ROOMS.items()}
    pages["command-line.md"] = command_line()
    pages["json.md"] = json_page(json.loads((folder.parent / SCHEMA).read_text("utf-8")))
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


class Elided:
    """Stands for a default that is too long to show."""

    def __repr__(self):
        return "..."


def shorten(app, what, name, thing, options, signature, returns):  # noqa: ARG001
    """Leave long defaults out of the signature of a class."""
    if what != "class" or not signature:
        return None
    found = inspect.signature(thing)
    if all(len(repr(p.default)) <= LONGEST_DEFAULT for p in found.parameters.values()):
        return None
    short = [
        p.replace(
            annotation=p.empty,
            default=p.default if len(repr(p.default)) <= LONGEST_DEFAULT else Elided(),
        )
        for p in found.parameters.values()
    ]
    return str(found.replace(parameters=short, return_annotation=found.empty)), None


# The API


def face(name, title):
    """The page of a public module: an overview, and every name that it lists."""
    module = importlib.import_module(name)
    parts = [
        heading(f"{name}: {title}", "="),
        f".. automodule:: {name}\n   :no-members:\n",
        ".. list-table::",
    ]
    parts.append("   :widths: auto\n")
    for public in sorted(module.__all__, key=str.lower):
        thing = getattr(module, public)
        target = thing.__name__ if inspect.ismodule(thing) else f"{name}.{public}"
        parts.append(f"   * - :py:obj:`{public} <{target}>`\n     - {first_sentence(thing)}")
    parts.append("")
    parts += [entry(name, public, getattr(module, public)) for public in module.__all__]
    return "\n".join(parts) + "\n"


def of_room(room, title):
    """The page of a room: its modules, each with the names that it lists."""
    package = importlib.import_module(f"gradquake.{room}")
    parts = [heading(f"gradquake.{room}: {title}", "=")]
    if room != "torch":
        parts.append(f".. automodule:: gradquake.{room}\n   :no-members:\n")
    for found in pkgutil.walk_packages(package.__path__, f"gradquake.{room}."):
        if not found.ispkg and not found.name.rpartition(".")[2].startswith("_"):
            parts += of_module(importlib.import_module(found.name))
    return "\n".join(parts) + "\n"


def of_module(module):
    """The section of a module."""
    name = module.__name__
    parts = [heading(name.removeprefix("gradquake."), "-"), f".. automodule:: {name}\n   :no-members:\n"]
    own, face_names, constants = [], [], []
    for public in module.__all__:
        thing = getattr(module, public)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            constants.append(f"``{public}``")
        elif found := on_face(thing):
            face_names.append(f":py:obj:`{found}`")
        elif thing.__module__ == name:
            own.append(entry(name, public, thing))
    if face_names:
        parts.append(f"Public as {', '.join(face_names)}.\n")
    if constants:
        parts.append(f"Also here: {', '.join(constants)}.\n")
    return parts + own


def on_face(thing):
    """The name under which the package or its torch module shows a thing, or None."""
    for name in ("gradquake", "gradquake.torch"):
        module = importlib.import_module(name)
        for public in module.__all__:
            if getattr(module, public) is thing:
                return f"{name}.{public}"
    return None


def entry(module, public, thing):
    """The directive for a public name."""
    if inspect.ismodule(thing):
        return ""
    kind = "function"
    if inspect.isclass(thing):
        kind = "exception" if issubclass(thing, BaseException) else "class"
    members = "\n   :members:" if kind == "class" else ""
    return f".. auto{kind}:: {module}.{public}{members}\n"


def first_sentence(thing):
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


def heading(text, line):
    return f"{text}\n{line * len(text)}\n"


# The command line


def command_line():
    """The page of all commands, from the application itself."""
    import typer.main

    from gradquake.cli.app import app

    root = typer.main.get_command(app)
    parts = ["# Command line", root.help, "`gradquake COMMAND --help` shows the same texts."]
    parts += [EXITS]
    for name in root.list_commands(None):
        parts += of_command(f"gradquake {name}", root.get_command(None, name), 2)
    return "\n\n".join(parts) + "\n"


EXITS = (
    "Results go to stdout, progress and messages to stderr. The exit status is 0 if the work is done,\n"
    "1 if it failed, 2 for bad input or usage, and 130 after an interrupt."
)


# The values of options, in words.
KINDS = {str: "text", int: "whole number", float: "number", Path: "path"}


def of_command(name, command, level):
    """The section of a command, and those of its subcommands."""
    subcommands = getattr(command, "list_commands", lambda _: [])(None)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([name, *(p.metavar or p.name.upper() for p in arguments), "[OPTIONS]"])
    parts = [f"{'#' * level} `{name}`", help_of(command)]
    if not subcommands:
        parts[1:1] = [f"```text\n{usage}\n```"]
        parts.append(
            "\n".join(["| option | value | default | |", "|---|---|---|---|", *map(row, command.params)])
        )
    for subcommand in subcommands:
        parts += of_command(f"{name} {subcommand}", command.get_command(None, subcommand), level + 1)
    return parts


def help_of(command):
    return re.sub(
        r"^Example: `(.*)`$", r"Example:\n\n```sh\n\1\n```", inspect.cleandoc(command.help), flags=re.M
    )


def row(parameter):
    """The row of an option or argument."""
    names = ", ".join(f"`{one}`" for one in parameter.opts)
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    annotation = parameter.type_descriptor.annotation
    kind = "" if annotation is bool else KINDS[(get_args(annotation) or (annotation,))[0]]
    default = "required" if parameter.required else parameter.default
    default = "" if default is None or default is False or callable(default) else f"{default}"
    cells = [names, kind, default, getattr(parameter, "help", None) or ""]
    escaped = [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(escaped)} |"


# The JSON of `analyze`

ABOUT_JSON = """# JSON schema

`gradquake analyze STUDY --json` and `Result.to_json()` print one JSON object.
[analyze.schema.json](../analyze.schema.json) describes it (JSON Schema, draft 2020-12), and tests
validate the output against it. `version` rises if an entry changes its meaning or goes away.

A number that is not defined is `null`, and `notes` says why. Objects are nested by rung of the nulls,
phase and statistic: `nulls["permuted"]["post"]["max"]["value"]`. The [glossary](../glossary.md) explains
these words.

| entry | always | holds |
|---|---|---|
"""

ABOUT_OBJECTS = """## Objects

| object | entries |
|---|---|
"""


def json_page(schema):
    """The page of the JSON schema: its entries, and those of the objects in it."""
    known = schema["$defs"]
    rows = []
    for name, found in schema["properties"].items():
        always = "yes" if name in schema["required"] else ""
        kind = found.get("$ref", "").rpartition("/")[2]
        rows.append(f"| `{name}` | {always} | {found['description']}{f' See {kind}.' if kind else ''} |")
    parts = [
        f"| {name} | {', '.join(map(entry_of, definition['properties'].items()))} |"
        for name, definition in known.items()
        if "properties" in definition
    ]
    return ABOUT_JSON + "\n".join(rows) + "\n\n" + ABOUT_OBJECTS + "\n".join(parts) + "\n"


def entry_of(named):
    name, found = named
    said = found.get("description")
    return f"`{name}`" + (f" ({said[0].lower()}{said[1:].rstrip('.')})" if said else "")
