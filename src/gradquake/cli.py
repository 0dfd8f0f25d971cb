"""The command line: parses, calls, prints. Heavy modules load inside the commands."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from rich.console import Console

    from gradquake.analysis.scaling import Statistic
    from gradquake.paper.verdicts import Claim
    from gradquake.scrutiny import Scrutiny
    from gradquake.tables import Table

app = typer.Typer(
    name="gradquake",
    help="A seismograph for neural-network training: gradient avalanches and their finite-size scaling.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
run_app = typer.Typer(help="Train networks under the probe and record a sweep.", no_args_is_help=True)
app.add_typer(run_app, name="run")


class Advance(Protocol):
    """Says that a stage has come further by some runs or steps, and of how many if that is known."""

    def __call__(self, stage: str, runs: int, of: int | None = None) -> None:
        """Draw it."""
        ...


VERDICT_STYLES = {
    "reproduced": "green",
    "direction only": "yellow",
    "not reproduced": "red",
    "not testable": "dim",
}

# On a terminal narrower than this the claims are printed one below the other, not as a table.
NARROW = 140

Jobs = Annotated[
    int | None,
    typer.Option(help="Processes to use; all cores by default. Numbers do not depend on it."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Address of a Dask scheduler, as tcp://host:8786, whose workers to use instead."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
StudyFile = Annotated[Path, typer.Argument(help="A study file, as `run` and `reproduce` write it.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Take options that belong to no command."""
    if version:
        from gradquake import __version__

        print(f"gradquake {__version__}")
        raise typer.Exit


