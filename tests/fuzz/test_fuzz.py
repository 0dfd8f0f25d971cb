"""The fuzzing in its short form, the same every time; properties; and what the long form found."""

import contextlib
import io
import json
import sqlite3
import struct
import zipfile

import command_line
import gradients
import networks
import numpy as np
import pytest
import scipy.sparse as sp
import studies
import torch
from choices import TEXTS, Choices, mutated
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import bounded, check_sentence, scratch
from targets import TARGETS

from gradquake.avalanche import graphs, neurons, topologies
from gradquake.errors import InputError, StudyError
from gradquake.study.recording import RunRecord
from gradquake.study.study import open_study

# The short form


@pytest.mark.parametrize(
    ("surface", "executions"),
    [("store", 750), ("shown", 80), ("files", 1000), ("graphs", 2000), ("cli", 60)],
)
def test_nothing_but_a_right_answer_or_one_sentence(surface, executions):
    rng = np.random.default_rng(0)
    for _ in range(executions):
        data = rng.bytes(int(rng.integers(0, 160)))
        try:
            TARGETS[surface](data)
        except Exception as error:
            error.add_note(f"{surface} of {data!r}")
            raise


@pytest.mark.parametrize("surface", TARGETS)
def test_no_bytes_are_an_input_too(surface):
    TARGETS[surface](b"")


def test_nothing_is_mutated_without_choices():
    assert mutated(Choices(b""), b"content") == b"content"


def test_every_whole_study_and_file_is_read():
    for whole in studies.wholes():
        assert studies.read(whole.content, datasets=True) == whole.reading
    for whole in gradients.wholes():
        [found] = gradients.read(scratch(), {f"g{whole.suffix}": whole.content})
        np.testing.assert_array_equal(found, whole.vector)


# Properties

texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=8).filter(lambda text: "\0" not in text))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.binary(max_size=3))
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=6)
sizes = st.one_of(st.integers(-2, 200), st.integers(max_value=-1), st.integers(min_value=2**44), scalars)
sizes = sizes.filter(lambda n: not isinstance(n, int) or not 200 < n < 2**44)


@given(st.one_of(st.sampled_from(list(topologies.TOPOLOGIES)), anything), sizes, st.integers())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_topology_is_built_or_refused(topology, n, seed):
    with bounded(), contextlib.suppress(InputError):
        graph = topologies.build(topology, n, seed)
        networks.check_graph(graph)
        assert graph.n_nodes == n


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(-1, 12), st.integers(0, 12)), max_size=12))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_edges_are_a_graph_exactly_if_they_are_simple(n, edges):
    distinct = {frozenset(edge) for edge in edges}
    inside = all(0 <= end < n for edge in edges for end in edge)
    simple = inside and len(distinct) == len(edges) and all(a != b for a, b in edges)
    try:
        graph = graphs.from_edges(n, edges)
    except InputError:
        assert not simple
        return
    assert simple
    networks.check_graph(graph)
    rows, columns = networks.adjacency(graph).nonzero()
    assert {frozenset(pair) for pair in zip(rows.tolist(), columns.tolist(), strict=True)} == distinct


@given(anything, anything)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_arrays_of_anything_are_a_graph_or_refused(indptr, indices):
    for make in (graphs.Graph, graphs.from_edges):
        with bounded(), contextlib.suppress(InputError):
            networks.check_graph(make(indptr, indices))


@given(st.lists(st.tuples(st.lists(st.integers(1, 4), max_size=4), st.booleans()), max_size=5))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_shapes_of_parameters_have_a_graph(shapes):
    layouts = [neurons.TensorLayout("w", tuple(shape), flipped) for shape, flipped in shapes]
    if layouts:
        networks.check_graph(neurons.neuron_graph(layouts))


commands = st.sampled_from(("info", "measure", "analyze", "watch", "run"))
options = st.sampled_from(
    sorted({name for names in command_line.OPTIONS.values() for name in names if name})
)
words = st.one_of(
    options, st.sampled_from(command_line.PATHS), st.sampled_from(command_line.PAIRS), texts
)


