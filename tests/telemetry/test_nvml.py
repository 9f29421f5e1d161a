"""Readings of GPUs through a fake NVML: power sources and scopes, MIG, queries that fail, no library at all."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from specterm.telemetry.nvml import NvmlSource

ENERGY, AVERAGE, INSTANT = 83, 185, 186  # field ids
GPU, MODULE = 0, 1  # scopes


class NVMLError(Exception):
    pass


class FakeGpu:
    """One GPU. `answers` maps a query's name without "nvmlDeviceGet" to its answer; `fields` (id, scope) to a value."""

    def __init__(
        self,
        uuid: str,
        *,
        fields: dict[tuple[int, int], float] | None = None,
        slices: tuple[Any, ...] = (),
        **answers: Any,
    ) -> None:
        self.answers: dict[str, Any] = {"UUID": uuid, "Name": f"Fake {uuid}", **answers}
        self.fields = fields
        self.slices = slices
        self.whole: FakeGpu | None = None
        for part in slices:
            part.whole = self


class FakeNvml:
    """The pynvml module, as far as it is used. What a GPU has no answer for raises NVMLError."""

    NVMLError = NVMLError

    def __init__(self, *gpus: FakeGpu, fails: str | None = None) -> None:
        self.gpus = gpus
        self.users = 0
        self.calls: list[str] = []
        self._fails = fails

    def nvmlInit(self) -> None:  # noqa: N802
        if self._fails:
            raise NVMLError(self._fails)
        self.users += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.users -= 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "999.1"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> FakeGpu:  # noqa: N802
        for gpu in self.gpus:
            for found in (gpu, *gpu.slices):
                if found.answers["UUID"] == uuid:
                    return found
        raise NVMLError("Not Found")

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, index: int) -> FakeGpu:  # noqa: N802
        if index >= len(gpu.slices):
            raise NVMLError("Not Found")
        part: FakeGpu = gpu.slices[index]
        return part

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, part: FakeGpu) -> FakeGpu:  # noqa: N802
        assert part.whole is not None
        return part.whole

    def nvmlDeviceGetFieldValues(self, gpu: FakeGpu, fields: list[tuple[int, int]]) -> list[SimpleNamespace]:  # noqa: N802
        if gpu.fields is None:
            raise NVMLError("Not Supported")
        return [
            SimpleNamespace(nvmlReturn=0, valueType=3, value=SimpleNamespace(ullVal=gpu.fields[field]))
            if field in gpu.fields
            else SimpleNamespace(nvmlReturn=3, valueType=0, value=SimpleNamespace(dVal=0.0))
            for field in fields
        ]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvmlDeviceGet"):
            raise AttributeError(name)
        query = name.removeprefix("nvmlDeviceGet")

        def answer(gpu: FakeGpu, *_: Any) -> Any:
            self.calls.append(query)
            if query not in gpu.answers:
                raise NVMLError("Not Supported")
            return gpu.answers[query]

        return answer


def full(uuid: str = "GPU-1", **changes: Any) -> FakeGpu:
    answers = {
        "fields": {(INSTANT, GPU): 350_000, (AVERAGE, GPU): 300_000, (ENERGY, GPU): 5_000_000},
        "MemoryInfo": SimpleNamespace(used=20, total=80),
        "UtilizationRates": SimpleNamespace(gpu=75),
        "EnforcedPowerLimit": 700_000,
        "TemperatureV": 61,
        "ClockInfo": 1980,
        "CurrentClocksEventReasons": 0x1,
        "MigMode": [0, 0],
        **changes,
    }
    return FakeGpu(uuid, **answers)


def source(*gpus: FakeGpu, visible: str | None = None, **options: Any) -> NvmlSource:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return NvmlSource(FakeNvml(*gpus), environ=environ, **options)


def test_a_gpu_that_answers_everything() -> None:
    (reading,) = source(full()).read()
    assert (reading.device, reading.name) == ("gpu:0", "Fake GPU-1")
    assert (reading.power_w, reading.power_source, reading.scope) == (350.0, "nvml instant", "gpu")
    assert (reading.energy_j, reading.power_limit_w) == (5000.0, 700.0)
    assert (reading.utilization, reading.memory_used, reading.memory_total) == (0.75, 20, 80)
    assert (reading.temperature_c, reading.clock_mhz, reading.throttled) == (61.0, 1980.0, False)


@pytest.mark.parametrize(
    ("fields", "usage", "power", "named", "scope", "energy"),
    [
        ({(INSTANT, MODULE): 9000, (ENERGY, GPU): 1000}, None, 9.0, "nvml instant", "module", None),
        ({(AVERAGE, GPU): 8000, (ENERGY, GPU): 1000}, None, 8.0, "nvml average", "gpu", 1.0),
        ({(INSTANT, GPU): 0, (AVERAGE, MODULE): 7000}, None, 7.0, "nvml average", "module", None),
        ({(ENERGY, GPU): 1000}, 6000, 6.0, "nvml average", "gpu", 1.0),
        (None, 6000, 6.0, "nvml average", "gpu", None),
        ({(ENERGY, GPU): 1000}, None, None, "nvml", "gpu", 1.0),
        (None, None, None, None, None, None),
    ],
)
def test_power_comes_from_the_first_source_that_answers(
    fields: dict[tuple[int, int], float] | None,
    usage: float | None,
    power: float | None,
    named: str | None,
    scope: str | None,
    energy: float | None,
) -> None:
    answers = {} if usage is None else {"PowerUsage": usage}
    (reading,) = source(full(fields=fields, **answers)).read()
    assert (reading.power_w, reading.power_source, reading.scope, reading.energy_j) == (power, named, scope, energy)