@app.command()
def reproduce(
    experiment: Annotated[
        str, typer.Argument(help="xor, the main job; or modadd, the Transformers, which needs torch.")
    ] = "xor",
    out: Annotated[Path, typer.Option(help="Folder for the study, claims and figures.")] = Path(
        "reproduction"
    ),
    seeds: Annotated[
        int | None, typer.Option(help="Seeds at each size; 6 of the XOR networks, 3 Transformers.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Leave out what no claim rests on: controls, interventions, choices, power."
        ),
    ] = False,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce the whole paper, judge its claims, and put them under scrutiny.

    Trains the XOR networks at eight sizes with the probe in the loop and beside it, 1000 seeds of
    the h = 21 network, the Gaussian baselines, controls and interventions; measures the gradients
    beside their nulls and under every choice of measuring them; then prints the paper's claims beside
    what was measured. Continues where an interrupted run stopped.

    With `modadd`, trains one-layer Transformers of two architectures on modular addition instead, under
    four conditions, half an hour's work on two cores; its claims join those in the folder.

    Example: `gradquake reproduce --out reproduction`
    """
    from gradquake.errors import InputError, require

    if experiment not in ("xor", "modadd"):
        raise InputError(f"the experiment is {experiment!r}; xor or modadd is needed")
    require(not (quick and experiment == "modadd"), "--quick is of xor; modadd leaves nothing out")
    if seeds is not None:
        _at_least_one("--seeds", seeds)
    with _executor(jobs, scheduler) as executor:
        claims = _claims_of(experiment, out, seeds, executor, quick=quick)
    if as_json:
        _print_json([claim.as_json() for claim in claims])
        return
    _print_claims(claims)
    name = "scrutiny" if experiment == "xor" else "modadd"
    study = "study" if experiment == "xor" else "modadd"
    _say(
        f"Written to {out}: claims.md and {name}.md to read, claims.json and {name}.json for "
        f"programs, figures/, {study}.sqlite"
    )


def _claims_of(
    experiment: str, out: Path, seeds: int | None, executor: Executor | None, *, quick: bool
) -> list[Claim]:
    if experiment == "modadd":
        from gradquake.paper.modadd import evidence as modadd
        from gradquake.paper.modadd.reproduce import reproduce as run_modadd

        transformers = modadd.Plan(seeds or modadd.SEEDS)
        with _progress(len(transformers.runs)) as advance:
            return run_modadd(out, transformers, executor, advance)
    from gradquake.paper.evidence import PAPER_SEEDS, Plan
    from gradquake.paper.reproduce import reproduce as run_xor

    plan = Plan(seeds=seeds or PAPER_SEEDS, quick=quick)
    with _progress(plan.n_runs) as advance:
        return run_xor(out, plan, executor, advance)


@run_app.command("xor")
def run_xor(
    out: Annotated[Path, typer.Option(help="Study file; made, or continued, or added to.")],
    hidden: Annotated[str, typer.Option(help="Hidden sizes, separated by commas.")] = (
        "20,30,50,70,100,120,200,500"
    ),
    seeds: Annotated[int, typer.Option(help="Seeds at each size: 0, 1, ...")] = 6,
    epochs: Annotated[int, typer.Option(help="Gradient-descent updates.")] = 500,
    learning_rate: Annotated[float, typer.Option(help="Step of gradient descent.")] = 0.5,
    alpha: Annotated[float, typer.Option(help="Share that a toppling node gives away.")] = 0.3,
    alpha_train: Annotated[
        float | None,
        typer.Option(
            help="alpha of the relaxation that feeds the update, from 0 to below 1: 0 keeps the probe "
            "out of the training (shadow); the default is --alpha (inline)."
        ),
    ] = None,
    quantile: Annotated[float, typer.Option(help="Quantile of |gradient| taken as threshold.")] = 0.9,
    max_steps: Annotated[int, typer.Option(help="Most steps of a cascade.")] = 20,
    topology: Annotated[str, typer.Option(help="Graph: a name listed above.")] = "barabasi_albert",
    topology_train: Annotated[
        str | None,
        typer.Option(help="Graph of the relaxation that feeds the update; the default is --topology."),
    ] = None,
    permute_train: Annotated[
        bool,
        typer.Option(
            "--permute-train", help="Place the gradient on that graph in a new random order every epoch."
        ),
    ] = False,
    task: Annotated[
        str, typer.Option(help="xor, or a control where nothing groks: and, constant.")
    ] = "xor",
    every: Annotated[int, typer.Option(help="Epochs between snapshots.")] = 10,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
) -> None:
    """Train XOR networks of several sizes under the probe; finished runs are kept and not repeated.

    Topologies: barabasi_albert, ring, small_world_0.05, small_world_0.2, erdos_renyi,
    square_lattice, random_regular, computational.

    Example: `gradquake run xor --out shadow.sqlite --hidden 20,50,120 --seeds 12 --alpha-train 0`
    """
    from gradquake.execution import execute
    from gradquake.experiments import xor
    from gradquake.store import open_study

    runs = xor.sweep(
        _integers("--hidden", hidden),
        _at_least_one("--seeds", seeds),
        epochs=epochs,
        every=every,
        learning_rate=learning_rate,
        alpha=alpha,
        alpha_train=alpha_train,
        quantile=quantile,
        max_steps=max_steps,
        topology=topology,
        topology_train=topology_train,
        permute_train=permute_train,
        task=task,
    )
    with (
        _executor(jobs, scheduler) as pool,
        open_study(out, create=True) as study,
        _progress(len(runs)) as advance,
    ):
        execute(study, xor.measure, runs, pool, lambda n: advance("measuring", n))
    _say(f"{len(runs)} runs of this sweep are in {out}; `gradquake analyze {out}` reads them")


@app.command()
def probe(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Gradient files in any order, or one folder of them: .npy, .npz, .safetensors, .pt, "
            ".pth, .bin, .ckpt, .tar, or the .index.json of a checkpoint in parts."
        ),
    ],
    differences: Annotated[
        bool,
        typer.Option("--differences", help="The files are checkpoints: measure later minus earlier."),
    ] = False,
    match: Annotated[
        list[str] | None,
        typer.Option(
            help="Only tensors whose name fits this pattern, such as '*.weight'; may be repeated."
        ),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Measure a fixed random subset of this many entries.")
    ] = None,
    topology: Annotated[
        str, typer.Option(help="Graph: a name that `run xor` lists.")
    ] = "barabasi_albert",
    alpha: Annotated[float, typer.Option(help="Share that a toppling node gives away.")] = 0.3,
    quantile: Annotated[float, typer.Option(help="Quantile of |gradient| taken as threshold.")] = 0.9,
    max_steps: Annotated[int, typer.Option(help="Most steps of a cascade.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the graph, the nulls and the sample.")] = 0,
    no_nulls: Annotated[bool, typer.Option("--no-nulls", help="Measure no nulls.")] = False,
    all_nulls: Annotated[
        bool, typer.Option("--all-nulls", help="The nulls that keep something of each tensor, too.")
    ] = False,
    draws: Annotated[
        int | None,
        typer.Option(help="Surrogates of each gradient and null: 20 of a single gradient, else 1."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Record the series as a run of this study; made, or added to.")
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(help="A label of the recorded run, as name=value; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure gradients that any program saved, or the differences of checkpoints, beside nulls.

    Every file holds one gradient, and all the same tensors. The files are taken in the order of the
    steps that their names or folders hold. docs/files.md shows how to save them and how to read the
    table.

    Example: `gradquake probe gradients/ --out study.sqlite --run width=64`
    """
    from gradquake import series
    from gradquake.errors import require
    from gradquake.probe import Probe
    from gradquake.store import open_study
    from gradquake.surrogates import RUNGS

    require(not (no_nulls and all_nulls), "--no-nulls and --all-nulls were both given; choose one")
    require(not (no_nulls and draws), "--draws is a number of nulls, which --no-nulls leaves out")
    require(out is not None or not run, "--run labels what --out records; --out is needed")
    labels = _settings(run or [], "--run")
    rungs = RUNGS if all_nulls else () if no_nulls else ("gaussian", "permuted", "sign_flipped")
    settings = Probe(topology, alpha, quantile, max_steps, seed)
    opened = series.open_series(
        files, match=match or (), differences=differences, sample=sample, seed=seed
    )
    n_draws = series.default_draws(opened) if draws is None else _at_least_one("--draws", draws)
    n_avalanches = len(opened) * (1 + len(rungs) * n_draws)
    wanted = series.configs(opened, settings, rungs, labels)
    if out is not None:
        with open_study(out, create=True) as study:
            series.check_free(study, wanted)
    with _progress(n_avalanches, "avalanches", resumes=False) as advance:
        measured = series.measure(opened, settings, rungs, n_draws, lambda n: advance("measuring", n))
    if out is not None:
        with open_study(out, create=True) as study:
            study.write(series.records(measured, wanted))
    if as_json:
        _print_json(series.as_json(opened, settings, measured))
        return
    _print_table(series.table(opened, settings, measured))
    for note in opened.notes:
        _say(note)
    if out is not None:
        _say(f"Recorded in {out}, the nulls beside it; `gradquake info {out}` lists it")


@app.command()
def analyze(
    study: StudyFile,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Choose one sweep by a setting, as name=value; may be repeated."),
    ] = None,
    nulls: Annotated[
        bool,
        typer.Option("--nulls", help="The whole ladder of nulls, and every topology."),
    ] = False,
    sensitivity: Annotated[
        bool,
        typer.Option("--sensitivity", help="The specification curve: every choice of measuring it."),
    ] = False,
    statistic: Annotated[
        str | None,
        typer.Option(
            help="max (the paper's: D) or mean; by default both, in JSON max with mean beside it."
        ),
    ] = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    as_json: AsJson = False,
) -> None:
    """Exponents, D(t) and its crossing of 1, beside nulls measured on the very gradients.

    XOR runs are trained once more, bit for bit, to measure surrogates of their gradients: Gaussian and
    permuted ones, or with --nulls the whole ladder and every topology. Of any other run the nulls are
    shown that were measured beside it. Needs finished runs at three sizes or more. Intervals are 95 %
    bootstraps over runs.

    Example: `gradquake analyze reproduction/study.sqlite --where task=and --where alpha_train=0`
    """
    from gradquake import objects, scrutiny, tables
    from gradquake.analysis.scaling import STATISTICS, check_statistic
    from gradquake.experiments import replay
    from gradquake.sensitivity import specify
    from gradquake.store import open_study
    from gradquake.surrogates import RUNGS

    if statistic is not None:
        check_statistic(statistic)
    chosen: Any = STATISTICS if statistic is None else (statistic,)
    with open_study(study) as opened:
        dataset, recorded = opened.with_nulls(**_settings(where or []))
    again = dataset.attrs.get("experiment") in replay.KINDS
    if again or sensitivity:
        scrutiny.check(dataset, sensitivity=sensitivity)
    else:
        scrutiny.check_beside(dataset, recorded)
    rungs = RUNGS if nulls else ("gaussian", "permuted")
    topologies, table = [], None
    with _executor(jobs, scheduler) as pool, _progress() as advance:
        if again:
            advance("nulls", 0)

        def told(steps: int, of: int) -> None:
            advance("analysis", steps, of)

        if again:
            found = scrutiny.scrutinize(dataset, rungs, pool, progress=told)
        else:
            beside = {rung: null for rung, null in recorded.items() if rung in rungs}
            advance("analysis", 0)
            found = scrutiny.beside(dataset, beside, pool, progress=told)
        if nulls and again:
            advance("topologies", 0)
            topologies = scrutiny.on_topologies(dataset, pool)
        if sensitivity:
            advance("choices", 0)
            table = specify([dataset], pool)
    if as_json:
        _print_json(
            {
                **objects.analysis_json(found, chosen[0]),
                **({} if statistic else {"mean": objects.analysis_json(found, "mean")}),
                **(
                    {"topologies": [objects.topology_json(on) for on in topologies]}
                    if topologies
                    else {}
                ),
                **({} if table is None else {"sensitivity": objects.specifications_json(table)}),
            }
        )
        return
    shown = [
        tables.exponents_table(found.ladder, chosen),
        tables.attribution_table(found.ladder, chosen),
    ]
    if found.timing:
        shown.append(tables.timing_table(found, chosen))
    if nulls:
        shown.append(tables.collapse_table({"": found.collapses}))
    if topologies:
        shown.append(tables.topologies_table({"": topologies}, chosen))
    if table is not None:
        shown += [tables.shares_table(table), tables.importance_table(table)]
    _print_analysis(found, shown, chosen)