@given(commands, st.lists(words, max_size=4))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_any_words_are_a_command_or_refused(command, given):
    arguments = command_line.safe([command, *given])
    command_line.check_done(command_line.call(arguments), arguments)


@given(st.sampled_from(("analyze", "plot", "measure")), texts, texts)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_pair_is_a_setting_or_refused(command, name, value):
    file, option = ("g1.npy", "--label") if command == "measure" else ("several.gq", "--where")
    out = {"measure": ["--out", "out.gq"], "plot": ["--out", "out.pdf"]}.get(command, [])
    arguments = [command, file, option, f"{name}={value}", *out]
    command_line.check_done(command_line.call(arguments), arguments)


# What was found in graphs


@pytest.mark.parametrize("n", [100, 101, 125, 127])
@pytest.mark.parametrize("topology", topologies.TOPOLOGIES)
def test_a_small_integer_of_numpy_does_not_wrap(topology, n):
    if topology == "computational" and n % 4 != 1:
        n = 101
    with bounded():
        graph = topologies.build(topology, np.int8(n), 0)
    networks.check_graph(graph)
    np.testing.assert_array_equal(graph.indices, topologies.build(topology, n, 0).indices)


def test_a_hidden_size_that_would_wrap():
    # Once 4 h + 1 was -111 of 8 bits, and a compiled loop wrote there.
    networks.check_graph(graph := topologies.computational(np.int8(100)))
    assert (graph.n_nodes, graph.n_edges) == (401, 700)


def test_a_shape_of_small_integers_of_numpy_does_not_wrap():
    layout = neurons.TensorLayout("w", (np.int8(100), np.int8(2)))
    assert layout.size == 200
    assert neurons.neuron_graph([layout]).n_nodes == 200


@pytest.mark.parametrize("n", [2**40, 2**61 + 1, 2**63 - 3])
def test_more_nodes_than_any_memory_holds_are_refused(n):
    makes = [lambda name=name: topologies.build(name, n, 0) for name in topologies.TOPOLOGIES]
    makes += [
        lambda: topologies.barabasi_albert(2**39, 2**38, seed=0),
        lambda: topologies.computational(n),
        lambda: graphs.from_edges(n, []),
        lambda: graphs.repeat(topologies.ring(5), n),
        lambda: neurons.neuron_graph([neurons.TensorLayout("w", (2**39, 2**39))]),
    ]
    for make in makes:
        with pytest.raises(InputError, match=r"2\^(40|63)|4 h \+ 1"):
            make()


@pytest.mark.parametrize("edges", [[(0, 1), (2,)], [[0, 1], None, [2]], np.empty((0, 2), complex)])
def test_edges_that_are_no_array(edges):
    with bounded(), contextlib.suppress(InputError):
        assert graphs.from_edges(3, edges).n_edges == 0


def test_an_adjacency_with_an_entry_outside_itself_is_refused():
    for outside in (-1, 3):
        matrix = sp.coo_array((np.ones(2), ([0, 1], [1, 0])), shape=(3, 3))
        matrix.row[0] = outside
        with pytest.raises(InputError, match=r"outside 0\.\.2"):
            graphs.from_scipy(matrix)


# What was found in gradient files


def refusal(suffix, content, **options):
    """Return the sentence with which a gradient file is refused."""
    from gradquake.files.saved import open_gradients

    path = scratch() / f"refused{suffix}"
    path.write_bytes(content)
    with bounded(), pytest.raises(InputError) as caught:
        open_gradients([path], **options)
    check_sentence(caught.value)
    return str(caught.value)


def test_an_archive_that_numpy_would_not_write_is_refused():
    assert len(gradients.bzip2_bomb()) < 1000
    assert "is not packed as NumPy packs arrays" in refusal(".npz", gradients.bzip2_bomb())


def test_an_archive_of_members_over_one_another_is_refused():
    stream = io.BytesIO()
    np.savez_compressed(stream, w=np.zeros(10**6, "f4"))
    content = gradients._overlapping(stream.getvalue(), times=200)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sum(info.file_size for info in archive.infolist()) > 2**29
    assert len(content) < 20_000
    assert "overlap" in refusal(".npz", content)


