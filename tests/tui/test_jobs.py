"""The screen takes no more than its share, however much a frame costs."""

import time

import pytest

from specterm.engine.job import Job
from specterm.events import Event, LoadProgress, RunFinished
from specterm.tui.jobs import LONGEST_S, SHARE, SHARE_MEASURING, Jobs

FRAME_S = 0.025
SECONDS = 20


class Ticking:
    """Stands in for a screen whose timer is moved by hand."""

    def set_interval(self, seconds: float, callback, *, pause: bool) -> "Ticking":
        self.seconds, self.tick = seconds, callback
        return self

    def stop(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


@pytest.mark.parametrize(("measuring", "share"), [(False, SHARE), (True, SHARE_MEASURING)])
def test_a_costly_frame_makes_the_next_one_wait(monkeypatch: pytest.MonkeyPatch, measuring: bool, share: float) -> None:
    wall = own = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: wall)
    monkeypatch.setattr(time, "thread_time", lambda: own)
    screen, seen = Ticking(), []

    def paint() -> None:
        nonlocal own
        own += FRAME_S

    jobs = Jobs(screen, lambda event, job: seen.append(event), paint)
    jobs.start()
    jobs.measure(measuring)
    jobs.run = Job()
    jobs.wake()
    put: list[Event] = []
    while wall < SECONDS:
        put.append(LoadProgress(wall, "", None))
        jobs.run.put(put[-1])
        screen.tick()
        wall += screen.seconds
    jobs.drain()
    assert seen == put, "what waited is not lost"
    assert 0.6 * share < own / wall < 1.1 * share


def test_cheap_frames_come_as_often_as_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, painted = 0.0, 0
    monkeypatch.setattr(time, "monotonic", lambda: wall)
    monkeypatch.setattr(time, "thread_time", lambda: 0.01 * wall)

    def paint() -> None:
        nonlocal painted
        painted += 1

    screen = Ticking()
    jobs = Jobs(screen, lambda event, job: None, paint)
    jobs.start()
    jobs.run = Job()
    jobs.wake()
    for _ in range(100):
        screen.tick()
        wall += screen.seconds
    assert painted == 100


def test_however_dear_a_frame_is_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, painted = 0.0, 0
    monkeypatch.setattr(time, "monotonic", lambda: wall)
    monkeypatch.setattr(time, "thread_time", lambda: wall)
    screen = Ticking()

    def paint() -> None:
        nonlocal painted
        painted += 1

    jobs = Jobs(screen, lambda event, job: None, paint)
    jobs.start()
    jobs.run = Job()
    jobs.wake()
    while wall < SECONDS:
        screen.tick()
        wall += screen.seconds
    assert painted >= 0.75 * SECONDS / LONGEST_S


def test_the_end_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(time, "thread_time", iter(range(100)).__next__)
    screen, seen = Ticking(), []
    jobs = Jobs(screen, lambda event, job: seen.append(event), lambda: None)
    jobs.start()
    jobs.run = Job()
    jobs.wake()
    screen.tick()
    jobs.run.put(LoadProgress(0.0, "", None))
    screen.tick()
    assert seen == []
    jobs.run.put(RunFinished(0.0, "done"))
    screen.tick()
    assert len(seen) == 2
