"""Messages on the command line: options by their flags."""

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from gradquake import InputError
from gradquake.cli.app import app
from gradquake.cli.terminal import Command, with_flags

FLAGS = {
    name: f"--{name.replace('_', '-')}"
    for name in ("jobs", "scheduler", "out", "sample", "match", "seed", "max_steps", "alpha_train")
} | {"label": "--label", "labels": "--label"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("jobs is 0; an integer is needed", "--jobs is 0; an integer is needed"),
        ("jobs and scheduler were both given", "--jobs and --scheduler were both given"),
        ("out, labels are for files", "--out, --label are for files"),
        ("max_steps is 0; fewer", "--max-steps is 0; fewer"),
        ("all is well; with alpha_train 0 it is not", "all is well; with --alpha-train 0 it is not"),
        ("labels names size", "--label names size"),
        ("x in labels is nan; text", "x in --label is nan; text"),
        ("measure fewer with sample", "measure fewer with --sample"),
        ("choose one with match, such as 'a'", "choose one with --match, such as 'a'"),
        # Words, values and other names stay as they are.
        (
            "the label seed is 3 and the probe's seed is 0",
            "the label seed is 3 and the probe's seed is 0",
        ),
        ("a sample is needed", "a sample is needed"),
        ("leave it out, or choose a match", "leave it out, or choose a match"),
        ("out is no/max_steps/s; a name is needed", "--out is no/max_steps/s; a name is needed"),
        ("seeds is 0; jobs is 1", "seeds is 0; jobs is 1"),
        ("--jobs is 0", "--jobs is 0"),
        ("", ""),
    ],
)
def test_options_are_named_by_their_flags(message, expected):
    assert with_flags(message, FLAGS) == expected
    assert with_flags(expected, FLAGS) == expected
    assert with_flags(message, {}) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run xor --out s --jobs 0", "--jobs is 0; an integer of at least 1 is needed"),
        ("run xor --out s --jobs 1 --scheduler tcp://h:1", "--jobs and --scheduler were both given; "),
        ("run xor --out s --hidden 3,3", "--hidden is [3, 3], which repeats a size"),
        ("run xor --out s --seeds 0", "--seeds is 0; an integer of at least 1 is needed"),
        (
            "run xor --out s --alpha-train 0 --permute-train",
            "--topology-train is 'none' and --permute-train True; with --alpha-train 0 nothing",
        ),
        ("run synthetic --out s --n-parameters 3", "--n-parameters is 3; an integer of at least 5"),
        ("run modular_addition --out s --train-share 1.5", "--train-share is 1.5; a number in (0, 1)"),
        ("reproduce --jobs 0 --out s", "--jobs is 0; an integer of at least 1 is needed"),
        ("reproduce modadd --quick --out s", "--quick is for the paper xor"),
    ],
)
def test_an_error_of_a_command_names_its_options(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = CliRunner().invoke(app, arguments.split()).exception
    assert isinstance(error, InputError)
    assert str(error).startswith(message)


def test_every_command_names_its_options_so():
    commands = dict(get_command(app).commands)
    experiments = commands.pop("run")
    made = [experiments.get_command(None, name) for name in ("xor", "synthetic")]
    assert all(isinstance(command, Command) for command in (*commands.values(), *made))
