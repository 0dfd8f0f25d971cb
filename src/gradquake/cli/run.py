"""The command `run`: one subcommand per experiment, one option per field of its run configuration."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer
from typer.core import TyperGroup

from gradquake.cli.terminal import Command, Jobs, Scheduler, integers, progress, say

if TYPE_CHECKING:
    from gradquake.experiments.experiment import Experiment, RecordedRun

__all__ = ["run_app"]


class _Experiments(TyperGroup):
    """The subcommands, made when one is asked for, since experiments take long to load."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        from gradquake.experiments.table import EXPERIMENTS

        return list(EXPERIMENTS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        from gradquake.experiments.table import EXPERIMENTS

        return _command(EXPERIMENTS[cmd_name]) if cmd_name in EXPERIMENTS else None


run_app = typer.Typer(
    cls=_Experiments,
    help="Run a sweep of an experiment: networks of several sizes, each with several seeds.",
    no_args_is_help=True,
)


def _command(experiment: Experiment[Any]) -> Any:
    from gradquake.avalanche.topologies import TOPOLOGIES

    def command(out: Path, seeds: int, jobs: Jobs, scheduler: Scheduler, **options: Any) -> None:
        from gradquake.experiments.experiment import ProbedRun
        from gradquake.experiments.run import run

        sizes = integers(_flag(experiment.size), options.pop(experiment.size))
        n_runs = len(sizes) * seeds
        with progress("runs", resumes=True) as bars:
            run(
                experiment.name, out=out, seeds=seeds, jobs=jobs, scheduler=scheduler,
                progress=bars, **{experiment.size: sizes}, **options,
            )  # fmt: skip
        reader = "analyze" if issubclass(experiment.run, ProbedRun) else "info"
        say(f"{n_runs} runs of this sweep are in {out}; `gradquake {reader} {out}` reads them")

    options = list(_options(experiment))
    vars(command)["__signature__"] = inspect.Signature(options)
    command.__annotations__ = {option.name: option.annotation for option in options}
    sizes = ",".join(map(str, experiment.sizes[:3]))
    has_graph = "topology" in experiment.settings
    topologies = f"Topologies: {', '.join(TOPOLOGIES)}.\n\n" if has_graph else ""
    command.__doc__ = (
        f"Run a sweep of {experiment.name} and record it. Runs that the study holds already are not "
        f"repeated.\n\n{topologies}Example: `gradquake run "
        f"{experiment.name} --out sweep.sqlite {_flag(experiment.size)} {sizes} --seeds 12`"
    )
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    app.command(experiment.name, cls=Command)(command)
    return typer.main.get_command(app)


def _options(experiment: Experiment[Any]) -> Iterator[Parameter]:
    hints, helps = get_type_hints(experiment.run), _helps(experiment.run)
    sizes = ",".join(map(str, experiment.sizes))
    yield _option("out", Path, Parameter.empty, "Study file; made, or continued, or added to.")
    yield _option(experiment.size, str, sizes, f"Separated by commas. {helps.get(experiment.size, '')}")
    yield _option("seeds", int, 6, "Seeds at each size: 0, 1, ...")
    for field in fields(experiment.run):
        if field.name in experiment.settings:
            kind, default = hints[field.name], field.default
            if str in get_args(kind):  # typer has no option of several types; the run reads the text
                kind, default = str, str(default)
            elif default is None:
                kind = kind | None
            yield _option(field.name, kind, default, helps.get(field.name, ""))
    yield Parameter("jobs", Parameter.KEYWORD_ONLY, default=None, annotation=Jobs)
    yield Parameter("scheduler", Parameter.KEYWORD_ONLY, default=None, annotation=Scheduler)


def _option(name: str, kind: Any, default: object, help_text: str) -> Parameter:
    # Only with its name spelled out does a switch have no --no- form.
    option = typer.Option(_flag(name), help=help_text)
    annotation = Annotated[kind, option]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _helps(run: type[RecordedRun]) -> dict[str, str]:
    """Return the texts of single parameters in the docstrings of a run configuration and its bases."""
    found: dict[str, str] = {}
    for kind in reversed(run.__mro__):
        entries = re.findall(r"^(\w+) : .*\n((?:    .*\n)+)", f"{inspect.getdoc(kind)}\n", re.MULTILINE)
        found |= {name: " ".join(text.replace("``", "").split()) for name, text in entries}
    return found
