"""The processor's clock in kernels: it grows with time here, and is no constant on other processors."""

import time
from ctypes import addressof, c_int64

import pytest
from llvmlite import binding, ir

from specterm.kernels.emitter import POINTER, Emitter
from specterm.kernels.library import ADDRESS, Library
from specterm.kernels.machine import this_machine


def told():
    module = ir.Module("ticks")
    emitter = Emitter(module, "tell", [POINTER], shared=True)
    emitter.store(emitter.ticks(), emitter.arguments[0])
    emitter.end()
    return module


def test_it_grows_with_time():
    if (machine := this_machine()) is None:
        pytest.skip("no kernels for this processor")
    tell, found, seconds = Library(machine, told()).function("tell", [ADDRESS]), [], []
    for pause_s in (0.0, 0.05, 0.1):
        time.sleep(pause_s)
        ticks = c_int64()
        tell(addressof(ticks))
        found.append(ticks.value)
        seconds.append(time.perf_counter())
    rates = [(found[i + 1] - found[i]) / (seconds[i + 1] - seconds[i]) for i in range(2)]
    assert min(rates) > 1e6
    assert rates[0] == pytest.approx(rates[1], rel=0.2)


def test_arm_reads_its_counter():
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple("aarch64-linux-gnu").create_target_machine()
    assert "cntvct" in target.emit_assembly(binding.parse_assembly(str(told()))).lower()
