"""Study files: real SQLite files, their damage, their concurrent use, and killed writers."""

import contextlib
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from gradquake.errors import InputError, StudyError
from gradquake.experiments import xor
from gradquake.study.configuration import config_key, sweep_settings
from gradquake.study.execution import sole_sweep
from gradquake.study.recording import VARIABLES, RunRecord, stored_type, to_dataset
from gradquake.study.schema import SCHEMA
from gradquake.study.study import open_study

SETTINGS = {"experiment": "test", "alpha": 0.3, "topology": "ring"}

# A writer that never stops by itself: batches of whole runs, a line printed for each.
WRITER = """
import sys, itertools
import numpy as np
from gradquake.study.recording import VARIABLES, RunRecord
from gradquake.study.study import open_study

path, first, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
values = {name: np.arange(3000).astype(kind) for name, (kind, _) in VARIABLES.items()}
with open_study(path, create=True) as study:
    for seed in itertools.count(first, batch):
        study.write([
            RunRecord({"experiment": "t", "n_parameters": 41, "seed": s}, s, np.arange(3000), values)
            for s in range(seed, seed + batch)
        ])
        print(seed + batch, flush=True)
"""


def record(n_parameters=41, seed=0, grokking_epoch=7, snapshots=5, **changed):
    """A record of arbitrary bits: NaN, infinities and subnormal numbers among them."""
    rng = np.random.default_rng((n_parameters, seed))
    values = {
        name: np.frombuffer(rng.bytes(np.dtype(kind).itemsize * snapshots), kind)
        for name, (kind, _) in VARIABLES.items()
    }
    config = SETTINGS | {"n_parameters": n_parameters, "seed": seed} | changed
    return RunRecord(config, grokking_epoch, np.arange(snapshots) * 10, values)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.gq"


@pytest.fixture
def study(path):
    with open_study(path, create=True) as opened:
        yield opened


def refusal(path, **options):
    """The message with which a file is refused; whatever is wrong with it, one sentence."""
    with pytest.raises(StudyError) as caught, open_study(path, **options) as opened:
        _ = opened.contents(), opened.dataset
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# What is written is read


@pytest.mark.parametrize("grokking_epoch", [None, 0, 134])
def test_a_run_is_read_bit_for_bit(path, grokking_epoch):
    written = record(grokking_epoch=grokking_epoch, snapshots=51)
    with open_study(path, create=True) as study:
        study.write([written])
    with open_study(path) as study:
        dataset = study.dataset
    for name in VARIABLES:
        assert dataset[name].values.dtype == np.dtype(stored_type(name))
        assert dataset[name].values[0].tobytes() == written.values[name].tobytes(), name
    assert dataset["epoch"].values.tolist() == written.epochs.tolist()
    expected = np.nan if grokking_epoch is None else float(grokking_epoch)
    np.testing.assert_array_equal(dataset["grokking_epoch"].values, [expected])
    assert dataset.attrs == SETTINGS


def test_a_trained_sweep_is_read_as_it_was_measured(study):
    records = xor.measure(xor.sweep((5, 20), 2, epochs=60, alpha_train=0.1))
    study.write(records)
    assert study.dataset.equals(to_dataset(records))
    assert study.dataset.attrs == to_dataset(records).attrs


def test_what_is_written_in_any_order_reads_as_one_dataset(study):
    records = [record(n, seed) for n in (41, 81, 201) for seed in range(3)]
    for i in np.random.default_rng(0).permutation(9):
        study.write([records[i]])
    assert study.dataset.identical(to_dataset(records))


def test_a_dataset_read_from_a_file_may_be_changed(study):
    study.write([record()])
    dataset = study.dataset
    dataset["size"].values[:] = 0
    assert (study.dataset["size"].values != 0).any()


def test_a_study_may_be_closed_and_continued(path):
    for seed in range(3):
        with open_study(path, create=True) as study:
            study.write([record(seed=seed)])
    with open_study(path) as study:
        assert study.dataset["seed"].values.tolist() == [0, 1, 2]


def test_the_software_behind_every_run_is_kept(path, study):
    study.write([record()])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((software,),) = connection.execute("SELECT software FROM runs")
    for name in ("gradquake", "python", "numpy", "scipy", "numba"):
        assert f'"{name}": "' in software


# Transactions


def test_a_run_stored_twice_is_refused_and_nothing_is_half_written(path, study):
    study.write([record(seed=0)])
    before = study.dataset
    with pytest.raises(StudyError, match="already holds this run") as caught:
        study.write([record(seed=1), record(seed=0)])
    assert str(path) in str(caught.value)
    assert study.keys() == {record(seed=0).key}
    assert study.dataset.identical(before)
    assert rows_without_a_run(path) == 0