@pytest.mark.parametrize(
    ("size", "stride"), [((2**31,), (0,)), ((2**20, 2**20), (0, 0)), ((6, 6), (1, 0)), ((2, 5), (1, 1))]
)
def test_a_tensor_expanded_over_a_few_numbers_is_refused(size, stride):
    content = gradients.archive({"w": gradients.tensor(size, stride), "b": gradients.tensor((6,), (1,))})
    assert "'w' is expanded float32; float16" in refusal(".pt", content)


def test_a_view_of_a_tensor_is_read():
    whole = torch.arange(6.0).reshape(2, 3)
    stream = io.BytesIO()
    torch.save({"t": whole.t(), "row": whole[1]}, stream)
    [found] = gradients.read(scratch(), {"view.pt": stream.getvalue()})
    assert found.tolist() == [0, 3, 1, 4, 2, 5, 3, 4, 5]


def headed(header, data=bytes(8)):
    """Return an .npy file of a header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def zipped(member):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("w.npy", member)
    return stream.getvalue()


@pytest.mark.parametrize("text", ["-" * 9000, "(" * 9000, "{" * 300, "[" * 90])
def test_a_header_that_is_nested_too_deep_is_no_lack_of_memory(text):
    for suffix, content in ((".npy", headed(text)), (".npz", zipped(headed(text)))):
        assert "cannot be read as a whole" in refusal(suffix, content)


@pytest.mark.parametrize(
    "shape", ["(4611686018427387904, 2)", "(9223372036854775807,)", "(-1,)", "(3,)"]
)
def test_a_header_of_more_than_there_is_does_not_warn(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    assert "does not hold as much as its header says" in refusal(".npy", headed(text))


@pytest.mark.parametrize("shape", [f"({2**62}, 4, 0)", f"(0, {2**62}, {2**62})"])
def test_a_shape_of_no_entries_does_not_warn(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    for suffix, content in ((".npy", headed(text, b"")), (".npz", zipped(headed(text, b"")))):
        assert "holds no entry to measure" in refusal(suffix, content)


@pytest.mark.parametrize("shape", [f"({2**62}, 4)", f"({2**62},)"])
def test_entries_of_no_bytes_are_refused_without_a_warning(shape):
    text = f"{{'descr': '|V0', 'fortran_order': False, 'shape': {shape}, }}"
    for suffix, content in ((".npy", headed(text, b"")), (".npz", zipped(headed(text, b"")))):
        with bounded():
            assert "void" in refusal(suffix, content)


def test_a_header_of_python_2_is_read_without_a_warning():
    content = headed(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L,), }", struct.pack("<2f", 1, 2)
    )
    for name, file in (("g.npy", content), ("g.npz", zipped(content))):
        with bounded():
            [found] = gradients.read(scratch(), {name: file})
        assert found.tolist() == [1, 2]


def test_what_torch_quotes_of_a_file_is_printable():
    content = gradients.archive(gradients.tensor((6,), (1,)), members={"byteorder": b"\0\x1b[31m\n"})
    assert "\\x00" in refusal(".pt", content)


# What was found in studies

KEY = json.dumps({"experiment": "t", "n_parameters": 41, "seed": 0}, sort_keys=True)


def written(statement, *values):
    """Return an empty study's bytes after a row was written to it."""
    path = scratch() / "written.gq"
    path.write_bytes(studies.wholes()[4].content)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)
    return path.read_bytes()


