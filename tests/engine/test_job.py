"""A job's stream: every event once, in order, ended by RunFinished."""

import threading
import time

from specterm.engine.job import Job
from specterm.events import LoadProgress, RunFinished

END = RunFinished(1.0, "done")


def progress(index: int) -> LoadProgress:
    return LoadProgress(float(index), f"stage {index}", None)


def test_drain_never_waits():
    job = Job()
    assert job.drain() == []
    job.put(progress(0))
    job.put(progress(1))
    assert job.drain() == [progress(0), progress(1)]
    assert job.drain() == []
    assert not job.finished
    assert not job.wait(0.01)
    job.put(END)
    assert job.finished
    assert job.wait(0)
    assert job.drain() == [END]


def test_iteration_waits_and_ends():
    job = Job()

    def produce():
        for index in range(200):
            job.put(progress(index))
            if index % 50 == 0:
                time.sleep(0.002)
        job.put(END)

    thread = threading.Thread(target=produce)
    thread.start()
    got = list(job)
    thread.join()
    assert got == [*map(progress, range(200)), END]


def test_a_drain_and_then_the_rest():
    job = Job()
    job.put(progress(0))
    assert job.drain() == [progress(0)]
    job.put(progress(1))
    job.put(END)
    assert list(job) == [progress(1), END]


def test_cancel_is_a_request():
    job = Job()
    assert not job.cancelled
    job.cancel()
    job.cancel()
    assert job.cancelled
    assert not job.finished
