"""The command line: parses, calls, prints. Heavy modules load inside the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from gradquake.analysis.resampling import Interval
    from gradquake.analysis.sweep import Curve, SweepAnalysis
    from gradquake.paper.verdicts import Claim

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
    out: Annotated[Path, typer.Option(help="Folder for the study, claims and figures.")] = Path(
        "reproduction"
    ),
    seeds: Annotated[int, typer.Option(help="Seeds at each of the eight sizes.")] = 6,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce the whole paper and judge its claims.

    Trains the XOR networks at eight sizes with the probe in the loop and beside it, 1000 seeds of
    the h = 21 network, and the Gaussian baselines; then prints the paper's claims beside what was
    measured. Continues where an interrupted run stopped.

    Example: `gradquake reproduce --out reproduction`
    """
    from gradquake.paper.evidence import Plan
    from gradquake.paper.reproduce import reproduce as run_all

    plan = Plan(seeds=_at_least_one("--seeds", seeds))
    with _progress(plan.n_runs) as advance:
        claims = run_all(out, plan, jobs=_jobs(jobs), progress=advance)
    if as_json:
        _print_json([claim.as_json() for claim in claims])
        return
    _print_claims(claims)
    print(f"Written to {out}: claims.md, claims.json, figures/, study.sqlite")


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
            "out of the training (shadow); the default is --alpha (in-line)."
        ),
    ] = None,
    quantile: Annotated[float, typer.Option(help="Quantile of |gradient| taken as threshold.")] = 0.9,
    max_steps: Annotated[int, typer.Option(help="Most steps of a cascade.")] = 20,
    topology: Annotated[str, typer.Option(help="Graph: a name listed above.")] = "barabasi_albert",
    every: Annotated[int, typer.Option(help="Epochs between snapshots.")] = 10,
    jobs: Jobs = None,
) -> None:
    """Train XOR networks of several sizes under the probe; finished runs are kept and not repeated.

    Topologies: barabasi_albert, ring, small_world_0.05, small_world_0.2, erdos_renyi,
    square_lattice, random_regular, computational.

    Example: `gradquake run xor --out shadow.sqlite --hidden 20,50,120 --seeds 12 --alpha-train 0`
    """
    from gradquake.execution import execute, worker_pool
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
    )
    with (
        open_study(out, create=True) as study,
        worker_pool(_jobs(jobs)) as pool,
        _progress(len(runs)) as advance,
    ):
        execute(study, xor.measure, runs, pool, lambda n: advance("measuring", n))
    print(f"{len(runs)} runs of this sweep are in {out}; `gradquake analyze {out}` reads them")