@pytest.mark.parametrize(
    "key",
    [
        "", "7", "[]", "{}", "null", "[" * 9000, "9" * 5000, '{"seed": 0}', b"{}",
        '{"n_parameters":41,"seed":0}',
        *(
            json.dumps({"experiment": "t", "n_parameters": 41, "seed": 0} | changed, sort_keys=True)
            for changed in (
                {"seed": "a"}, {"seed": 2**63}, {"seed": None}, {"n_parameters": [1]}, {"hidden": 1.5},
                {"width": -1}, {"labels": 3}, {"labels": {"a": [1]}}, {"seed": True},
            )
        ),
    ],
)  # fmt: skip
def test_a_key_that_is_no_configuration_is_damage(key):
    content = written("INSERT INTO planned VALUES (?, ?)", key, studies.crc(key))
    assert studies.read(content) is None
    header = (key, None, "{}", '{"epoch": 1}', "{}")
    checksum = studies.crc(*header)
    content = written("INSERT INTO runs VALUES (1, ?, ?, ?, ?, ?, ?)", *header, checksum)
    assert studies.read(content) is None


@pytest.mark.parametrize(
    "measured",
    [
        "",
        "3",
        "{}",
        "[]",
        '["epoch"]',
        '{"size": 1}',
        '{"epoch": 2}',
        '{"epoch": 1, "size": 0}',
        '{"epoch": 1, "tensor_area": 9000000000000000000}',
        "[" * 9000,
    ],
)
def test_measurements_without_their_names_are_damage(measured):
    header = (KEY, None, "{}", measured, "{}")
    content = written("INSERT INTO runs VALUES (1, ?, ?, ?, ?, ?, ?)", *header, studies.crc(*header))
    assert studies.read(content) is None


@pytest.mark.parametrize("grokking_epoch", ["x", 1.5, b"x"])
def test_a_grokking_epoch_that_is_none_is_damage(grokking_epoch):
    header = (KEY, grokking_epoch, "{}", '{"epoch": 1}', "{}")
    content = written("INSERT INTO runs VALUES (1, ?, ?, ?, ?, ?, ?)", *header, studies.crc(*header))
    assert studies.read(content) is None


@pytest.mark.parametrize(
    "data", ["", "3", "[1]", '{"size": "x"}', '{"loss": [1]}', '{"size": NaN}', "{" * 9000]
)
def test_a_snapshot_that_holds_no_numbers_is_damage(data):
    path = scratch() / "written.gq"
    path.write_bytes(studies.wholes()[4].content)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        header = (KEY, None, "{}", 1)
        connection.execute(
            "INSERT INTO unfinished VALUES (7, ?, ?, ?, ?, ?)", (*header, studies.crc(*header))
        )
        checksum = studies.crc(KEY, 0, data)
        connection.execute("INSERT INTO snapshots VALUES (7, 0, ?, ?)", (data, checksum))
    assert studies.read(path.read_bytes()) is None


def test_a_size_that_one_snapshot_lacks_is_told():
    path = scratch() / "lacks.gq"
    with open_study(path, create=True) as study:
        [run] = study.begin([json.loads(KEY)])
        with pytest.raises(InputError, match=r"the measurements of size include nan, .* one for each"):
            study.append({run: {0: {"size": 3}, 1: {"loss": 0.5}}})
        study.append({run: {0: {"size": 3}}})
        study.append({run: {1: {"loss": 0.5}}})
        with pytest.raises(StudyError, match="the measurements of size include nan, which cannot be"):
            study.unfinished()


@pytest.mark.parametrize("name", ["\n", "\udc8f\x18"])
def test_a_measurement_of_any_name_is_told_printably(name, tmp_path):
    path = tmp_path / "named.gq"
    with open_study(path, create=True) as study:
        [run] = study.begin([json.loads(KEY)])
        with pytest.raises(InputError, match="cannot be stored") as raised:
            study.append({run: {0: {name: 10**400}}})
    check_sentence(raised.value)


def test_text_that_is_no_utf_8_is_damage():
    content = written("INSERT INTO planned VALUES (CAST(x'ff00ff' AS TEXT), 7)")
    assert studies.read(content) is None


def test_leaves_that_changed_places_are_damage():
    whole = studies.wholes()[5]
    path = scratch() / "leaves.gq"
    path.write_bytes(whole.content)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        sql = "SELECT rootpage FROM sqlite_master WHERE name = 'runs'"
        start = (connection.execute(sql).fetchone()[0] - 1) * whole.page
    content = bytearray(whole.content)
    assert content[start] == 5  # an inner page, each of whose cells begins with a child's number
    first, second = (start + place for place in struct.unpack_from(">2H", content, start + 12))
    content[first : first + 4], content[second : second + 4] = (
        content[second : second + 4],
        content[first : first + 4],
    )
    assert studies.read(bytes(content)) is None