@app.command()
def watch(
    study: StudyFile,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the present state and exit.")] = False,
) -> None:
    """Watch the runs that other processes write to a study, until it is interrupted.

    A row a run: s / N, the share of parameters that toppled (a node that topples twice counts twice),
    beside its level for Gaussian gradients, and loss, accuracy and threshold, as lines of blocks with
    the newest value; and D(t) as soon as there are runs of three sizes. A finished run has a tick.

    Example: `gradquake watch runs.sqlite`
    """
    import time

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from gradquake import live
    from gradquake.errors import printable, require_between

    require_between("--interval", interval, 0.1, 3600, inclusive=True)

    def view() -> Group:
        shown = [part for table in live.tables(live.read(study)) for part in _renderables(table)]
        return Group(*(shown or [Text(printable(f"{study} holds no measurement of a run yet"))]))

    if once:
        _console().print(view(), highlight=False)
        return
    with Live(view(), console=_console(), auto_refresh=False) as shown:
        try:
            while True:
                time.sleep(interval)
                shown.update(view(), refresh=True)
        except KeyboardInterrupt:
            raise _InterruptError("stopped watching; the runs go on") from None


@app.command()
def plot(
    study: StudyFile,
    out: Annotated[
        Path | None,
        typer.Option(help="The figure, written as .png and .svg; by default here, named as the study."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Choose one sweep by a setting, as name=value; may be repeated."),
    ] = None,
) -> None:
    """Draw every run of a sweep, finished or not: s / N beside its nulls, outcomes, and D(t).

    Example: `gradquake plot runs.sqlite --out figure.png`
    """
    from gradquake import live
    from gradquake.errors import InputError

    out = Path(f"{study.stem}.png") if out is None else out
    named = out.name not in ("", "..") and out.suffix in ("", ".png", ".svg")
    if not named:
        raise InputError(f"--out is {out}; a .png or .svg name is needed")
    if not out.parent.is_dir():
        raise InputError(f"--out is {out}; there is no folder {out.parent}")
    live.draw(live.choose(live.read(study), study, _settings(where or [])), out)
    _say(f"Drawn: {out.with_suffix('.png')} and {out.with_suffix('.svg')}")


@app.command()
def info(study: StudyFile, as_json: AsJson = False) -> None:
    """Show what is in a study, and what is missing of what was planned.

    Example: `gradquake info reproduction/study.sqlite`
    """
    from gradquake.store import open_study

    with open_study(study) as opened:
        sweeps = opened.contents()
    if as_json:
        _print_json({"study": str(study), "sweeps": sweeps})
        return
    from gradquake.surrogates import REAL
    from gradquake.tables import contents_table

    _print_table(contents_table(sweeps))
    runs = [sweep for sweep in sweeps if sweep["settings"].get("surrogate", REAL) == REAL]
    finished = sum(sweep["runs"] for sweep in runs)
    missing, unfinished = (sum(len(sweep[name]) for sweep in runs) for name in ("missing", "unfinished"))
    of_nulls = sum(sweep["runs"] for sweep in sweeps) - finished
    beside = f"; {of_nulls} records of nulls" if of_nulls else ""
    print(f"{finished} runs finished, {missing} planned and missing, {unfinished} unfinished{beside}")


class _InterruptError(Exception):
    """A stop asked for from the keyboard, once there was something to keep."""


def main() -> None:
    """Run the command line; exit status 0 done, 1 failed, 2 bad input or usage, 130 interrupted."""
    from gradquake.errors import GradquakeError, InputError, StudyError

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name may hold what the terminal's encoding has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except _InterruptError as error:
        _fail(str(error), 130)
    except (InputError, StudyError) as error:
        _fail(str(error), 2)
    except GradquakeError as error:
        _fail(str(error), 1)
    except MemoryError:
        _fail("there is not enough memory for this; fewer or smaller networks need less", 1)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except SystemExit as stopped:
        # What typer makes of an interrupt that it sees itself.
        if stopped.code == 130:
            _fail("interrupted", 130)
        raise
    except OSError as error:
        _fail(f"{error.filename or 'a file'} cannot be written or read: {error.strerror}", 1)


def _say(line: str) -> None:
    """Print a line that may quote a file or a name: no control code reaches the terminal."""
    from gradquake.errors import printable

    print(printable(line))


def _fail(message: str, status: int) -> None:
    from gradquake.errors import printable

    print(f"gradquake: {printable(message)}", file=sys.stderr)
    sys.exit(status)


def _at_least_one(name: str, value: int) -> int:
    from gradquake.errors import require_count

    require_count(name, value, 1)
    return value


@contextmanager
def _executor(jobs: int | None, scheduler: str | None) -> Iterator[Executor | None]:
    from gradquake.errors import require
    from gradquake.execution import available_cores, open_executor

    require(
        jobs is None or scheduler is None,
        "--jobs and --scheduler were both given; the workers of a cluster are counted there",
    )
    n_jobs = available_cores() if jobs is None else _at_least_one("--jobs", jobs)
    with open_executor(n_jobs, scheduler) as executor:
        yield executor


def _integers(name: str, text: str) -> list[int]:
    from gradquake.errors import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{name} is {text!r}; integers separated by commas are needed, such as 20,50,120"
        ) from None


