"""Readings of processor and memory, with a psutil that has everything, and with one that has little."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from specterm.telemetry.host import HostSource
from specterm.telemetry.processor import cpu_features, cpu_model
from specterm.telemetry.rapl import Rapl


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Psutil:
    """A machine with 100 bytes, of which 40 are available, and busy shares given one by one."""

    def __init__(self, *percents: float) -> None:
        self._percents = list(percents)

    def cpu_percent(self, interval: float | None) -> float:
        assert interval is None, "a waiting call would stop the monitor"
        return self._percents.pop(0)

    def virtual_memory(self) -> SimpleNamespace:
        return SimpleNamespace(total=100, available=40)


class FullPsutil(Psutil):
    def sensors_temperatures(self) -> dict[str, list[SimpleNamespace]]:
        def at(celsius: float) -> SimpleNamespace:
            return SimpleNamespace(current=celsius)

        return {"nvme": [at(90.0)], "k10temp": [at(55.0), at(61.5)], "acpitz": [at(99.0)]}

    def cpu_freq(self) -> SimpleNamespace:
        return SimpleNamespace(current=3200.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "intel-rapl:0"
    folder.mkdir()
    for name, value in (("name", "package-0"), ("energy_uj", "1000000"), ("max_energy_range_uj", "100000000")):
        (folder / name).write_text(value)
    return folder


def test_power_is_the_difference_of_the_counter(package: Path, clock: Clock) -> None:
    source = HostSource(Rapl(package.parent), psutil=FullPsutil(0.0, 50.0, 25.0), clock=clock)
    (first,) = source.read()
    assert first.power_w is None
    assert first.energy_j == 1.0
    assert (first.power_source, first.scope) == ("rapl", "package")
    clock.now += 0.5
    (package / "energy_uj").write_text("11000000")
    (second,) = source.read()
    assert second.power_w == pytest.approx(20.0)
    clock.now += 0.01
    (package / "energy_uj").write_text("91000000")
    (third,) = source.read()
    assert third.power_w == pytest.approx(20.0), "10 ms are too short for a difference"


def test_utilization_has_no_meaning_at_first_and_repeats_when_read_too_soon(tmp_path: Path, clock: Clock) -> None:
    source = HostSource(Rapl(tmp_path), psutil=Psutil(0.0, 50.0, 130.0), clock=clock)
    seen = []
    for step in (0.0, 0.1, 0.01, 0.1):
        clock.now += step
        seen.append(source.read()[0].utilization)
    assert seen == [None, 0.5, 0.5, 1.0]


def test_temperature_is_the_hottest_of_the_processors_sensors(tmp_path: Path, clock: Clock) -> None:
    (reading,) = HostSource(Rapl(tmp_path), psutil=FullPsutil(0.0), clock=clock).read()
    assert reading.temperature_c == 61.5
    assert reading.clock_mhz == 3200.0
    assert (reading.memory_used, reading.memory_total) == (60, 100)


def test_what_psutil_lacks_is_none(tmp_path: Path, clock: Clock) -> None:
    (reading,) = HostSource(Rapl(tmp_path), psutil=Psutil(0.0), clock=clock).read()
    assert reading.temperature_c is None
    assert reading.clock_mhz is None
    assert (reading.power_w, reading.energy_j, reading.power_source, reading.scope) == (None, None, None, None)


def test_the_processor_is_named_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A Fast CPU\nflags\t\t: avx2 amx_bf16\n\nmodel name\t: B\n")
    assert cpu_features(cpuinfo) == {"avx2", "amx_bf16"}
    assert cpu_features(tmp_path / "absent") is None
    assert cpu_model(tmp_path / "absent")