@pytest.mark.parametrize("table", ["runs", "planned", "unfinished", "snapshots", "tallies"])
def test_a_view_in_place_of_a_table_is_refused(table):
    path = scratch() / "view.gq"
    path.write_bytes(studies.wholes()[4].content)
    endless = studies.ENDLESS.format(limit=10**12)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in studies.SHAPES[0].format(table=table, endless=endless).split("; "):
            connection.execute(statement)
    with bounded():
        assert studies.read(path.read_bytes()) is None


def test_a_column_that_is_computed_is_refused():
    content = written("ALTER TABLE runs ADD COLUMN more AS (zeroblob(1000000000))")
    assert studies.read(content) is None


def test_what_sqlite_quotes_of_a_file_is_printable():
    content = studies.wholes()[0].content.replace(
        b"CREATE TABLE planned", b"CREATE TABLE \x07\n\x1b[1mX", 1
    )
    assert studies.read(content) is None


def test_a_setting_may_have_any_name():
    path = scratch() / "self.gq"
    config = json.loads(KEY) | {"self": 3}
    with open_study(path, create=True) as study:
        study.write([RunRecord(config, None, np.arange(2), {"size": np.arange(2)})])
        assert study.select(self=3).attrs["self"] == 3
        with pytest.raises(StudyError, match="no finished run with self=4"):
            study.with_nulls(self=4)


def test_settings_of_any_name_are_told_printably():
    path = scratch() / "names.gq"
    with open_study(path, create=True) as study:
        for name in ("\udc92", "a\nb"):
            config = json.loads(KEY) | {name: {"a": [1]}}
            study.write([RunRecord(config, None, np.arange(2), {"size": np.arange(2)})])
        for settings in ({}, {"alpha": 7}):
            with pytest.raises(StudyError) as raised:
                study.select(**settings)
            check_sentence(raised.value)


def test_a_sweep_without_a_surrogate_is_no_null():
    path = scratch() / "twins.gq"
    with open_study(path, create=True) as study:
        for more in ({}, {"surrogate": "real"}, {"surrogate": "permuted"}):
            config = json.loads(KEY) | more
            study.write([RunRecord(config, None, np.arange(2), {"size": np.arange(2)})])
        sweep, nulls = study.with_nulls()
    assert sweep.attrs["surrogate"] == "real"
    assert list(nulls) == ["permuted"]


def test_a_measurement_named_as_a_setting_is_refused():
    for name in ("seed", "epoch", "run", "grokking_epoch"):
        with pytest.raises(InputError, match=f"measurements named {name}"):
            RunRecord(json.loads(KEY), None, np.arange(2), {name: np.arange(2.0)})


# What was found in the command line


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "\n"],
        ["info", "a\nb.gq"],
        ["info", "\x1b[31m"],
        ["analyze", "several.gq", "--where", "self=1"],
        ["analyze", "several.gq", "--where", "alpha=" + "[" * 90_000],
        ["analyze", "live.gq"],
        ["analyze", "live.gq", "--sensitivity"],
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments):
    done = command_line.call(arguments)
    command_line.check_done(done, arguments)
    assert done.status == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["watch", "several.gq", "--once"],
        ["info", "several.gq"],
        ["run", "xor", "--out", "\udcff.gq", "--hidden", "1", "--epochs", "1", "--jobs", "1"],
        ["measure", "g1.npy", "--out", "out.gq", "--label", "a=\udcff"],
        ["measure", "g1.npy", "--out", "out.gq", "--label", "a=" + '{"a":' * 90_000],
    ],
)
def test_names_outside_the_terminals_encoding_and_sparse_studies_are_shown(arguments):
    done = command_line.call(arguments)
    command_line.check_done(done, arguments)
    assert done.status == 0
