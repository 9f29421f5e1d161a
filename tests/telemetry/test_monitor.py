"""The monitor's thread: first and last samples, its pace, and devices that fail."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from specterm.events import DeviceReading, Sample
from specterm.telemetry.devices import Devices
from specterm.telemetry.monitor import Monitor


class Counting:
    """A source whose readings are numbered by their utilization: 1, 2, 3, ... (not a share: a serial number)."""

    def __init__(self) -> None:
        self.count = 0
        self.broken = False
        self.closed = False
        self.threads: set[str] = set()

    def read(self) -> tuple[DeviceReading, ...]:
        self.count += 1
        self.threads.add(threading.current_thread().name)
        if self.broken:
            raise OSError(f"reading {self.count} failed")
        return (DeviceReading("gpu:0", "numbered", utilization=float(self.count)),)

    def close(self) -> None:
        self.closed = True


def numbers(samples: list[Sample]) -> list[float | None]:
    return [sample.readings[0].utilization for sample in samples]


@pytest.fixture
def source() -> Counting:
    return Counting()


@pytest.fixture
def monitor(source: Counting) -> Iterator[Monitor]:
    made = Monitor(Devices([source]), interval_s=30.0, idle_interval_s=30.0)
    yield made
    made.stop()


def until(condition: object, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.005)
    return False


def test_attach_delivers_a_first_sample_and_detach_a_last_one(monitor: Monitor, source: Counting) -> None:
    samples: list[Sample] = []
    ticks = itertools.count(10)
    monitor.start()
    assert until(lambda: source.count == 1)
    monitor.attach(samples.append, lambda: float(next(ticks)))
    assert numbers(samples) == [2.0], "the first sample is there when attach returns"
    assert samples[0].time == 10.5, "a sample's time is the middle of its reading"
    monitor.detach()
    assert numbers(samples) == [2.0, 3.0], "the interval is 30 s: the second sample is detach's own"
    assert monitor.latest[0].utilization == 3.0
    assert source.threads == {"device-monitor"}


def test_readings_come_at_the_interval_while_attached(source: Counting) -> None:
    monitor = Monitor(Devices([source]), interval_s=0.02, idle_interval_s=30.0)
    samples: list[Sample] = []
    monitor.attach(samples.append, time.monotonic)
    assert until(lambda: len(samples) >= 6)
    monitor.detach()
    count = len(samples)
    time.sleep(0.1)
    assert len(samples) == count, "nothing comes after detach"
    assert source.count <= count + 2, "the pace is idle again"
    assert samples[-2].time - samples[0].time >= 0.01 * (count - 2), "the pace is kept, with room for a busy machine"
    assert numbers(samples) == sorted(numbers(samples), key=lambda n: n or 0.0)
    monitor.stop()


def test_stop_ends_the_thread_and_start_begins_again(monitor: Monitor, source: Counting) -> None:
    before = set(threading.enumerate())
    monitor.start()
    assert until(lambda: source.count == 1)
    (thread,) = set(threading.enumerate()) - before
    monitor.stop()
    assert not thread.is_alive()
    assert not monitor.running
    assert not source.closed, "devices that were given belong to the giver"
    monitor.start()
    assert until(lambda: source.count == 2)


def test_stop_and_detach_before_start_do_nothing(monitor: Monitor, source: Counting) -> None:
    monitor.detach()
    monitor.stop()
    assert source.count == 0
    assert monitor.latest == ()


def test_a_failing_reading_backs_off_and_the_thread_lives(source: Counting) -> None:
    monitor = Monitor(Devices([source]), interval_s=0.02, idle_interval_s=0.02)
    monitor.start()
    assert until(lambda: len(monitor.latest) == 1)
    source.broken = True
    assert until(lambda: monitor.error is not None)
    assert "failed" in (monitor.error or "")
    assert monitor.latest == (), "an old reading is not shown as if it were current"
    count = source.count
    time.sleep(0.3)
    assert source.count - count <= 5, "without backing off it would be 15"
    source.broken = False
    assert until(lambda: monitor.error is None)
    assert monitor.running
    monitor.stop()
    assert monitor.latest[0].utilization == source.count


def test_a_failing_sink_does_not_end_the_thread(source: Counting) -> None:
    monitor = Monitor(Devices([source]), interval_s=0.01, idle_interval_s=0.01)

    def broken(sample: Sample) -> None:
        raise RuntimeError("no room")

    monitor.attach(broken, time.monotonic)
    assert monitor.error == "RuntimeError: no room"
    monitor.detach()
    assert until(lambda: monitor.error is None)
    monitor.stop()


@pytest.mark.parametrize("interval", [0.0, -1.0])
def test_an_interval_must_be_positive(interval: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Monitor(interval_s=interval)


def test_the_real_devices_are_read() -> None:
    monitor = Monitor(interval_s=0.1)
    samples: list[Sample] = []
    monitor.attach(samples.append, time.monotonic)
    time.sleep(0.25)
    monitor.detach()
    monitor.stop()
    assert monitor.error is None
    machine = samples[-1].readings[-1]
    assert machine.device == "cpu"
    assert machine.memory_used is not None
    assert machine.memory_total is not None
    assert 0 < machine.memory_used < machine.memory_total
    assert machine.utilization is not None
    assert 0.0 <= machine.utilization <= 1.0


def test_making_a_monitor_imports_nothing_heavy() -> None:
    code = (
        "import sys; from specterm.telemetry.monitor import Monitor; Monitor(); "
        "print([m for m in ('torch', 'transformers', 'textual', 'pynvml', 'psutil') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
