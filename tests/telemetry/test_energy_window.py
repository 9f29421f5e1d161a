"""Energy over a window: counters, integrated power, and the windows that must stay null."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from specterm.events import DeviceReading, Sample
from specterm.telemetry.energy import MAX_GAP_S, MIN_WINDOW_S, energy_window


def gpu(index: int = 0, **values: object) -> DeviceReading:
    defaults: dict[str, object] = {"power_source": "nvml instant", "scope": "gpu"}
    return DeviceReading(device=f"gpu:{index}", name="A GPU", **{**defaults, **values})  # type: ignore[arg-type]


def cpu(**values: object) -> DeviceReading:
    return DeviceReading(device="cpu", name="A CPU", power_source="rapl", scope="package", **values)  # type: ignore[arg-type]


def every(step: float, until: float, *readings_at: object) -> list[Sample]:
    """Samples every `step` seconds; each of `readings_at` is a function of the time."""
    count = round(until / step)
    return [Sample(i * step, tuple(make(i * step) for make in readings_at)) for i in range(count + 1)]  # type: ignore[operator]


def test_the_counter_is_interpolated_at_the_edges() -> None:
    samples = every(1.0, 10.0, lambda t: gpu(energy_j=1000.0 + 50.0 * t, power_w=999.0))
    window = energy_window(samples, 2.5, 6.25)
    assert window.energy_j == pytest.approx(50.0 * 3.75)
    assert window.energy_source == "counter (nvml)"
    assert window.scope == "gpu"
    assert window.power_avg_w == pytest.approx(50.0)
    assert window.power_peak_w == 999.0
    assert window.n_samples == 4
    assert window.window_s == 3.75


def test_power_is_integrated_where_there_is_no_counter() -> None:
    samples = every(0.5, 10.0, lambda t: gpu(power_w=100.0 + 10.0 * t))
    window = energy_window(samples, 1.25, 5.25)
    assert window.energy_j == pytest.approx(100.0 * 4.0 + 10.0 * (5.25**2 - 1.25**2) / 2)
    assert window.energy_source == "integrated (nvml instant)"


def test_a_counter_that_fell_is_not_trusted() -> None:
    samples = every(0.5, 4.0, lambda t: gpu(energy_j=t if t < 2 else t - 2, power_w=100.0))
    window = energy_window(samples, 0.0, 4.0)
    assert window.energy_j == pytest.approx(400.0)
    assert window.energy_source == "integrated (nvml instant)"


def test_gpus_are_summed_and_the_processor_is_left_out() -> None:
    samples = every(
        0.5,
        4.0,
        lambda t: gpu(0, power_w=100.0, energy_j=100.0 * t),
        lambda t: gpu(1, power_w=30.0),
        lambda t: cpu(power_w=70.0, energy_j=70.0 * t),
    )
    window = energy_window(samples, 0.0, 4.0)
    assert window.energy_j == pytest.approx(4 * 130.0)
    assert window.energy_source == "counter (nvml) + integrated (nvml instant)"
    assert window.power_peak_w == 130.0


def test_the_scope_says_that_a_gpu_does_not_report() -> None:
    silent = DeviceReading("gpu:1", "A GPU")
    window = energy_window(every(0.5, 4.0, lambda t: gpu(power_w=100.0), lambda t: silent), 0.0, 4.0)
    assert window.scope == "1 of 2 gpu"
    assert window.energy_j == pytest.approx(400.0)


def test_the_processor_counts_where_no_gpu_reports() -> None:
    silent = DeviceReading("gpu:0", "A GPU", utilization=0.5)
    window = energy_window(every(0.5, 4.0, lambda t: silent, lambda t: cpu(energy_j=20.0 * t)), 0.5, 3.5)
    assert window.energy_j == pytest.approx(60.0)
    assert window.energy_source == "counter (rapl)"
    assert window.scope == "package"
    assert window.gpu_util_avg == 0.5


def test_a_gpu_that_reports_in_part_of_the_window_makes_the_sum_unknown() -> None:
    samples = every(0.5, 4.0, lambda t: gpu(0, power_w=100.0), lambda t: gpu(1, power_w=100.0 if t < 2 else None))
    window = energy_window(samples, 0.0, 4.0)
    assert window.energy_j is None
    assert window.energy_source is None
    assert window.power_avg_w is None


def test_a_short_window_has_power_and_no_energy() -> None:
    samples = every(0.1, 5.0, lambda t: gpu(power_w=100.0, energy_j=100.0 * t))
    window = energy_window(samples, 1.0, 1.0 + MIN_WINDOW_S * 0.99)
    assert window.energy_j is None
    assert window.energy_source is None
    assert window.power_avg_w == pytest.approx(100.0)
    assert window.power_peak_w == 100.0


@pytest.mark.parametrize(("start", "end"), [(-0.1, 3.0), (1.0, 4.1)])
def test_samples_must_reach_over_both_edges(start: float, end: float) -> None:
    samples = every(0.5, 4.0, lambda t: gpu(power_w=100.0, energy_j=100.0 * t))
    assert energy_window(samples, start, end).energy_j is None
    assert energy_window(samples, max(start, 0.0), min(end, 4.0)).energy_j is not None


def test_power_is_not_integrated_over_a_gap_but_a_counter_bridges_it() -> None:
    times = [0.0, 1.0, 1.0 + 2 * MAX_GAP_S, 6.0]
    powered = [Sample(t, (gpu(power_w=100.0),)) for t in times]
    counted = [Sample(t, (gpu(power_w=100.0, energy_j=100.0 * t),)) for t in times]
    assert energy_window(powered, 0.5, 5.0).energy_j is None
    assert energy_window(counted, 0.5, 5.0).energy_j == pytest.approx(450.0)


def test_gpu_state_is_averaged_inside_the_window() -> None:
    samples = every(
        1.0,
        5.0,
        lambda t: gpu(0, utilization=t / 10, memory_used=10, memory_total=100, temperature_c=50.0 + t),
        lambda t: gpu(1, utilization=None, memory_used=50, memory_total=100, temperature_c=None),
    )
    window = energy_window(samples, 1.0, 3.0)
    assert window.gpu_util_avg == pytest.approx(0.2)
    assert window.gpu_mem_avg == pytest.approx(0.3)
    assert window.gpu_temp_peak_c == 53.0


def test_without_a_gpu_its_fields_are_null() -> None:
    window = energy_window(every(1.0, 5.0, lambda t: cpu(utilization=0.5, temperature_c=60.0)), 0.0, 5.0)
    assert (window.gpu_util_avg, window.gpu_mem_avg, window.gpu_temp_peak_c) == (None, None, None)
    assert (window.energy_j, window.power_avg_w, window.power_peak_w, window.scope) == (None, None, None, None)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_give_nothing(count: int) -> None:
    samples = [Sample(1.0, (gpu(power_w=100.0, energy_j=5.0),))][:count]
    window = energy_window(samples, 0.0, 3.0)
    assert window.energy_j is None
    assert window.power_avg_w is None
    assert window.n_samples == count


def test_an_empty_window_is_null_and_a_reversed_one_is_an_error() -> None:
    samples = every(1.0, 5.0, lambda t: gpu(power_w=100.0))
    assert energy_window(samples, 2.0, 2.0).power_avg_w is None
    with pytest.raises(ValueError, match="ends at 1"):
        energy_window(samples, 2.0, 1.0)


@st.composite
def recorded(draw: st.DrawFn) -> list[Sample]:
    """Samples of uneven spacing over at least eight seconds, with a counter or with power alone."""
    counted = draw(st.booleans())
    gaps = draw(st.lists(st.floats(0.01, MAX_GAP_S - 0.01), min_size=20, max_size=40))
    watts = draw(st.lists(st.floats(0.0, 1000.0), min_size=len(gaps), max_size=len(gaps)))
    samples, time, energy = [], 0.0, 0.0
    for gap, power in zip([*gaps, *[1.0] * 8], [*watts, *[100.0] * 8], strict=True):
        samples.append(Sample(time, (gpu(power_w=power, energy_j=energy if counted else None),)))
        time, energy = time + gap, energy + gap * power
    return samples


@given(recorded(), st.data())
def test_energy_is_additive_over_adjacent_windows(samples: list[Sample], data: st.DataObject) -> None:
    end = samples[-1].time
    start = data.draw(st.floats(0.0, end - 2 * MIN_WINDOW_S - 0.01))
    middle = data.draw(st.floats(start + MIN_WINDOW_S, end - MIN_WINDOW_S))
    assume(middle - start >= MIN_WINDOW_S and end - middle >= MIN_WINDOW_S)  # rounding can take them below
    whole = energy_window(samples, start, end).energy_j
    left = energy_window(samples, start, middle).energy_j
    right = energy_window(samples, middle, end).energy_j
    assert whole is not None
    assert left is not None
    assert right is not None
    assert left + right == pytest.approx(whole, rel=1e-9, abs=1e-6)
