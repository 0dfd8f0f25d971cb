"""Channels: a variable in the place of the sizes, and ratios of two variables."""

import numpy as np
import pytest

import gradquake as gq
from gradquake.analysis import scaling
from gradquake.analysis.channels import channels, in_channel, values_of
from gradquake.analysis.dimension import curve
from gradquake.analysis.sweep import analyze
from gradquake.errors import InputError

SCALES = (85, 201, 401, 801)


@pytest.fixture(scope="module")
def sweep(sweep_of):
    """Sizes ~ N, durations ~ N^0.5 and areas ~ N^0.75, exactly up to a factor alike at every N."""
    factor = np.exp(np.random.default_rng(5).standard_normal((6, 10)))
    sizes = {n: np.ceil(1e6 * n * factor) for n in SCALES}
    return sweep_of(
        sizes,
        {n: [4] * 6 for n in SCALES},
        duration={n: np.ceil(1e6 * n**0.5 * factor).astype(int) for n in SCALES},
        area={n: np.ceil(1e6 * n**0.75 * factor).astype(int) for n in SCALES},
    )


@pytest.mark.parametrize(
    ("channel", "exponent"),
    [("size", 1), ("duration", 0.5), ("area", 0.75), ("size_per_step", 0.5), ("size_per_node", 0.25)],
)
@pytest.mark.parametrize("statistic", ["max", "mean"])
def test_each_channel_has_its_own_exponent(sweep, channel, exponent, statistic):
    # s/T ~ N^(1 - 0.5) and s/a ~ N^(1 - 0.75).
    found = analyze(sweep, channel=channel, n_resamples=50)
    assert found.channel == channel
    for phase in ("all", "pre", "post"):
        assert found.exponent(phase, statistic).value == pytest.approx(exponent, abs=1e-4)
    assert found.curves[statistic].dimension["value"].values == pytest.approx(exponent, abs=1e-4)
    one = scaling.exponent(sweep, statistic, channel=channel, n_resamples=50)
    assert one.value == found.exponent("all", statistic).value
    assert curve(sweep, statistic, channel=channel, n_resamples=50).dimension.equals(
        found.curves[statistic].dimension
    )


def test_any_recorded_variable_is_a_channel(sweep_of):
    sizes = {n: np.full((2, 3), n) for n in SCALES}
    sweep = sweep_of(sizes, kick_max={n: np.full((2, 3), float(n) ** 1.5) for n in SCALES})
    assert channels(sweep.data_vars) == ["size", "kick_max"]
    assert scaling.exponent(sweep, channel="kick_max", n_resamples=5).value == pytest.approx(1.5)


def test_an_avalanche_without_a_step_has_no_size_per_step():
    values = values_of({"size": np.array([0, 6]), "duration": np.array([0, 2])}, "size_per_step")
    np.testing.assert_array_equal(values, [np.nan, 3])


def test_the_size_is_the_sweep_itself_and_a_channel_is_taken_once(sweep):
    assert in_channel(sweep, "size") is sweep
    read = in_channel(sweep, "duration")
    assert in_channel(read, "duration") is read
    assert in_channel(read) is read
    with pytest.raises(InputError, match="the sweep is read in the channel 'duration'"):
        in_channel(read, "area")
    with pytest.raises(
        InputError, match="the channel is 'speed'; one of size, duration, area, size_per"
    ):
        in_channel(sweep, "speed")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("channels") / "study.sqlite"
    gq.run("xor", hidden=[5, 8, 12], seeds=3, epochs=40, out=path, jobs=1)
    return path


def test_a_study_is_analyzed_in_a_channel_with_its_nulls(study):
    found = gq.analyze(study, channel="size_per_step", jobs=1)
    with gq.open_study(study) as opened:
        sweep = opened.select()
    ratio = sweep["size"] / sweep["duration"]
    means = [float(ratio[sweep["n_parameters"].values == n].mean()) for n in (21, 33, 49)]
    expected = np.polyfit(np.log([21, 33, 49]), np.log(means), 1)[0]
    assert found.exponent("all", "mean").value == pytest.approx(expected)
    assert found.scrutiny.ladder.nulls["permuted"].channel == "size_per_step"
    assert "the largest size_per_step (size over duration (s/T); largest size_per_step ~ N^D)" in str(
        found
    )
    assert "trivial exponent" not in str(found)
    assert '"channel": "size_per_step"' in found.to_json()


def test_what_nulls_do_not_have_is_refused_with_their_channels(study):
    with pytest.raises(InputError, match="'loss'; one of threshold, size, duration"):
        gq.analyze(study, channel="loss", jobs=1)
    with pytest.raises(InputError, match="the specification curve measures sizes"):
        gq.analyze(study, channel="duration", sensitivity=True, jobs=1)
    with pytest.raises(InputError, match="the channel is 'speed'"):
        gq.analyze(study, channel="speed", jobs=1)


def test_the_command_takes_a_channel(study, call):
    found = call("analyze", study, "--channel", "duration", "--jobs", 1)
    assert found.returncode == 0
    assert "largest duration ~ N^D" in found.stdout