@app.command()
def analyze(
    study: StudyFile,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Choose one sweep by a setting, as name=value; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Exponents, D(t) and its crossing of 1, beside the matched Gaussian null.

    Needs finished runs at three sizes or more. Intervals are 95 % bootstraps over runs.

    Example: `gradquake analyze reproduction/study.sqlite --where alpha_train=0`
    """
    from gradquake.analysis.sweep import analyze as analyze_sweep
    from gradquake.experiments.synthetic import gaussian_null
    from gradquake.store import open_study

    with open_study(study) as opened:
        dataset = opened.select(**_settings(where or []))
    analysis = analyze_sweep(dataset)
    null = analyze_sweep(gaussian_null(dataset))
    if as_json:
        _print_json(_analysis_json(analysis, null))
    else:
        _print_analysis(analysis, null)


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
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(str(study)), title_justify="left")
    for name in ("experiment", "runs", "missing", "N", "seeds", "settings"):
        table.add_column(name)
    for sweep in sweeps:
        settings = dict(sweep["settings"])
        table.add_row(
            str(settings.pop("experiment")),
            str(sweep["runs"]),
            str(len(sweep["missing"])),
            ", ".join(map(str, sweep["n_parameters"])),
            str(len(sweep["seeds"])),
            escape(", ".join(f"{name}={value}" for name, value in settings.items())),
        )
    _console().print(table)
    finished = sum(sweep["runs"] for sweep in sweeps)
    missing = sum(len(sweep["missing"]) for sweep in sweeps)
    print(f"{finished} runs finished, {missing} planned and missing")


class _InterruptError(Exception):
    """A stop asked for from the keyboard, once there was something to keep."""


def main() -> None:
    """Run the command line; exit status 0 done, 1 failed, 2 bad input or usage, 130 interrupted."""
    from gradquake.errors import GradquakeError, InputError, StudyError

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
    except OSError as error:
        _fail(f"{error.filename or 'a file'} cannot be written or read: {error.strerror}", 1)


def _fail(message: str, status: int) -> None:
    print(f"gradquake: {message}", file=sys.stderr)
    sys.exit(status)


def _at_least_one(name: str, value: int) -> int:
    from gradquake.errors import require_count

    require_count(name, value, 1)
    return value


def _jobs(jobs: int | None) -> int:
    from gradquake.execution import available_cores

    return available_cores() if jobs is None else _at_least_one("--jobs", jobs)


def _integers(name: str, text: str) -> list[int]:
    from gradquake.errors import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{name} is {text!r}; integers separated by commas are needed, such as 20,50,120"
        ) from None


def _settings(pairs: list[str]) -> dict[str, Any]:
    from gradquake.errors import require

    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        require(bool(name and equals), f"--where is {pair!r}; name=value is needed")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs"),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task("measuring", total=total)

    def advance(stage: str, runs: int) -> None:
        # Not before there is progress: what is wrong with the input is found, and said, first.
        bar.start()
        bar.update(task, description=stage, advance=runs)

    try:
        yield advance
    except KeyboardInterrupt:
        raise _InterruptError(
            "interrupted; what was finished is kept, and the same command continues from there"
        ) from None
    finally:
        if bar.live.is_started:
            bar.stop()


def _console() -> Console:
    from rich.console import Console

    console = Console()
    # In a file or a pipe nothing wraps for want of width.
    return console if console.is_terminal else Console(width=160)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


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
    print("null: the same statistic on Gaussian gradients of the same sizes, seeds and graphs.")


def _print_claims_table(claims: list[Claim], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    from gradquake.paper.reproduce import with_interval, with_null

    table = Table(title="The paper's claims and what was measured", title_justify="left")
    for name in ("id", "claim", "paper", "measured", "value [95 % interval]", "null", "verdict"):
        table.add_column(name, no_wrap=name in ("id", "value [95 % interval]", "null", "verdict"))
    for claim in claims:
        verdict = f"[{VERDICT_STYLES[claim.verdict]}]{claim.verdict}[/]"
        head = [claim.id, claim.claim, claim.paper]
        for i, quantity in enumerate(claim.quantities):
            table.add_row(
                *(head if i == 0 else ["", "", ""]),
                quantity.name,
                escape(with_interval(quantity)),
                escape(with_null(quantity)),
                verdict if i == 0 else "",
            )
        table.add_section()
    console.print(table)


def _print_claims_stacked(claims: list[Claim]) -> None:
    from gradquake.paper.reproduce import with_interval, with_null

    for claim in claims:
        print(f"{claim.id}: {claim.verdict}\n  {claim.claim}; paper: {claim.paper}")
        for quantity in claim.quantities:
            null = with_null(quantity)
            print(f"  {quantity.name}: {with_interval(quantity)}" + (f"; null {null}" if null else ""))
        print()


def _analysis_json(analysis: SweepAnalysis, null: SweepAnalysis) -> dict[str, Any]:
    def exponents(of: SweepAnalysis, statistic: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for (window, name), exponent in of.exponents.items():
            if name == statistic:
                snapshots = of.snapshot_interval(window, name)
                found[window] = {
                    "estimate": _finite(exponent.estimate),
                    "ci_low": _finite(exponent.interval.low),
                    "ci_high": _finite(exponent.interval.high),
                    "snapshot_ci_low": _finite(snapshots.low),
                    "snapshot_ci_high": _finite(snapshots.high),
                    "r_squared": _finite(exponent.fit.r_squared),
                    "message": exponent.fit.message,
                }
        return found

    def curves(of: SweepAnalysis) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for statistic, curve in of.curves.items():
            names = ("exponent", "ci_low", "ci_high", "r_squared")
            columns = {name: curve.dimension[name].values.tolist() for name in names}
            found[statistic] = {
                "epoch": curve.dimension["epoch"].values.tolist(),
                **{name: [_finite(value) for value in column] for name, column in columns.items()},
                "crossing": _finite(curve.crossing),
                "crossing_ci_low": _finite(curve.crossing_interval.low),
                "crossing_ci_high": _finite(curve.crossing_interval.high),
                "resamples_without_crossing": curve.crossing_interval.invalid,
            }
        return found

    return {
        "settings": analysis.dataset.attrs,
        "D": exponents(analysis, "max"),
        "gamma": exponents(analysis, "mean"),
        "nulls": {
            "gaussian": {
                "D": exponents(null, "max"),
                "gamma": exponents(null, "mean"),
                "D_t": curves(null),
            }
        },
        "D_t": curves(analysis),
        "grokking": [
            {
                "n_parameters": scale.n_parameters,
                "median": _finite(scale.median),
                "ci_low": _finite(scale.interval.low),
                "ci_high": _finite(scale.interval.high),
                "runs": len(scale.epochs),
                "runs_that_grok": sum(epoch == epoch for epoch in scale.epochs),
            }
            for scale in analysis.grokking
        ],
    }


def _print_analysis(analysis: SweepAnalysis, null: SweepAnalysis) -> None:
    from rich.markup import escape
    from rich.table import Table

    from gradquake.paper.reproduce import number

    console = _console()
    settings = ", ".join(f"{name}={value}" for name, value in analysis.dataset.attrs.items())
    print(f"{analysis.dataset.sizes['run']} runs: {settings}\n")
    table = Table(title="Exponents [95 % interval over runs]", title_justify="left")
    for name in ("window", "exponent", "measured", "by snapshots*", "R²", "Gaussian null", "note"):
        table.add_column(name)
    symbols = {"max": "D (largest)", "mean": "gamma (mean)"}
    for (window, statistic), found in analysis.exponents.items():
        beside = null.exponents[window, statistic]
        snapshots = analysis.snapshot_interval(window, statistic)
        cells = (
            window,
            symbols[statistic],
            _with_interval(found.estimate, found.interval),
            _with_interval(None, snapshots),
            number(found.fit.r_squared),
            _with_interval(beside.estimate, beside.interval),
            found.fit.message,
        )
        table.add_row(*map(escape, cells))
    console.print(table)
    for statistic, curve in analysis.curves.items():
        values, level = curve.dimension["exponent"].values, null.curves[statistic].dimension["exponent"]
        print(
            f"D(t), {statistic}: from {number(values.min())} to {number(values.max())}, at the end "
            f"{number(values[-1])}; {_crossing(curve)}. "
            f"Gaussian null: mean {number(float(level.mean()))}; {_crossing(null.curves[statistic])}"
        )
    first, last = analysis.grokking_window
    if first == first:
        print(f"runs grok at epochs {number(first)} to {number(last)}")
    print("* bootstrap over single snapshots, which are not independent: too narrow")
    if any(len(scale.epochs) == 1 for scale in analysis.grokking):
        print("a size has a single run, so that there are no intervals over runs")


def _crossing(curve: Curve) -> str:
    from gradquake.paper.reproduce import number

    if curve.crossing != curve.crossing:
        return "does not cross 1 from below"
    interval = curve.crossing_interval
    text = f"crosses 1 from below at epoch {number(curve.crossing)}"
    if interval.low == interval.low:
        return f"{text} [{number(interval.low)}, {number(interval.high)}]"
    return f"{text} (no interval: {interval.invalid:.0%} of the resamples do not cross)"


def _with_interval(value: float | None, interval: Interval) -> str:
    from gradquake.paper.reproduce import number

    text = "" if value is None else f"{number(value)} "
    return f"{text}[{number(interval.low)}, {number(interval.high)}]"


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None
