"""The kernels of shares on their way against naive twins."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gradquake.avalanche import (
    _kernels_shares,
)
from kernel_cases import (
    dtypes,
    examples,
    gradients,
    marks_of,
    naive_quantile,
    quantiles,
    random_csr,
    scratch_for,
    seeds,
    words_for,
)


@examples(60)
@given(gradient=gradients(300), shift=st.sampled_from([0, 7, 16]), seed=seeds)
def test_histogram_and_matching_look_at_16_bits_of_the_magnitude(gradient, shift, seed):
    width = 8 * gradient.itemsize
    bits, mask = gradient.view(f"u{gradient.itemsize}"), 2 ** (width - 1) - 1
    magnitudes = np.abs(gradient).view(f"u{gradient.itemsize}").tolist()
    counts = np.zeros(2**16, np.int64)
    _kernels_shares.histogram(bits, mask, shift, counts)
    naive = np.bincount([value >> shift & 0xFFFF for value in magnitudes], minlength=2**16)
    np.testing.assert_array_equal(counts, naive)
    prefix = magnitudes[seed % len(magnitudes)] >> shift
    expected = [value for value in magnitudes if value >> shift == prefix]
    found = np.zeros(len(expected) + 1, bits.dtype)
    _kernels_shares.matching(bits, mask, shift, prefix, found)
    assert found[:-1].tolist() == expected


@examples(40)
@given(
    gradient=gradients(300),
    seed=seeds,
    quantile=quantiles,
    shift=st.sampled_from([6, 7, 9]),
    calls=st.lists(st.sampled_from([0, 1, 100, 3000]), max_size=4),
    dense=st.booleans(),
)
def test_sorted_shares_are_received_in_order_and_mark_what_is_above(
    gradient, seed, quantile, shift, calls, dense
):
    rng = np.random.default_rng(seed)
    bins = (gradient.size - 1 >> shift) + 1
    bits = _kernels_shares.CHUNK_BITS
    room = 2 * bins + (2 * sum(calls) >> bits) + 1
    links, shares = np.full(room, -1), np.full(room << bits, np.nan, gradient.dtype)
    ends, used = np.arange(bins) << bits, bins
    integers = shares.view(f"i{shares.itemsize}")
    threshold = naive_quantile(gradient, quantile)
    marks, pages = words_for(gradient.size), np.zeros(1, np.uint8)
    expected, touched = gradient.copy(), np.zeros(gradient.size, bool)
    first, last = sorted(rng.integers(bins + 1, size=2).tolist())
    for size in calls:
        targets = rng.integers(gradient.size, size=size).astype(rng.choice(["i4", "i8"]))
        given_ = rng.standard_normal(size).astype(gradient.dtype)
        used = _kernels_shares.sort_shares(targets, given_, shift, links, ends, integers, shares, used)
        for j, share in zip(targets, given_, strict=True):
            if first <= j >> shift < last:
                expected[j] += share
                touched[j] |= not dense and abs(float(expected[j])) > threshold
    assert used <= room
    _kernels_shares.receive(
        gradient, first, last, shift, links, ends, integers, shares, dense, threshold, marks, pages
    )
    assert gradient.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(marks, marks_of(touched))
    assert bool(pages[0]) == touched.any()


@examples(40)
@given(
    gradient=gradients(9000),
    seed=seeds,
    quantile=quantiles,
    senders=st.integers(1, 3),
    calls=st.lists(st.sampled_from([1, 100, 3000]), min_size=1, max_size=3),
    dense=st.booleans(),
)
def test_bins_receive_from_all_senders_in_order_and_topple(
    gradient, seed, quantile, senders, calls, dense
):
    rng, shift = np.random.default_rng(seed), 12
    bins, bits = (gradient.size - 1 >> shift) + 1, _kernels_shares.CHUNK_BITS
    threshold, kind = naive_quantile(gradient, quantile), gradient.dtype.type
    alpha, keep = kind(0.3), kind(0.7)
    first, last = sorted(rng.integers(bins + 1, size=2).tolist())
    start, stop = first << shift, min(last << shift, gradient.size)
    expected, touched, arrays = gradient.copy(), np.zeros(gradient.size, bool), []
    for _ in range(senders):
        room = 2 * bins + (2 * sum(calls) >> bits) + 1
        links, shares = np.full(room, -1), np.full(room << bits, np.nan, gradient.dtype)
        ends, used = np.arange(bins) << bits, bins
        integers = shares.view(f"i{shares.itemsize}")
        for size in calls:
            targets = rng.integers(gradient.size, size=size)
            given_ = rng.standard_normal(size).astype(gradient.dtype)
            used = _kernels_shares.sort_shares(
                targets, given_, shift, links, ends, integers, shares, used
            )
            for j, share in zip(targets, given_, strict=True):
                if start <= j < stop:
                    expected[j] += share
                    touched[j] |= abs(float(expected[j])) > threshold
        arrays.append((links, ends, integers, shares))
    above = np.abs(expected).astype(np.float64) > threshold
    inside = (np.arange(gradient.size) >= start) & (np.arange(gradient.size) < stop)
    topples = np.flatnonzero(inside & above & (dense | touched))
    given_away = alpha * expected[topples]
    expected[topples] *= keep
    _, _, _, unstable, moved = scratch_for(gradient.size, gradient.dtype)
    marks, toppled = words_for(gradient.size), words_for(gradient.size)
    pages = np.zeros((marks.size + 63) // 64, np.uint8)
    count, new = _kernels_shares.receive_and_topple(
        gradient, first, last, shift, *zip(*arrays, strict=True), dense, threshold, alpha, keep, marks,
        toppled, pages, unstable, moved,
    )  # fmt: skip
    assert gradient.tobytes() == expected.tobytes()
    assert count == new == topples.size
    assert unstable[:count].tolist() == topples.tolist()
    assert moved[:count].tobytes() == given_away.tobytes()
    np.testing.assert_array_equal(toppled, marks_of(np.isin(np.arange(gradient.size), topples)))


@examples(60)
@given(seed=seeds, n=st.integers(1, 60), room=st.integers(30, 90))
def test_stored_targets_are_rows_while_there_is_room(seed, n, room):
    rng = np.random.default_rng(seed)
    indptr, indices = random_csr(rng, n, 4.0)
    nodes = np.flatnonzero(rng.random(n) < 0.5)
    room = max(room, int(np.diff(indptr).max()))
    moved = rng.standard_normal(nodes.size)
    targets, given_ = np.empty(room, np.int32), np.empty(room)
    begin, listed = 0, []
    while begin < nodes.size:
        before = begin
        begin, used = _kernels_shares.stored_targets(
            nodes, moved, begin, indptr, indices, targets, given_
        )
        listed += zip(targets[:used].tolist(), given_[:used].tolist(), strict=True)
        # It stopped since the next row does not fit.
        if begin < nodes.size:
            assert used + indptr[nodes[begin] + 1] - indptr[nodes[begin]] > room
        assert begin > before
    rows = [indices[indptr[i] : indptr[i + 1]].tolist() for i in nodes]
    naive = [(j, moved[k] / len(row)) for k, row in enumerate(rows) for j in row]
    assert listed == naive


@examples(60)
@given(
    seed=seeds, n=st.integers(1, 300), mean_degree=st.sampled_from([1.0, 4.0, 60.0]), dtype=dtypes,
    room=st.integers(0, 40),
)  # fmt: skip
def test_sorted_shares_of_neighbors_are_those_of_their_targets(seed, n, mean_degree, dtype, room):
    rng = np.random.default_rng(seed)
    indptr, indices = random_csr(rng, n, mean_degree)
    nodes = np.flatnonzero(rng.random(n) < 0.7).astype(np.int32)
    moved = rng.standard_normal(nodes.size).astype(dtype)
    shift, bits = 6, _kernels_shares.CHUNK_BITS
    bins = (n - 1 >> shift) + 1

    def lists():
        links, shares = np.full(bins + room, -1), np.full(bins + room << bits, np.nan, dtype)
        return links, np.arange(bins) << bits, shares.view(f"i{shares.itemsize}"), shares

    links, ends, places, shares = lists()
    stop, used = _kernels_shares.sort_neighbors_shares(
        nodes, moved, 0, indptr, indices, shift, links, ends, places, shares, bins
    )
    # It stops before a node whose shares might not fit, and only there.
    degrees = np.diff(indptr)[nodes]
    assert stop == nodes.size or used + bins + (2 * degrees[stop] >> bits) >= links.size
    rows = [indices[indptr[i] : indptr[i + 1]] for i in nodes[:stop]]
    targets = np.concatenate([*rows, np.empty(0, np.int32)])
    given_ = np.repeat(moved[:stop] / degrees[:stop].clip(1).astype(dtype), degrees[:stop])
    expected = lists()
    arguments = shift, *expected, bins
    assert _kernels_shares.sort_shares(targets.astype(np.int32), given_, *arguments) == used
    for found, one in zip((links, ends, shares), (expected[0], expected[1], expected[3]), strict=True):
        assert found.tobytes() == one.tobytes()


@examples(60)
@given(seed=seeds, parts=st.integers(1, 6))
def test_split_sorts_by_part_and_keeps_the_order(seed, parts):
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(np.arange(1, 100), parts - 1, replace=False))
    edges = np.array([0, *edges, 100])
    targets, given_ = rng.integers(100, size=80), rng.standard_normal(80)
    ends, places, gifts = np.empty(parts, np.int64), np.empty(80, np.int64), np.empty(80)
    _kernels_shares.split(targets, given_, edges, ends, places, gifts)
    start = 0
    for p, stop in enumerate(ends):
        inside = (targets >= edges[p]) & (targets < edges[p + 1])
        assert places[start:stop].tolist() == (targets[inside] - edges[p]).tolist()
        assert gifts[start:stop].tolist() == given_[inside].tolist()
        start = stop
    assert start == 80