def _settings(pairs: list[str], option: str = "--where") -> dict[str, Any]:
    from gradquake.errors import InputError

    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InputError(f"{option} is {pair!r}; name=value is needed")
        try:
            settings[name] = json.loads(value)
        except (ValueError, RecursionError):  # no JSON, or nested too deep
            settings[name] = value
    return settings


@contextmanager
def _progress(
    total: int | None = None, unit: str = "runs", *, resumes: bool = True
) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.fields[count]:>14}"),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    begun: list[tuple[str, TaskID]] = []

    def advance(stage: str, runs: int, of: int | None = None) -> None:
        # Not before there is progress: what is wrong with the input is found, and said, first.
        bar.start()
        if not begun or begun[-1][0] != stage:
            finish()
            # Only of runs, which are measured first, is it known how many there are.
            begun.append((stage, bar.add_task(stage, total=None if begun else total, count="")))
        task = begun[-1][1]
        bar.advance(task, runs)
        if of is not None:
            bar.update(task, total=of, count=f"{bar.tasks[-1].completed:.0f}/{of} steps")
        elif len(begun) == 1 and total is not None:
            bar.update(task, count=f"{bar.tasks[0].completed:.0f}/{total} {unit}")

    def finish() -> None:
        for _, task in begun if total is None else begun[1:]:
            bar.update(task, total=1, completed=1)

    try:
        yield advance
        finish()
    except KeyboardInterrupt:
        kept = "; what was finished is kept, and the same command continues from there"
        raise _InterruptError(f"interrupted{kept if total is not None and resumes else ''}") from None
    finally:
        if bar.live.is_started:
            bar.stop()


