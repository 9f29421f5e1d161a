"""What can be measured while models run: power, energy, temperature."""

from __future__ import annotations

from specterm.doctor.report import Line
from specterm.events import DeviceReading
from specterm.telemetry.host import HostSource
from specterm.telemetry.nvml import NvmlSource


def sensor_lines(nvml: NvmlSource, host: HostSource) -> list[Line]:
    """One line for each GPU or for NVML's absence, then RAPL, then what else the processor tells."""
    readings = nvml.read()
    if nvml.missing is not None:
        gpus = [Line("gpu sensors", "note", nvml.missing.reason, nvml.missing.advice)]
    else:
        gpus = [_gpu(reading) for reading in readings]
    (machine,) = host.read()
    lines = [*gpus, _rapl(host), _processor(machine)]
    if not any(r.power_w is not None or r.energy_j is not None for r in (*readings, machine)):
        lines.append(Line("energy", "note", "nothing measures power here: joules and watts will be n/a"))
    return lines


def _gpu(reading: DeviceReading) -> Line:
    name = f"{reading.device} sensors"
    if reading.power_w is None and reading.energy_j is None:
        return Line(name, "note", f"{reading.name} reports no power: its joules will be n/a")
    power = "n/a" if reading.power_w is None else f"{reading.power_w:.0f} W now ({reading.power_source})"
    energy = "energy counter" if reading.energy_j is not None else "no energy counter: energy is integrated from power"
    told = f"{power}, {energy}, scope {reading.scope}"
    if reading.scope == "module":
        return Line(name, "note", f"{told}: GPU and CPU of the module are measured together")
    if reading.scope == "shared gpu":
        return Line(name, "note", f"{told}: others may use the same GPU; utilization of a MIG slice is n/a")
    return Line(name, "ok", told)


def _rapl(host: HostSource) -> Line:
    missing = host.rapl.missing
    if missing is not None:
        return Line("cpu energy", "note", missing.reason, missing.advice)
    count = host.rapl.packages
    return Line("cpu energy", "ok", f"RAPL, {count} processor package{'s' * (count > 1)}")


def _processor(reading: DeviceReading) -> Line:
    temperature = "n/a" if reading.temperature_c is None else f"{reading.temperature_c:.0f} °C"
    clock = "n/a" if reading.clock_mhz is None else f"{reading.clock_mhz:.0f} MHz"
    return Line("cpu sensors", "ok", f"utilization and memory; temperature {temperature}, clock {clock}")
