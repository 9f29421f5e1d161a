"""Kernels that several threads ask for at the same time are made once: see `library.once`."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from specterm.kernels.library import once
from specterm.kernels.machine import this_machine
from specterm.models.compiled.kernels import move_kernel

THREADS = 4


def of_all(ask):
    """What threads get that ask at the same time."""
    together = threading.Barrier(THREADS)

    def asks(_):
        together.wait()
        return ask()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(asks, range(THREADS)))


def test_what_threads_ask_for_together_is_made_once():
    made, met = [], threading.Event()

    @once
    def make(number):
        made.append(number)
        met.wait(0.05)  # the others have the time to ask
        return object()

    found = of_all(lambda: make(1))
    assert made == [1]
    assert len(set(map(id, found))) == 1
    assert make(2) is make(2) is not found[0]
    assert made == [1, 2]


def test_what_is_made_of_others_asks_for_them():
    @once
    def part():
        return object()

    @once
    def whole():
        return part()

    assert of_all(whole) == [part()] * THREADS


@pytest.mark.skipif(this_machine() is None, reason="no kernels for this processor")
def test_threads_get_the_same_kernel():
    """Were there several, all but one would be gone with those who asked, and modules linked to them would crash."""
    machine = replace(this_machine(), rows=99)  # nobody has asked for one of this machine
    found = of_all(lambda: move_kernel(machine))
    assert len({kernel.address for kernel in found}) == 1