def test_the_energy_counter_has_a_query_of_its_own() -> None:
    (reading,) = source(full(fields={(INSTANT, GPU): 9000}, TotalEnergyConsumption=2500)).read()
    assert reading.energy_j == 2.5


def test_a_gpu_that_answers_nothing_is_all_none() -> None:
    (reading,) = source(FakeGpu("GPU-1")).read()
    told = {name: getattr(reading, name) for name in reading.__slots__ if name not in ("device", "name")}
    assert told == dict.fromkeys(told)


def test_old_names_of_queries_are_tried() -> None:
    gpu = full(Temperature=70, CurrentClocksThrottleReasons=0x20)
    del gpu.answers["TemperatureV"], gpu.answers["CurrentClocksEventReasons"]
    (reading,) = source(gpu).read()
    assert (reading.temperature_c, reading.throttled) == (70.0, True)


@pytest.mark.parametrize("reason", [0x4, 0x8, 0x20, 0x40, 0x80])
def test_power_and_heat_throttle(reason: int) -> None:
    assert source(full(CurrentClocksEventReasons=reason | 0x1)).read()[0].throttled is True


def test_slow_quantities_are_read_once_a_second() -> None:
    now = [0.0]
    nvml = FakeNvml(full())
    gpus = NvmlSource(nvml, environ={}, clock=lambda: now[0])
    for step in range(20):
        now[0] = step * 0.1
        gpus.read()
    assert nvml.calls.count("TemperatureV") == 2
    assert nvml.calls.count("UtilizationRates") == 20


def test_mig_power_is_the_shared_gpus_and_utilization_unknown() -> None:
    part = FakeGpu("MIG-1", MemoryInfo=SimpleNamespace(used=1, total=10))
    (reading,) = source(full(MigMode=[1, 1], slices=(part,))).read()
    assert (reading.scope, reading.power_w, reading.utilization) == ("shared gpu", 350.0, None)
    assert (reading.memory_used, reading.memory_total) == (1, 10)


def test_slices_of_one_gpu_carry_its_power_once() -> None:
    parts = tuple(FakeGpu(f"MIG-{i}", MemoryInfo=SimpleNamespace(used=i, total=10)) for i in (1, 2))
    first, second = source(full(MigMode=[1, 1], slices=parts), visible="MIG-2,MIG-1").read()
    assert (first.device, first.memory_used, first.power_w) == ("gpu:0", 2, 350.0)
    assert (second.device, second.memory_used, second.power_w, second.energy_j) == ("gpu:1", 1, None, None)


def test_cuda_visible_devices_chooses_and_orders() -> None:
    readings = source(full("GPU-1"), full("GPU-2"), full("GPU-3"), visible="2,GPU-1").read()
    assert [(r.device, r.name) for r in readings] == [("gpu:0", "Fake GPU-3"), ("gpu:1", "Fake GPU-1")]


@pytest.mark.parametrize("visible", ["", "-1", "MIG-9"])
def test_hidden_gpus_are_said_to_be_hidden(visible: str) -> None:
    gpus = source(full(), visible=visible)
    assert gpus.read() == ()
    assert gpus.missing is not None
    assert f"CUDA_VISIBLE_DEVICES is {visible!r}" in gpus.missing.reason


def test_no_gpu_at_all() -> None:
    gpus = source()
    assert gpus.read() == ()
    assert gpus.missing is not None
    assert "no GPU" in gpus.missing.reason


def test_nvml_that_does_not_start_is_a_reason_not_an_error() -> None:
    gpus = NvmlSource(FakeNvml(full(), fails="Driver Not Loaded"), environ={})
    assert gpus.read() == ()
    assert gpus.missing is not None
    assert "Driver Not Loaded" in gpus.missing.reason
    assert "driver" in gpus.missing.advice


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpus = NvmlSource(environ={})
    assert gpus.missing is not None
    assert gpus.missing.advice == "pip install nvidia-ml-py"


def test_an_unofficial_pynvml_is_refused() -> None:
    gpus = NvmlSource(SimpleNamespace(NVMLError=NVMLError), environ={})
    assert gpus.missing is not None
    assert "hides nvidia-ml-py" in gpus.missing.reason


def test_this_machine_has_gpus_or_a_reason() -> None:
    gpus = NvmlSource()
    assert (gpus.missing is None) == (len(gpus.read()) > 0)
    gpus.close()
    assert gpus.read() == ()


def test_what_a_gpu_is_and_close() -> None:
    nvml = FakeNvml(full())
    gpus = NvmlSource(nvml, environ={})
    (info,) = gpus.describe()
    assert (info.device, info.driver, info.memory_total, info.power_limit_w, info.mig) == (
        "gpu:0",
        "999.1",
        80,
        700.0,
        False,
    )
    assert nvml.users == 1
    gpus.close()
    gpus.close()
    assert nvml.users == 0
