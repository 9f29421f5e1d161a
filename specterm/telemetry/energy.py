"""Energy and power over a window of a run, from the samples taken during it. Pure functions.

Each device's energy comes from its counter where it has one (interpolated at the edges of the window), else from its
power, integrated by trapezoids. Where any GPU reports, the GPUs are summed; only without one is it the processor's
package. A window is never mixed from GPU and processor.

Nothing is estimated. Energy is None when

* the window is shorter than `MIN_WINDOW_S`: counters step every 100 ms or so, and averaged power looks back a second;
* samples do not reach over both edges of the window, or lie further apart than `MAX_GAP_S` where power is integrated.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from specterm.events import DeviceReading, Sample

MIN_WINDOW_S = 2.0
MAX_GAP_S = 1.5


@dataclass(frozen=True, slots=True)
class EnergyWindow:
    """What the devices drew and did from `start` to `end`; None is what was not measured.

    `energy_source` is "counter (nvml)", "counter (rapl)" or "integrated (nvml instant)", say, and several of them
    joined by " + " where devices differ. `scope` is what the energy covers ("gpu", "package", ...), with "1 of 2" in
    front where only some GPUs report. `power_avg_w` is energy over time where there is energy, else the mean of the
    power readings. `n_samples` counts the samples inside the window. Utilization and memory are means, from 0 to 1.
    """

    energy_j: float | None
    energy_source: str | None
    scope: str | None
    window_s: float
    n_samples: int
    power_avg_w: float | None
    power_peak_w: float | None
    gpu_util_avg: float | None
    gpu_mem_avg: float | None
    gpu_temp_peak_c: float | None


def energy_window(samples: Sequence[Sample], start_s: float, end_s: float) -> EnergyWindow:
    """Energy, power and the GPUs' state from `start_s` to `end_s`, on the clock of the samples.

    Args:
        samples: in the order of their times.
        start_s, end_s: the window, in seconds.

    Raises:
        ValueError: the window ends before it starts.
    """
    if end_s < start_s:
        raise ValueError(f"the window ends at {end_s} s, before it starts at {start_s} s")
    first = bisect_left(samples, start_s, key=_time)
    last = bisect_right(samples, end_s, key=_time)
    inside = samples[first:last]
    # one more sample on each side, unless one lies on the edge
    around = samples[max(0, bisect_right(samples, start_s, key=_time) - 1) : bisect_left(samples, end_s, key=_time) + 1]

    devices, scope = _metered(around)
    window = end_s - start_s
    parts = [_device_energy(around, device, start_s, end_s) for device in devices] if window >= MIN_WINDOW_S else []
    known = [part for part in parts if part is not None]
    energy = sum(joules for joules, _ in known) if known and len(known) == len(parts) else None
    gpu_readings = [[r for r in sample.readings if _is_gpu(r.device)] for sample in inside]
    return EnergyWindow(
        energy_j=energy,
        energy_source=None if energy is None else " + ".join(dict.fromkeys(source for _, source in known)),
        scope=scope if devices else None,
        window_s=window,
        n_samples=len(inside),
        power_avg_w=energy / window if energy is not None else _mean_power(around, devices, start_s, end_s),
        power_peak_w=max((watts for s in inside if (watts := _power(s, devices)) is not None), default=None),
        gpu_util_avg=_mean(r.utilization for readings in gpu_readings for r in readings),
        gpu_mem_avg=_mean(_memory_share(readings) for readings in gpu_readings),
        gpu_temp_peak_c=max(
            (r.temperature_c for readings in gpu_readings for r in readings if r.temperature_c is not None),
            default=None,
        ),
    )


def _time(sample: Sample) -> float:
    return sample.time


def _is_gpu(device: str) -> bool:
    return device.startswith("gpu")


def _metered(samples: Sequence[Sample]) -> tuple[list[str], str | None]:
    """The devices whose energy is summed, and what that covers."""
    readings = [reading for sample in samples for reading in sample.readings]
    reporting = {r.device: r.scope for r in readings if r.power_w is not None or r.energy_j is not None}
    gpus = [device for device in reporting if _is_gpu(device)]
    chosen = gpus or list(reporting)
    scopes = " + ".join(dict.fromkeys(scope for device in chosen if (scope := reporting[device]) is not None))
    present = len({r.device for r in readings if _is_gpu(r.device)})
    if gpus and len(gpus) < present:
        scopes = f"{len(gpus)} of {present} {scopes}"
    return chosen, scopes or None


def _device_energy(samples: Sequence[Sample], device: str, start: float, end: float) -> tuple[float, str] | None:
    """Joules of one device, and where they come from."""
    readings = [(sample.time, r) for sample in samples for r in sample.readings if r.device == device]
    counter = [(time, r.energy_j) for time, r in readings if r.energy_j is not None]
    name = next((r.power_source for _, r in readings if r.power_source is not None), None)
    if _covers(counter, start, end) and all(a[1] <= b[1] for a, b in pairwise(counter)):
        maker = f" ({name.split()[0]})" if name else ""
        return _value_at(counter, end) - _value_at(counter, start), f"counter{maker}"
    joules = _integral([(time, r.power_w) for time, r in readings if r.power_w is not None], start, end)
    return None if joules is None else (joules, f"integrated ({name})" if name else "integrated")


def _covers(points: Sequence[tuple[float, float]], start: float, end: float) -> bool:
    return len(points) >= 2 and points[0][0] <= start and points[-1][0] >= end


def _value_at(points: Sequence[tuple[float, float]], time: float) -> float:
    """The value at `time`, on the straight line between its neighbours; the points reach over it."""
    after = max(1, bisect_left(points, time, key=lambda point: point[0]))
    (t0, v0), (t1, v1) = points[after - 1], points[after]
    return v0 if t1 == t0 else v0 + (v1 - v0) * (time - t0) / (t1 - t0)


def _integral(points: Sequence[tuple[float, float]], start: float, end: float) -> float | None:
    """The area below the points from `start` to `end`; None where they leave a part of it open."""
    if not _covers(points, start, end) or any(b[0] - a[0] > MAX_GAP_S for a, b in pairwise(points)):
        return None
    inner = [point for point in points if start < point[0] < end]
    edged = [(start, _value_at(points, start)), *inner, (end, _value_at(points, end))]
    return sum((a[1] + b[1]) / 2.0 * (b[0] - a[0]) for a, b in pairwise(edged))


def _mean_power(samples: Sequence[Sample], devices: Sequence[str], start: float, end: float) -> float | None:
    """The mean of the power readings over time, in watts."""
    points = [(sample.time, watts) for sample in samples if (watts := _power(sample, devices)) is not None]
    joules = _integral(points, start, end)
    return None if joules is None or end == start else joules / (end - start)


def _power(sample: Sample, devices: Sequence[str]) -> float | None:
    """The watts of all `devices` together; None where one of them has no reading."""
    watts = [r.power_w for r in sample.readings if r.device in devices and r.power_w is not None]
    return sum(watts) if watts and len(watts) == len(devices) else None


def _memory_share(readings: Sequence[DeviceReading]) -> float | None:
    """Memory in use over memory there is, of all GPUs together."""
    pairs = [(r.memory_used, r.memory_total) for r in readings if r.memory_used is not None and r.memory_total]
    total = sum(total for _, total in pairs)
    return sum(used for used, _ in pairs) / total if total else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