def test_a_batch_with_what_cannot_be_stored_leaves_nothing(path, study):
    broken = RunRecord(record(seed=1).config, None, np.arange(2), {"size": np.array(["many", "few"])})
    with pytest.raises(InputError, match="size include 'many', which cannot be stored"):
        study.write([record(seed=0), broken])
    assert study.keys() == set()
    assert rows_without_a_run(path) == 0
    study.write([record(seed=0)])
    assert len(study.keys()) == 1


def rows_without_a_run(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        sql = "SELECT count(*) FROM measurements WHERE run NOT IN (SELECT id FROM runs)"
        return connection.execute(sql).fetchone()[0]


@pytest.mark.parametrize(
    ("values", "kept"),
    [([1.0, 2.0], True), ([1.5, 2.0], False), ([np.inf, 1], False), ([np.nan, 1], False),
     (np.array([1, 2], np.uint8), True), ([2.0**63, 1], False), ([1j, 2], False)],
)  # fmt: skip
def test_a_size_is_stored_as_it_is_or_refused(study, values, kept):
    written = RunRecord(record().config, None, np.arange(2), {"size": np.array(values)})
    if kept:
        study.write([written])
        assert study.dataset["size"].values.tolist() == [[1, 2]]
    else:
        with pytest.raises(
            InputError, match=r"measurements of size include .*, which cannot be stored; int64 numbers"
        ):
            study.write([written])


ODD = [
    ({"seed": None}, "whose seed is None; an integer of 64 bits is needed"),
    ({"seed": 1.0}, "whose seed is 1.0; an integer of 64 bits"),
    ({"seed": 2**63}, "whose seed is 9223372036854775808"),
    ({"n_parameters": 0}, "whose n_parameters is 0; an integer from 1 to"),
    ({"n_parameters": -5}, "whose n_parameters is -5"),
    ({"n_parameters": "many"}, "whose n_parameters is 'many'"),
    ({"n_parameters": None}, "whose n_parameters is None"),
    ({"hidden": -1}, "whose hidden is -1"),
    ({"labels": {"a": {"b": 1}}}, "a mapping to text and numbers is needed"),
    ({"labels": {"a": None}}, "a mapping to text and numbers is needed"),
    ({"labels": 3}, "whose labels is 3"),
    ({"surrogate": ["gaussian"]}, r"whose surrogate is \['gaussian'\]; text is needed"),
    ({"x" * 999: {1}}, "cannot be stored .*set is not JSON"),
    ({"lr": np.float32(1)}, "cannot be stored .*float32 is not JSON"),
    ({3: 1}, "cannot be stored .*not supported between"),
]


@pytest.mark.parametrize(("changed", "said"), ODD, ids=str)
def test_a_run_that_could_not_be_read_is_not_written(path, study, changed, said):
    odd = RunRecord(record().config | changed, None, np.arange(2), {"size": np.ones(2)})
    for write in (
        lambda: study.write([odd]),
        lambda: study.plan([odd.config]),
        lambda: study.begin([record(seed=5).config, odd.config]),
    ):
        with pytest.raises(InputError, match=said) as caught:
            write()
        assert str(caught.value).isprintable()
    assert study.contents() == []
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM unfinished").fetchone() == (0,)


@pytest.mark.parametrize("setting", [math.nan, math.inf, ["a", [1]], {"a": {}}, None, True, "\x1b[2J"])
def test_a_sweep_is_itself_whatever_its_settings_are(study, setting):
    for seed in range(2):
        study.write([record(seed=seed, odd=setting), record(seed=seed, odd=setting, surrogate="real")])
        study.write([record(seed=seed, odd=setting, surrogate="gaussian"), record(seed=seed, odd=0.5)])
    assert [sweep["runs"] for sweep in study.contents()] == [2, 2, 2, 2]
    assert study.select(odd=setting, surrogate="gaussian").sizes["run"] == 2
    sweep, nulls = study.with_nulls(odd=setting)
    assert sweep.sizes["run"] == nulls["gaussian"].sizes["run"] == 2
    assert study.dataset_of([record(odd=setting).config]).sizes["run"] == 1


def test_a_path_is_absolute_from_the_start(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    with open_study("runs.sqlite", create=True) as study:
        monkeypatch.chdir("there")
        study.write([record()])
        assert study.path == tmp_path / "runs.sqlite"
        with sole_sweep(study):
            assert not any(tmp_path.joinpath("there").iterdir())
        with open_study(study.path) as reader:
            assert len(reader.keys()) == 1


def test_a_folder_that_is_gone_is_told(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(StudyError, match="cannot be reached: No such file or directory"):
        open_study("runs.sqlite")


@pytest.mark.parametrize("how", ["removed", "replaced", "folder removed", "renamed"])
def test_a_file_that_is_gone_while_it_is_open_is_told(tmp_path, how):
    folder = tmp_path / "there"
    folder.mkdir()
    path = folder / "runs.sqlite"
    with open_study(path, create=True) as study:
        study.write([record()])
        (run,) = study.begin([record(seed=2).config])
        if how == "removed":
            path.unlink()
        elif how == "replaced":
            path.unlink()
            open_study(path, create=True).close()
        elif how == "folder removed":
            shutil.rmtree(folder)
        else:
            path.rename(folder / "other.sqlite")
        for call in (
            study.keys,
            study.records,
            study.unfinished,
            lambda: study.dataset,
            lambda: study.write([record(seed=1)]),
            lambda: study.append({run: SNAPSHOTS}),
            lambda: study.finish([run]),
            lambda: study.begin([record(seed=3).config]),
        ):
            with pytest.raises(
                StudyError, match="was removed or replaced while it was open; put it back"
            ):
                call()
        assert "runs.sqlite" in repr(study)
        if how == "renamed":
            (folder / "other.sqlite").rename(path)
            study.append({run: SNAPSHOTS})


# What a study says of itself


def test_a_study_is_named_in_one_line_open_closed_or_damaged(path, study):
    expected = f"Study({str(path)!r})"
    assert repr(study) == expected
    study.close()
    assert repr(study) == expected


def test_an_empty_study(study):
    assert study.keys() == set()
    assert study.missing() == study.contents() == study.sweeps == []
    with pytest.raises(StudyError, match=r"holds no finished run$"):
        _ = study.dataset


def test_missing_is_what_was_planned_and_is_not_done(study):
    records = [record(seed=seed) for seed in range(4)]
    study.plan([r.config for r in records])
    study.plan([r.config for r in records[:2]])
    study.write([records[2]])
    study.write([record(seed=9)])
    missing = {config_key(config) for config in study.missing()}
    assert missing == {r.key for r in (records[0], records[1], records[3])}
    assert study.keys() == {records[2].key, record(seed=9).key}
    study.write([records[0], records[1], records[3]])
    assert study.missing() == []


def test_plans_survive_closing(path):
    with open_study(path, create=True) as study:
        study.plan([record().config])
    with open_study(path) as study:
        assert study.missing() == [record().config]


def test_contents_summarise_every_sweep(study):
    study.write([record(n, seed, seed or None) for n in (81, 41) for seed in range(3)])
    study.write([record(41, 5, alpha=0.2)])
    first, second = study.contents()
    assert first["settings"] == SETTINGS
    assert second["settings"] == SETTINGS | {"alpha": 0.2}
    assert (first["runs"], second["runs"]) == (6, 1)
    assert (first["n_parameters"], second["n_parameters"]) == ([41, 81], [41])
    assert (first["seeds"], second["seeds"]) == ([0, 1, 2], [5])
    assert (first["grokked"], second["grokked"]) == (4, 1)
    assert study.sweeps == [first["settings"], second["settings"]]


def test_several_sweeps_need_a_choice_and_the_error_names_what_differs(path, study):
    study.write([record(), record(alpha=0.2), record(alpha=0.2, topology="torus")])
    with pytest.raises(
        StudyError, match=r"differ: alpha \(0.2, 0.3\); topology \(ring, torus\)$"
    ) as caught:
        _ = study.dataset
    assert str(path) in str(caught.value)
    with pytest.raises(StudyError, match=r"holds 2 sweeps with alpha=0.2; .* differ: topology"):
        study.select(alpha=0.2)
    with pytest.raises(StudyError, match=r"with alpha=0.5, topology='ring'; its settings are alpha, "):
        study.select(alpha=0.5, topology="ring")


def test_a_setting_that_only_one_sweep_has_is_named_too(study):
    study.write([record(), record(std=0.5)])
    with pytest.raises(StudyError, match=r"differ: std \(0.5\)$"):
        _ = study.dataset


def test_select_gives_the_whole_sweep_and_nothing_else(study):
    ours = [record(n, seed, alpha=0.2) for n in (81, 41) for seed in range(2)]
    study.write([record(), *ours, record(201, 5)])
    assert study.select(alpha=0.2).identical(to_dataset(ours))
    assert study.select(alpha=0.3)["n_parameters"].values.tolist() == [41, 201]


def test_dataset_of_gives_exactly_the_runs_asked_for(study):
    records = [record(n, seed) for n in (41, 81) for seed in range(3)]
    study.write([*records, record(alpha=0.2)])
    chosen = [records[4], records[1]]
    assert study.dataset_of([r.config for r in chosen]).identical(to_dataset(chosen))


def test_dataset_of_a_run_that_is_not_there_is_refused(path, study):
    study.write([record(seed=0)])
    with pytest.raises(StudyError, match="does not hold the run") as caught:
        study.dataset_of([record(seed=0).config, record(seed=1).config])
    assert str(path) in str(caught.value)
    assert record(seed=1).key in str(caught.value)


# Opening


def test_a_missing_file_is_refused_and_not_made(path):
    assert "does not exist" in refusal(path)
    assert not path.exists()


def test_a_study_is_made_where_asked_for(path):
    with open_study(str(path), create=True) as study:
        assert study.keys() == set()
    with open_study(path) as study:
        assert study.keys() == set()


def test_a_file_in_a_missing_folder_is_refused(tmp_path):
    assert "there is no folder" in refusal(tmp_path / "nowhere" / "study.gq", create=True)


@pytest.mark.parametrize("create", [False, True])
def test_a_folder_is_refused(tmp_path, create):
    assert "is a folder; a study is a file" in refusal(tmp_path, create=create)


def test_an_empty_file_is_no_study_but_may_become_one(path):
    path.touch()
    refusal(path)
    assert path.stat().st_size == 0
    with open_study(path, create=True) as study:
        study.write([record()])
    with open_study(path) as study:
        assert len(study.keys()) == 1


NOT_STUDIES = {
    "text": b"size,duration\n12,3\n" * 400,
    "a short text": b"hello",
    "random bytes": np.random.default_rng(0).bytes(20_000),
    "zeros": bytes(8192),
}


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("content", NOT_STUDIES.values(), ids=NOT_STUDIES)
def test_a_file_of_another_kind_is_refused_and_left_alone(path, content, create):
    path.write_bytes(content)
    assert "not a gradquake study" in refusal(path, create=create)
    assert path.read_bytes() == content


@pytest.mark.parametrize("create", [False, True])
def test_another_database_is_refused_and_left_alone(path, create):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, key TEXT)")
    content = path.read_bytes()
    assert "is an SQLite file, but not a gradquake study" in refusal(path, create=create)
    assert path.read_bytes() == content


def test_another_schema_is_refused_by_its_number(path):
    with open_study(path, create=True):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    assert refusal(path, create=True) == (
        f"{path} has schema 99, and this version of gradquake reads schema {SCHEMA} alone; measure the "
        "runs again into a new file, or use the version that wrote this one"
    )


def test_a_study_without_its_tables_is_refused(path):
    with open_study(path, create=True):
        pass
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE runs")
    assert "its tables are not those of a study" in refusal(path)


def test_the_context_closes_the_file(path):
    with open_study(path, create=True) as study:
        study.write([record()])
    with pytest.raises(StudyError, match="closed"):
        study.keys()
    assert os.listdir(path.parent) == [path.name]


def test_the_context_closes_the_file_after_an_error(path):
    with pytest.raises(ZeroDivisionError), open_study(path, create=True) as study:
        _ = 1 / 0
    with pytest.raises(StudyError, match="closed"):
        study.plan([record().config])


# Damage


@pytest.fixture
def whole(path):
    """The bytes of a closed study with a dozen runs."""
    with open_study(path, create=True) as study:
        study.write([record(seed=seed, snapshots=51) for seed in range(12)])
    return path.read_bytes()


@pytest.mark.parametrize("kept", [50, 100, 500, 4096, 0.25, 0.5, 0.9])
def test_a_truncated_study_is_refused(path, whole, kept):
    path.write_bytes(whole[: kept if kept > 1 else int(kept * len(whole))])
    refusal(path)


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_in_a_measurement_is_found(path, whole, name, bit):
    data = record(seed=5, snapshots=51).values[name].tobytes()
    # The middle of the array; none of its neighborhood occurs elsewhere in the file.
    at = whole.index(data[len(data) // 2 :][:20])
    damaged = bytearray(whole)
    damaged[at] ^= 1 << bit
    path.write_bytes(damaged)
    with open_study(path) as study, pytest.raises(StudyError, match="is damaged") as caught:
        _ = study.dataset
    assert "the measurements of run 6 do not match their checksum" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_leaves_the_other_runs_readable(path, whole):
    at = whole.index(record(seed=5, snapshots=51).values["loss"].tobytes()[:20])
    damaged = bytearray(whole)
    damaged[at] ^= 1
    path.write_bytes(damaged)
    others = [record(seed=seed, snapshots=51) for seed in range(12) if seed != 5]
    with open_study(path) as study:
        assert study.dataset_of([r.config for r in others]).identical(to_dataset(others))


@pytest.mark.parametrize("seed", range(40))
def test_a_page_of_noise_is_found_or_changes_nothing(path, whole, seed):
    rng = np.random.default_rng(seed)
    page = int(rng.integers(1, len(whole) // 4096))
    path.write_bytes(whole[: 4096 * page] + rng.bytes(4096) + whole[4096 * (page + 1) :])
    expected = to_dataset([record(seed=seed, snapshots=51) for seed in range(12)])
    with contextlib.suppress(StudyError), open_study(path) as study:
        assert study.dataset.identical(expected)


# Several connections, and killed writers


def test_a_second_connection_reads_what_is_committed_while_the_first_writes(path, study):
    study.write([record(seed=0)])
    with contextlib.closing(sqlite3.connect(path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute(
            "INSERT INTO runs (key, software, measured, tensors, checksum) "
            "VALUES ('{}', '', '{}', '{}', 0)"
        )
        with open_study(path) as reader:
            assert reader.keys() == {record(seed=0).key}
            assert reader.dataset.identical(to_dataset([record(seed=0)]))
        writer.rollback()


def write_seeds(path, seeds):
    with open_study(path) as study:
        for seed in seeds:
            study.write([record(seed=seed, snapshots=51)])


def test_a_reader_sees_whole_runs_only_while_a_thread_writes(path, study):
    writer = threading.Thread(target=write_seeds, args=(path, range(60)))
    writer.start()
    counts = [check_whole_runs(study)]
    while writer.is_alive():
        counts.append(check_whole_runs(study))
    writer.join()
    counts.append(check_whole_runs(study))
    assert counts == sorted(counts)
    assert counts[-1] == 60


def check_whole_runs(study):
    """Assert that the study holds seeds 0, 1, ... complete, and return how many."""
    keys = study.keys()
    seeds = sorted(json.loads(key)["seed"] for key in keys)
    assert seeds == list(range(len(seeds)))
    records = [record(seed=seed, snapshots=51) for seed in seeds]
    if records:
        assert study.dataset_of([r.config for r in records]).identical(to_dataset(records))
    return len(seeds)


def test_two_connections_write_in_turn(path, study):
    with open_study(path) as other:
        for seed in range(0, 6, 2):
            study.write([record(seed=seed)])
            other.write([record(seed=seed + 1)])
        assert study.keys() == other.keys() == {record(seed=seed).key for seed in range(6)}
        with pytest.raises(StudyError, match="already holds this run"):
            other.write([record(seed=0)])


def test_a_killed_writer_leaves_whole_runs_only(path):
    batch = 20
    for attempt, lines in enumerate((1, 3, 6)):
        first = 100_000 * attempt
        announced = seeds_announced_until_killed([path, first, batch], lines)
        with open_study(path) as study:
            dataset = study.dataset
        ours = dataset["seed"].values[dataset["seed"].values >= first]
        assert ours.size >= announced - first
        assert ours.size % batch == 0
        assert dataset.sizes["run"] == len(study_keys(path))
        assert set(dataset.data_vars) == set(VARIABLES)
        assert (dataset["size"].values == np.arange(3000)).all()
        assert np.array_equal(dataset["grokking_epoch"].values, dataset["seed"].values)
        assert rows_without_a_run(path) == 0


def seeds_announced_until_killed(arguments, lines):
    """Start a writer, kill it after some lines, and return the last seed it said was written."""
    command = [sys.executable, "-c", WRITER, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        said = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL
    return int(said[-1])


def study_keys(path):
    with open_study(path) as study:
        return study.keys()


def test_sweep_settings_of_what_is_stored_are_those_of_its_sweep(study):
    study.write([record()])
    assert study.sweeps == [sweep_settings(record().config)]


def test_every_flipped_byte_is_noticed_or_harmless(path):
    """Whatever bit of a study is flipped, what is read is what was written, or a StudyError."""
    written = record(seed=0, snapshots=3)
    with open_study(path, create=True) as study:
        study.plan([written.config])
        study.write([written])
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    noticed = 0
    for place in rng.choice(len(whole), 400, replace=False):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            with open_study(path) as study:
                assert study.keys() == {written.key}
                assert study.contents()[0]["runs"] == 1
                assert study.dataset.identical(to_dataset([written]))
        except StudyError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            noticed += 1
    assert noticed > 0


def test_a_changed_configuration_is_noticed(path):
    with open_study(path, create=True) as study:
        study.write([record(seed=0)])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE runs SET grokking_epoch = 1")
    with (
        open_study(path) as study,
        pytest.raises(StudyError, match="a row of runs does not match its checksum"),
    ):
        study.keys()


def test_a_lost_measurement_is_noticed(path):
    with open_study(path, create=True) as study:
        study.write([record(seed=0)])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM measurements")
    with (
        open_study(path) as study,
        pytest.raises(StudyError, match="the measurements of run 1 are missing"),
    ):
        _ = study.dataset


# Runs that are written while they train

SNAPSHOTS = {
    0: {"size": 4, "threshold": 0.5, "truncated": False},
    10: {"size": 7, "threshold": 0.25, "truncated": True, "valid_loss": 0.125},
}


def test_an_unfinished_run_is_read_as_far_as_it_is_and_then_becomes_a_run(path, study):
    config = record(seed=5).config
    (run,) = study.begin([config])
    assert study.unfinished() == []
    study.append({run: SNAPSHOTS})
    with open_study(path) as reader:
        (found,) = reader.unfinished()
        assert reader.keys() == set()
    assert (found.config, found.grokking_epoch) == (config, None)
    assert found.epochs.tolist() == [0, 10]
    assert found.values["size"].tolist() == [4, 7]
    assert found.values["size"].dtype == np.int64
    assert found.values["truncated"].tolist() == [False, True]
    np.testing.assert_array_equal(found.values["valid_loss"], [np.nan, 0.125])
    study.append({run: {10: SNAPSHOTS[10] | {"size": 8}, 20: SNAPSHOTS[0]}}, 20)
    study.append({run: {}}, 10)
    assert study.grokking_epoch(run) == 10
    study.finish([run])
    assert study.unfinished() == []
    dataset = study.dataset
    assert dataset["size"].values.tolist() == [[4, 8, 4]]
    np.testing.assert_array_equal(dataset["valid_loss"].values, [[np.nan, 0.125, np.nan]])
    assert dataset["grokking_epoch"].values.tolist() == [10]
    with pytest.raises(
        StudyError, match=r"holds the finished run seed=5 already; to .* another label or another study"
    ):
        study.begin([config])
    with pytest.raises(StudyError, match="no longer holds the run that was begun here"):
        study.append({run: SNAPSHOTS})


def test_an_unfinished_run_is_continued_only_from_a_step(study):
    config = record(seed=5).config
    (run,) = study.begin([config])
    study.append({run: SNAPSHOTS | {20: SNAPSHOTS[0]}}, 20)
    with pytest.raises(StudyError, match="measured to step 20; give the step to continue it from"):
        study.begin([config])
    assert study.unfinished()[0].epochs.tolist() == [0, 10, 20]
    study.begin([config], step=15)
    (found,) = study.unfinished()
    assert found.epochs.tolist() == [0, 10]
    assert found.grokking_epoch is None


def test_who_continues_a_run_owns_it(study):
    config = record(seed=5).config
    (before,) = study.begin([config])
    study.append({before: SNAPSHOTS}, 0)
    (after,) = study.begin([config], step=5)
    for call in (lambda: study.append({before: SNAPSHOTS}), lambda: study.finish([before])):
        with pytest.raises(StudyError, match="another process continued it"):
            call()
    assert study.grokking_epoch(after) == 0
    study.append({after: {7: SNAPSHOTS[0]}}, 0)
    (found,) = study.unfinished()
    assert found.epochs.tolist() == [0, 7]
    assert found.grokking_epoch == 0


def test_of_several_runs_all_are_begun_and_written_or_none(study):
    configs = [record(seed=seed).config for seed in range(3)]
    (run,) = study.begin(configs[2:])
    study.append({run: SNAPSHOTS})
    with pytest.raises(StudyError, match="unfinished run"):
        study.begin(configs)
    runs = study.begin(configs[:2])
    with pytest.raises(StudyError, match="no longer holds"):
        study.append({runs[0]: SNAPSHOTS, 1: SNAPSHOTS})
    assert [found.key for found in study.unfinished()] == [config_key(configs[2])]


@pytest.mark.parametrize("step", [None, 0, 30])
def test_a_run_of_which_nothing_was_measured_begins_anew(study, step):
    config = record(seed=5).config
    (before,) = study.begin([config])
    study.append({before: {}}, 20)
    (run,) = study.begin([config], step)
    with pytest.raises(StudyError, match="another process continued it"):
        study.append({before: SNAPSHOTS})
    assert study.grokking_epoch(run) == (20 if step else None)
    study.append({run: SNAPSHOTS})
    assert study.unfinished()[0].grokking_epoch is None
    study.finish([run])
    assert study.keys() == {config_key(config)}


def test_a_run_of_which_nothing_was_measured_leaves_nothing_when_it_is_finished(path, study):
    configs = [record(seed=seed).config for seed in range(2)]
    runs = study.begin(configs)
    study.append({runs[1]: SNAPSHOTS})
    study.finish(runs)
    assert study.keys() == {config_key(configs[1])}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM unfinished").fetchone() == (0,)


def test_a_finished_run_goes_on_as_if_it_had_never_been_finished(study, tmp_path):
    config = record(seed=5).config
    after = {60: SNAPSHOTS[0], 70: SNAPSHOTS[10] | {"size": 9}}
    (run,) = study.begin([config])
    study.append({run: SNAPSHOTS}, 17)
    study.finish([run])
    assert study.reached(config) == 10
    (run,) = study.begin([config], step=60)
    (found,) = study.unfinished()
    assert study.keys() == set()
    assert (found.epochs.tolist(), found.grokking_epoch) == ([0, 10], 17)
    study.append({run: after}, study.grokking_epoch(run))
    study.finish([run])
    with open_study(tmp_path / "whole.sqlite", create=True) as other:
        (run,) = other.begin([config])
        other.append({run: SNAPSHOTS | after}, 17)
        other.finish([run])
        assert study.dataset.identical(other.dataset)


def test_a_continued_run_keeps_every_bit(study):
    finished = record(seed=5)
    study.write([finished])
    (run,) = study.begin([finished.config], step=41)
    study.finish([run])
    (found,) = study.records()
    assert found.grokking_epoch == finished.grokking_epoch
    assert found.values.keys() == finished.values.keys()
    for name, values in finished.values.items():
        np.testing.assert_array_equal(found.values[name], values)


@pytest.mark.parametrize(
    ("grokking_epoch", "step", "last"), [(7, 40, 40), (7, 0, 40), (None, 39, 40), (57, 57, 57)]
)
def test_continuing_removes_no_finished_measurement(study, grokking_epoch, step, last):
    finished = record(seed=5, grokking_epoch=grokking_epoch)
    study.write([finished, record(seed=6)])
    other = record(seed=7).config
    with pytest.raises(
        StudyError, match=rf"already, to step {last}; continuing it at step {step} would remove finished"
    ):
        study.begin([other, finished.config], step)
    assert len(study.keys()) == 2
    assert study.reached(finished.config) == 40
    study.begin([other, finished.config], last + 1)


def test_a_process_killed_while_it_continues_a_finished_run_loses_nothing(path, study):
    configs = [record(seed=seed).config for seed in range(3)]
    study.write([record(seed=seed) for seed in range(3)])
    code = f"""
import json, os, sys
from gradquake.study.study import open_study
study = open_study({str(path)!r})
study._journal._seal = lambda run: os.kill(os.getpid(), 9)
study.begin(json.loads({json.dumps(configs)!r}), step=60)
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert study.keys() == {config_key(config) for config in configs}
    assert study.unfinished() == []
    assert [found.epochs.tolist() for found in study.records()] == [[0, 10, 20, 30, 40]] * 3


# Takes a run over as soon as it is told to, while another process finishes the run.
TAKER = """
import sys
from gradquake.study.study import open_study
from gradquake.errors import StudyError
study = open_study(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    try:
        [run] = study.begin([{"experiment": "t", "n_parameters": 41, "seed": int(line)}], step=20)
        study.append({run: {20: {"size": 6}}})
        print("taken", flush=True)
    except StudyError as error:
        print(error, flush=True)
"""


def test_a_run_that_is_taken_over_while_it_is_finished_has_one_owner(path, study):
    """At any moment: the other process either takes the whole run or continues the finished one."""
    refused = []
    with subprocess.Popen(
        [sys.executable, "-c", TAKER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as taker:
        assert taker.stdout.readline() == "ready\n"
        for seed in range(40):
            (run,) = study.begin([{"experiment": "t", "n_parameters": 41, "seed": seed}])
            study.append({run: {0: {"size": 4}, 10: {"size": 5}}})
            taker.stdin.write(f"{seed}\n")
            taker.stdin.flush()
            time.sleep(seed % 20 * 1e-4)
            try:
                study.finish([run])
            except StudyError as error:
                refused.append(str(error))
            assert taker.stdout.readline() == "taken\n"
        taker.stdin.close()
    assert study.keys() == set()
    assert [found.epochs.tolist() for found in study.unfinished()] == [[0, 10, 20]] * 40
    assert all("no longer holds the run that was begun here" in said for said in refused)


@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_finish_checks_and_writes_at_one_moment(path, study, moment):
    config = record(seed=5).config
    (run,) = study.begin([config])
    study.append({run: SNAPSHOTS})
    said = []

    def take():
        with open_study(path, patience=0) as other:
            try:
                (taken,) = other.begin([config], step=20)
                other.append({taken: {20: SNAPSHOTS[0]}})
            except StudyError as error:
                said.append(str(error))

    unfinished = study._journal
    read = unfinished.headers if moment == "before" else unfinished._so_far

    def taken_over(*header):
        found = read(*header)
        take()
        return found

    if moment == "before":
        unfinished.headers = taken_over
    if moment == "within":
        unfinished._so_far = taken_over
    with pytest.raises(StudyError) if moment == "before" else contextlib.nullcontext():
        study.finish([run])
    if moment == "after":
        take()
    assert len(said) == (moment == "within")
    with open_study(path) as reader:
        epochs = [found.epochs.tolist() for found in (*reader.records(), *reader.unfinished())]
        assert epochs == ([[0, 10]] if moment == "within" else [[0, 10, 20]])
        assert len(reader.keys()) == (moment == "within")


def test_a_changed_snapshot_is_named(path, study):
    (run,) = study.begin([record(seed=5).config])
    study.append({run: SNAPSHOTS})
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE snapshots SET data = replace(data, '7', '9') WHERE epoch = 10")
    with pytest.raises(StudyError, match="step 10 of an unfinished run does not match"):
        study.unfinished()


def test_many_processes_make_one_study_at_once(path):
    code = f"""
import sys, time
from gradquake.study.study import open_study
time.sleep(max(0, float(sys.argv[1]) - time.time()))
open_study({str(path)!r}, create=True).close()
"""
    start = str(time.time() + 3)
    made = [
        subprocess.Popen([sys.executable, "-c", code, start], stderr=subprocess.PIPE) for _ in range(6)
    ]
    assert [process.communicate()[1] for process in made] == [b""] * 6
    assert open_study(path).contents() == []


# A folder without write access


def unprivileged(code, *arguments):
    """Run Python code as somebody whom the permissions of files bind."""
    drop = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("permissions do not bind root, and setpriv is not installed")
        drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    command = [*drop, sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def archive(tmp_path):
    """A folder with a finished and an unfinished run, which loses its write access."""
    folder = tmp_path / "archive"
    folder.mkdir()

    def closed(*beside):
        path = folder / "study.gq"
        with open_study(tmp_path / "study.gq", create=True) as study:
            study.write([record(seed=0)])
            (run,) = study.begin([record(seed=1).config])
            study.append({run: SNAPSHOTS})
            for suffix in beside:
                shutil.copy(f"{study.path}{suffix}", f"{path}{suffix}")
        if not beside:
            shutil.copy(tmp_path / "study.gq", path)
        for file in folder.iterdir():
            file.chmod(0o444)
        folder.chmod(0o555)
        return path

    yield closed
    folder.chmod(0o755)


READER = """
import sys
from gradquake.study.study import open_study
try:
    with open_study(sys.argv[1]) as study:
        print(len(study.keys()), [run.epochs.tolist() for run in study.unfinished()])
        study.write(study.records())
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_study_in_a_folder_without_write_access_is_read_and_not_written(archive):
    path = archive()
    found, refused = unprivileged(READER, path).stdout.splitlines()
    assert found == "1 [[0, 10]]"
    assert refused.startswith(f"StudyError {path} cannot be")
    assert [file.name for file in path.parent.iterdir()] == ["study.gq"]


def test_a_study_that_is_being_written_is_read_there_too(archive):
    path = archive("", "-wal", "-shm")
    assert unprivileged(READER, path).stdout.splitlines()[0] == "1 [[0, 10]]"


def test_a_log_that_cannot_be_read_there_is_not_passed_over(archive):
    path = archive("", "-wal")
    (refused,) = unprivileged(READER, path).stdout.splitlines()
    assert refused.startswith(f"StudyError {path}-wal may hold measurements that study.gq lacks")
    assert refused.endswith("copy both files to a folder with write access and open the copy")


def test_a_study_with_a_question_mark_in_its_name_is_read_there(archive):
    path = archive()
    path.parent.chmod(0o755)
    path = path.rename(path.parent / "a?mode=rwc#%41.gq")
    path.parent.chmod(0o555)
    assert unprivileged(READER, path).stdout.splitlines()[0] == "1 [[0, 10]]"


@pytest.mark.parametrize("command", ["info", "plot --out"])
def test_commands_that_only_read_work_there(archive, command, tmp_path):
    path = archive()
    name, *options = command.split()
    options += [str(tmp_path / "figure.png")] if "--out" in options else []
    code = f"""
import sys
from gradquake.cli.app import main
sys.argv[1:] = [{name!r}, sys.argv[1], *{options!r}]
main()
"""
    done = unprivileged(code, path)
    assert (done.returncode, done.stderr) == (0, "")
