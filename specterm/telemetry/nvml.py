"""Readings of NVIDIA GPUs through NVML (the package nvidia-ml-py, whose module is called pynvml).

A query that fails is None in the reading, whatever the cause: not supported, no permission, an old driver, a lost GPU.

Power comes from the first of these that answers, found out once for each GPU:

1. instantaneous power of the GPU (field 186), "nvml instant";
2. instantaneous power of the module, GPU and Grace CPU together, scope "module";
3. the averaged power of the GPU, then of the module (field 185), "nvml average";
4. ``nvmlDeviceGetPowerUsage``: an average over a second on Ampere (but GA100) and newer, "nvml average".

The energy counter is the GPU's own, so it is left out where power covers the module: one scope holds for both.
With MIG the power is that of the whole GPU, which others may share (scope "shared gpu"), and utilization is None:
NVML has none for a slice. Several slices of one GPU carry its power once, on the first of them.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from specterm.events import DeviceReading
from specterm.telemetry.cuda_order import visible
from specterm.telemetry.source import Missing

SLOW_INTERVAL_S = 1.0  # temperature, clock, limit and throttling change slowly

_ENERGY_MJ, _POWER_AVERAGE, _POWER_INSTANT = 83, 185, 186  # field ids
_SCOPE_GPU, _SCOPE_MODULE = 0, 1
_SCOPES = {_SCOPE_GPU: "gpu", _SCOPE_MODULE: "module"}
_POWER_FIELDS = (
    (_POWER_INSTANT, _SCOPE_GPU),
    (_POWER_INSTANT, _SCOPE_MODULE),
    (_POWER_AVERAGE, _SCOPE_GPU),
    (_POWER_AVERAGE, _SCOPE_MODULE),
)
_VALUE_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
# software power cap, hardware slowdown, software thermal, hardware thermal, power brake
_THROTTLED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """What a GPU is. `memory_total` is in bytes, of the MIG slice where there is one; `mig` None means not known."""

    device: str
    name: str
    driver: str | None
    memory_total: int | None
    power_limit_w: float | None
    mig: bool | None


class NvmlSource:
    """The GPUs that CUDA may use, as "gpu:0", "gpu:1", ... in CUDA's order (`cuda_order` states the limits of that).

    `missing` says why there are none; it is None when there are some.

    Args:
        nvml: the pynvml module, or what stands in for it; by default it is imported.
        environ: where CUDA_VISIBLE_DEVICES is looked up; by default the process's environment.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        nvml: Any = None,
        *,
        environ: dict[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.missing: Missing | None = None
        self._nvml: Any = None
        self._gpus: list[_Gpu] = []
        try:
            self._nvml = _started(nvml)
            self._gpus = _open_gpus(self._nvml, dict(os.environ) if environ is None else environ, clock)
        except _NoNvmlError as error:
            self.missing = error.missing

    def read(self) -> tuple[DeviceReading, ...]:
        """One reading for each GPU."""
        return tuple(gpu.read() for gpu in self._gpus)

    def describe(self) -> tuple[GpuInfo, ...]:
        """What each GPU is."""
        return tuple(gpu.info() for gpu in self._gpus)

    def close(self) -> None:
        """Shut NVML down; it counts its users, so others in the process keep theirs."""
        if self._nvml is not None:
            _query(self._nvml, "nvmlShutdown")
            self._nvml = None
            self._gpus = []


class _Gpu:
    """One GPU, or one MIG slice of it. `whole` answers for power and clocks, `part` for memory."""

    def __init__(
        self, nvml: Any, device: str, whole: Any, part: Any, mig: bool | None, meters: bool, clock: Callable[[], float]
    ) -> None:
        self._nvml, self._device, self._whole, self._part = nvml, device, whole, part
        self._mig, self._meters, self._clock = mig, meters, clock
        self._name = _text(_query(nvml, "nvmlDeviceGetName", part) or _query(nvml, "nvmlDeviceGetName", whole)) or "GPU"
        self._power_field = self._find_power_field()
        self._slow_at: float | None = None
        self._limit_w: float | None = None
        self._temperature_c: float | None = None
        self._clock_mhz: float | None = None
        self._throttled: bool | None = None

    def read(self) -> DeviceReading:
        now = self._clock()
        if self._slow_at is None or now - self._slow_at >= SLOW_INTERVAL_S:
            self._slow_at = now
            self._read_slow()
        power_w, energy_j, source, scope = self._read_power()
        memory = _query(self._nvml, "nvmlDeviceGetMemoryInfo", self._part)
        busy = None if self._mig else _query(self._nvml, "nvmlDeviceGetUtilizationRates", self._whole)
        return DeviceReading(
            device=self._device,
            name=self._name,
            utilization=None if busy is None else busy.gpu / 100.0,
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            power_w=power_w,
            power_limit_w=self._limit_w,
            energy_j=energy_j,
            power_source=source,
            scope=scope,
            temperature_c=self._temperature_c,
            clock_mhz=self._clock_mhz,
            throttled=self._throttled,
        )

    def info(self) -> GpuInfo:
        memory = _query(self._nvml, "nvmlDeviceGetMemoryInfo", self._part)
        limit = _query(self._nvml, "nvmlDeviceGetEnforcedPowerLimit", self._whole)
        return GpuInfo(
            device=self._device,
            name=self._name,
            driver=_text(_query(self._nvml, "nvmlSystemGetDriverVersion")),
            memory_total=None if memory is None else int(memory.total),
            power_limit_w=None if limit is None else limit / 1000.0,
            mig=self._mig,
        )

    def _find_power_field(self) -> tuple[int, int] | None:
        """The field id and scope that answer; None where only nvmlDeviceGetPowerUsage may."""
        if not self._meters:
            return None
        for field in _POWER_FIELDS:
            (milliwatts,) = self._fields([field])
            if milliwatts:  # a running GPU draws something: some drivers say "not supported" with a zero
                return field
        return None

    def _read_power(self) -> tuple[float | None, float | None, str | None, str | None]:
        """Watts, joules, source and scope."""
        if not self._meters:
            return None, None, None, None
        energy_field = (_ENERGY_MJ, _SCOPE_GPU)
        if self._power_field is not None:
            field_id, scope_id = self._power_field
            milliwatts, millijoules = self._fields([self._power_field, energy_field])
            source = "nvml instant" if field_id == _POWER_INSTANT else "nvml average"
        else:
            scope_id, source = _SCOPE_GPU, "nvml average"
            milliwatts = _query(self._nvml, "nvmlDeviceGetPowerUsage", self._whole)
            (millijoules,) = self._fields([energy_field])
        if not millijoules:
            millijoules = _query(self._nvml, "nvmlDeviceGetTotalEnergyConsumption", self._whole)
        if scope_id == _SCOPE_MODULE:
            millijoules = None
        if not milliwatts and not millijoules:
            return None, None, None, None
        return (
            milliwatts / 1000.0 if milliwatts else None,
            millijoules / 1000.0 if millijoules else None,
            source if milliwatts else "nvml",
            "shared gpu" if self._mig else _SCOPES[scope_id],
        )

    def _fields(self, fields: list[tuple[int, int]]) -> list[float | None]:
        """The values of field ids with their scopes, in one call."""
        answers = _query(self._nvml, "nvmlDeviceGetFieldValues", self._whole, fields)
        if answers is None:
            return [None] * len(fields)
        return [_field_value(answer) for answer in answers]

    def _read_slow(self) -> None:
        nvml, gpu = self._nvml, self._whole
        limit = _query(nvml, "nvmlDeviceGetEnforcedPowerLimit", gpu)
        self._limit_w = None if limit is None else limit / 1000.0
        temperature = _query(nvml, "nvmlDeviceGetTemperatureV", gpu, 0)
        if temperature is None:  # drivers before 575
            temperature = _query(nvml, "nvmlDeviceGetTemperature", gpu, 0)
        self._temperature_c = None if temperature is None else float(temperature)
        clock = _query(nvml, "nvmlDeviceGetClockInfo", gpu, 1)  # 1: the streaming multiprocessors' clock
        self._clock_mhz = None if clock is None else float(clock)
        reasons = _query(nvml, "nvmlDeviceGetCurrentClocksEventReasons", gpu)
        if reasons is None:  # the name before driver 535
            reasons = _query(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", gpu)
        self._throttled = None if reasons is None else bool(reasons & _THROTTLED)


class _NoNvmlError(Exception):
    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.missing = Missing(reason, advice)


def _started(nvml: Any) -> Any:
    """The module, after nvmlInit."""
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            raise _NoNvmlError("the package nvidia-ml-py is not installed", "pip install nvidia-ml-py") from None
    if not hasattr(nvml, "nvmlDeviceGetFieldValues"):
        raise _NoNvmlError(
            "another package's pynvml module hides nvidia-ml-py",
            "pip uninstall pynvml, then pip install --force-reinstall nvidia-ml-py",
        )
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise _NoNvmlError(
            f"NVML could not be started: {error}",
            "an NVIDIA GPU needs its driver; a container needs the GPU passed in (docker run --gpus all)",
        ) from None
    return nvml


def _open_gpus(nvml: Any, environ: dict[str, str], clock: Callable[[], float]) -> list[_Gpu]:
    """The visible GPUs, in CUDA's order."""
    count = _query(nvml, "nvmlDeviceGetCount") or 0
    handles = [_query(nvml, "nvmlDeviceGetHandleByIndex", index) for index in range(count)]
    if not handles:
        raise _NoNvmlError("NVML runs and finds no GPU", "check nvidia-smi; a container needs the GPU passed in")
    uuids = [_text(_query(nvml, "nvmlDeviceGetUUID", handle)) for handle in handles]
    setting = environ.get("CUDA_VISIBLE_DEVICES")
    gpus: list[_Gpu] = []
    metered: set[str | None] = set()
    for index, mig_uuid in visible(uuids, setting):
        if mig_uuid is None:
            whole = handles[index]
            mode = _query(nvml, "nvmlDeviceGetMigMode", whole)
            mig = None if mode is None else bool(mode[0])
            # CUDA takes the first slice of a GPU that is split and named as a whole
            part = (_query(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", whole, 0) if mig else None) or whole
        else:
            part = _query(nvml, "nvmlDeviceGetHandleByUUID", mig_uuid)
            whole = None if part is None else _query(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", part)
            mig = True
        if whole is None:
            break
        uuid = _text(_query(nvml, "nvmlDeviceGetUUID", whole))
        gpus.append(_Gpu(nvml, f"gpu:{len(gpus)}", whole, part, mig, uuid is None or uuid not in metered, clock))
        metered.add(uuid)
    if not gpus:
        raise _NoNvmlError(
            f"CUDA_VISIBLE_DEVICES is {setting!r}, which names no GPU of this machine",
            "unset it, or name GPUs by index or UUID (nvidia-smi -L lists them)",
        )
    return gpus


def _query(nvml: Any, function: str, *arguments: Any) -> Any:
    """The function's answer; None where it fails or where this NVML or this pynvml has no such function."""
    try:
        return getattr(nvml, function)(*arguments)
    except (nvml.NVMLError, AttributeError, UnicodeDecodeError, OSError):
        return None


def _field_value(answer: Any) -> float | None:
    if answer.nvmlReturn != 0:
        return None
    member = _VALUE_MEMBERS.get(answer.valueType)
    return None if member is None else float(getattr(answer.value, member))


def _text(value: Any) -> str | None:
    """pynvml gave bytes before version 12."""
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