def _console() -> Console:
    from rich.console import Console

    console = Console()
    # In a file or a pipe nothing wraps for want of width.
    return console if console.is_terminal else Console(width=160)


def _print_table(table: Table) -> None:
    console = _console()
    for part in _renderables(table):
        console.print(part, highlight=False)


def _renderables(table: Table) -> list[Any]:
    """Return a table with little around its columns, so that many fit on 80 characters, and its note.

    As Text, in which square brackets and colons mean nothing to rich.
    """
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        title=Text(table.title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    first = table.rows[0] if table.rows else table.header
    for name, of_first in zip(table.header, first, strict=True):
        shown.add_column(Text(name), justify="right" if of_first[:1].isdigit() else "left")
    for row in table.rows:
        shown.add_row(*map(Text, row))
    return [shown, Text(table.note)] if table.note else [shown]


def _print_json(value: Any) -> None:
    """Print JSON in ASCII, so that no control code reaches the terminal."""
    from gradquake.objects import plain

    # DEL is the only control code that JSON leaves as it is.
    print(json.dumps(plain(value), indent=2, allow_nan=False).replace("\x7f", "\\u007f"))


def _print_claims(claims: list[Claim]) -> None:
    console = _console()
    if console.width < NARROW:
        _print_claims_stacked(claims)
    else:
        _print_claims_table(claims, console)
    counts = ", ".join(
        f"{sum(claim.verdict == verdict for claim in claims)} {verdict}" for verdict in VERDICT_STYLES
    )
    console.print(f"{len(claims)} claims: {counts}.", highlight=False)
    print(
        "Gaussian null: the same statistic on Gaussian gradients of the same sizes, seeds and graphs.\n"
        "attribution of the difference: to the marginal distribution of the gradient (permuted minus\n"
        "Gaussian null) and to its arrangement on the graph (measured minus permuted null)."
    )


def _print_claims_table(claims: list[Claim], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table as RichTable

    from gradquake.paper.verdicts import quantity_attribution, quantity_null, quantity_with_interval

    table = RichTable(title="The paper's claims and what was measured", title_justify="left")
    fixed = ("id", "value [95 % interval]", "Gaussian null", "verdict")
    for name in ("id", "claim", "paper", "measured", *fixed[1:3], "attribution", "verdict"):
        table.add_column(name, no_wrap=name in fixed)
    for claim in claims:
        verdict = f"[{VERDICT_STYLES[claim.verdict]}]{claim.verdict}[/]"
        head = [claim.id, claim.claim, claim.paper]
        for i, quantity in enumerate(claim.quantities):
            table.add_row(
                *(head if i == 0 else ["", "", ""]),
                quantity.name,
                escape(quantity_with_interval(quantity)),
                escape(quantity_null(quantity)),
                escape(quantity_attribution(quantity).replace("; ", "\n")),
                verdict if i == 0 else "",
            )
        table.add_section()
    console.print(table)


def _print_claims_stacked(claims: list[Claim]) -> None:
    from gradquake.paper.verdicts import quantity_attribution, quantity_null, quantity_with_interval

    for claim in claims:
        print(f"{claim.id}: {claim.verdict}\n  {claim.claim}; paper: {claim.paper}")
        for quantity in claim.quantities:
            print(f"  {quantity.name}: {quantity_with_interval(quantity)}")
            if null := quantity_null(quantity):
                print(f"    Gaussian null {null}")
            if attribution := quantity_attribution(quantity):
                print(f"    {attribution}")
        print()


def _print_analysis(found: Scrutiny, tables: list[Table], statistics: Sequence[Statistic]) -> None:
    from gradquake.scrutiny import notes_of
    from gradquake.tables import number, time_with_interval

    analysis = found.ladder.real
    settings = ", ".join(f"{name}={value}" for name, value in analysis.dataset.attrs.items())
    _say(f"{analysis.dataset.sizes['run']} runs: {settings}")
    print()
    for statistic in statistics:
        curve = analysis.curves[statistic]
        values = curve.dimension["exponent"].values
        values = values[values == values]  # NaN at epochs at which a size was not measured
        if not values.size:
            print(
                f"D(t), {statistic}: there is no epoch at which every size of network has an avalanche"
            )
            continue
        crosses = (
            f"crosses 1 from below at epoch {time_with_interval(curve.crossing)}"
            if curve.crossing.estimate == curve.crossing.estimate
            else "does not cross 1 from below"
        )
        print(
            f"D(t), {statistic}: from {number(values.min())} to {number(values.max())}, at the end "
            f"{number(values[-1])}; {crosses}"
        )
    first, last = analysis.grokking_window
    if first == first:
        print(
            f"runs grok at epochs {number(first)} to {number(last)}; phases are split at each run's own "
            "t_g"
        )
    for note in notes_of(found):
        print(note)
    for table in tables:
        print()
        _print_table(table)
