"""The doctor: its lines are true on this machine, and each fault it knows is told apart with a mend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from specterm.doctor import Line, Report, Section, doctor
from specterm.doctor.compute import compute_lines, gpu_lines
from specterm.doctor.files import describe_folder, read_themes
from specterm.doctor.sensors import sensor_lines
from specterm.doctor.terminal import describe_terminal
from specterm.errors import ExitCode
from specterm.events import DeviceReading
from specterm.telemetry.nvml import GpuInfo, NvmlSource
from specterm.telemetry.source import Missing


@pytest.fixture(scope="module")
def report() -> Report:
    return doctor()


def line(lines: Any, name: str) -> Line:
    found = [each for each in lines if each.name == name]
    assert len(found) == 1, f"{len(found)} lines are called {name}"
    return found[0]


def test_this_machine_can_run_it(report: Report) -> None:
    assert report.can_run
    assert report.exit_code is ExitCode.OK
    assert not [each for each in report.lines if "could not be examined" in each.text]


def test_its_lines_are_true(report: Report) -> None:
    import torch

    from specterm.models.devices import choose_device

    assert metadata.version("torch") in line(report.lines, "torch").text
    assert line(report.lines, "transformers").text == metadata.version("transformers")
    assert line(report.lines, "default device").text == str(choose_device("auto"))
    assert line(report.lines, "threads").text.startswith(f"torch computes with {torch.get_num_threads()} of")
    devices = [each for each in report.lines if each.name.startswith("cuda:")]
    assert len(devices) == torch.cuda.device_count()


def test_kernels_are_tried(monkeypatch) -> None:
    from specterm.kernels import machine
    from specterm.models.compiled.matrix import CompiledMatrix

    if machine.this_machine() is not None:
        assert line(compute_lines(NvmlSource()), "CPU kernels").text.startswith("compiled for ")
        monkeypatch.setattr(CompiledMatrix, "__call__", lambda self, x: x.new_zeros((5, 64)))
        assert line(compute_lines(NvmlSource()), "CPU kernels").status == "missing"
    monkeypatch.setattr(machine, "this_machine", lambda: None)
    assert line(compute_lines(NvmlSource()), "CPU kernels").status == "note"


@pytest.mark.parametrize("has_choice", [True, False])
def test_a_number_format_that_is_measured_is_told_with_what_was_measured(has_choice, monkeypatch) -> None:
    from specterm.models import devices, formats

    monkeypatch.setattr(devices, "choose_device", lambda requested: formats.torch.device("cpu"))
    monkeypatch.setattr(devices, "cpu_has_bf16", lambda: has_choice)
    monkeypatch.setattr(formats, "_measure", lambda *_: {"float32": 0.0005, "bfloat16": 0.0003})
    monkeypatch.setattr(formats, "_MEASURED", {})
    told = line(compute_lines(NvmlSource()), "default dtype").text
    measured = "passes of 1, 5, 20 tokens through a layer take 0.50 ms in float32, 0.30 ms in bfloat16"
    assert (f"runs in bfloat16: {measured}" in told) == has_choice
    assert ("bfloat16 weights in float32" in told) != has_choice


def test_a_finding_that_is_not_ok_says_something(report: Report) -> None:
    for each in report.lines:
        assert each.text
        assert each.status != "missing" or each.advice, f"{each.name} is missing and has no mend"


def test_the_report_is_plain_data(report: Report) -> None:
    data = json.loads(json.dumps(report.as_dict()))
    assert data["can_run"] is True
    assert sum(len(section["lines"]) for section in data["sections"]) == len(report.lines)
    assert data["sections"][0]["lines"][0].keys() == {"name", "status", "text", "advice", "required"}


def test_it_prints_every_line_without_colour(report: Report) -> None:
    console = Console(width=200, record=True, file=open(os.devnull, "w"), no_color=True)  # noqa: SIM115
    report.render(console)
    console.file.close()
    told = console.export_text()
    for each in report.lines:
        assert each.name in told
        assert each.text.split("\n")[0][:60] in told
    assert "specterm can run here" in told


def test_brackets_are_printed_and_not_taken_for_markup() -> None:
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    Report((Section("One", (Line("name", "note", "a [red]path[/red] [1]"),)),)).render(console)
    console.file.close()
    assert "a [red]path[/red] [1]" in console.export_text()


@pytest.mark.parametrize(("required", "code"), [(True, ExitCode.UNAVAILABLE), (False, ExitCode.OK)])
def test_only_what_is_required_stops_specterm(required: bool, code: ExitCode) -> None:
    report = Report((Section("One", (Line("thing", "missing", "gone", "get it", required),)),))
    assert report.exit_code is code


def test_without_torch_it_still_reports() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from specterm.doctor import doctor\n"
        "report = doctor(); print(int(report.exit_code)); print([l.text for l in report.lines if l.name == 'torch'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, torch_line = done.stdout.strip().splitlines()[-2:]
    assert exit_code == "3"
    assert "cannot be imported" in torch_line


def test_libraries_that_it_tries_say_nothing_beside_it() -> None:
    code = "from specterm.doctor import doctor; print(doctor().exit_code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr


def test_importing_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, specterm.doctor; "
        "print([m for m in ('torch', 'transformers', 'textual', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def torch_with(*names: str, cuda: str | None = "12.8") -> Any:
    """A torch with CUDA devices of these names."""

    def properties(index: int) -> SimpleNamespace:
        return SimpleNamespace(name=names[index], total_memory=80 << 30, major=9, minor=0)

    return SimpleNamespace(
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_available=lambda: bool(names), device_count=lambda: len(names), get_device_properties=properties
        ),
    )


def nvml_with(*names: str, mig: bool = False) -> Any:
    infos = tuple(GpuInfo(f"gpu:{i}", name, "570.1", 80 << 30, 700.0, mig) for i, name in enumerate(names))
    return SimpleNamespace(describe=lambda: infos)


def test_a_gpu_is_described() -> None:
    (found,) = gpu_lines(torch_with("H200"), nvml_with("H200"))
    assert (found.name, found.status) == ("cuda:0", "ok")
    assert found.text == "H200, 80.0 GiB, compute capability 9.0, driver 570.1"


@pytest.mark.parametrize(
    ("torch", "nvml", "status", "told", "advice"),
    [
        (torch_with(cuda=None), nvml_with(), "note", "no CUDA device", ""),
        (torch_with(cuda=None), nvml_with("H200"), "missing", "not a CUDA build", "CUDA build"),
        (torch_with(), nvml_with("H200"), "missing", "driver 570.1", "update the NVIDIA driver"),
        (torch_with("H200"), nvml_with("T4"), "note", "reads T4 as gpu:0", "CUDA_DEVICE_ORDER"),
        (torch_with("H200"), nvml_with(), "note", "NVML does not see it", ""),
        (torch_with("H200 MIG 1g"), nvml_with("H200", mig=True), "ok", "MIG slice", ""),
    ],
)
def test_faults_of_a_gpu_are_told_apart(torch: Any, nvml: Any, status: str, told: str, advice: str) -> None:
    (found,) = gpu_lines(torch, nvml)
    assert found.status == status
    assert told in found.text
    assert advice in found.advice


def sources(*gpus: DeviceReading, missing: Missing | None = None, rapl: Missing | None = None) -> tuple[Any, Any]:
    machine = DeviceReading("cpu", "A CPU", power_w=None if rapl else 40.0, temperature_c=51.0)
    host = SimpleNamespace(read=lambda: (machine,), rapl=SimpleNamespace(missing=rapl, packages=2))
    return SimpleNamespace(read=lambda: gpus, missing=missing), host


def test_sensors_say_where_power_comes_from() -> None:
    gpu = DeviceReading("gpu:0", "H200", power_w=351.4, energy_j=1.0, power_source="nvml instant", scope="gpu")
    lines = sensor_lines(*sources(gpu))
    assert line(lines, "gpu:0 sensors").text == "351 W now (nvml instant), energy counter, scope gpu"
    assert line(lines, "cpu energy").text == "RAPL, 2 processor packages"
    assert "51 °C, clock n/a" in line(lines, "cpu sensors").text
    assert all(each.status == "ok" for each in lines)


@pytest.mark.parametrize("scope", ["module", "shared gpu"])
def test_power_that_covers_more_than_the_gpu_is_noted(scope: str) -> None:
    gpu = DeviceReading("gpu:0", "A GPU", power_w=1.0, power_source="nvml instant", scope=scope)
    found = line(sensor_lines(*sources(gpu)), "gpu:0 sensors")
    assert found.status == "note"
    assert "no energy counter" in found.text


def test_without_any_meter_it_says_so() -> None:
    denied = Missing("readable by root only", "chmod")
    lines = sensor_lines(*sources(missing=Missing("no driver", "install it"), rapl=denied))
    assert (line(lines, "gpu sensors").text, line(lines, "gpu sensors").advice) == ("no driver", "install it")
    assert (line(lines, "cpu energy").text, line(lines, "cpu energy").advice) == ("readable by root only", "chmod")
    assert "n/a" in line(lines, "energy").text


def test_a_terminal_that_has_everything() -> None:
    lines = describe_terminal({}, size=(120, 40), color_system="truecolor", encoding="utf-8")
    assert [(each.name, each.status) for each in lines] == [("terminal", "ok"), ("colours", "ok")]


@pytest.mark.parametrize(
    ("environ", "size", "color_system", "encoding", "name", "told"),
    [
        ({}, (59, 40), "truecolor", "utf-8", "terminal", "59 columns, 40 rows"),
        ({}, (80, 17), "truecolor", "utf-8", "terminal", "80 columns, 17 rows"),
        ({}, None, None, "utf-8", "terminal", "no terminal"),
        ({"TERM": "dumb"}, (80, 24), None, "utf-8", "colours", "TERM is dumb"),
        ({}, (80, 24), "standard", "utf-8", "colours", "16 colours"),
        ({}, (80, 24), "truecolor", "ascii", "encoding", "ascii"),
        ({"TMUX": "/tmp/tmux"}, (80, 24), "truecolor", "UTF-8", "tmux", "tmux"),
        ({"SSH_CONNECTION": "::1 1 ::1 2"}, (80, 24), "truecolor", "utf8", "ssh", "SSH"),
    ],
)
def test_what_limits_a_terminal_is_noted(
    environ: dict[str, str], size: tuple[int, int] | None, color_system: str | None, encoding: str, name: str, told: str
) -> None:
    lines = describe_terminal(environ, size=size, color_system=color_system, encoding=encoding)
    found = line(lines, name)
    assert found.status == "note"
    assert told in found.text


def test_no_color_is_a_choice_and_no_fault() -> None:
    lines = describe_terminal({"NO_COLOR": "1"}, size=(80, 24), color_system="truecolor", encoding="utf-8")
    assert line(lines, "colours").status == "ok"


def test_folders_are_examined_and_not_made(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "specterm"
    found = describe_folder("data", wanted)
    assert found.status == "ok"
    assert "made when" in found.text
    assert not wanted.exists()
    wanted.mkdir(parents=True)
    assert describe_folder("data", wanted).text == str(wanted)


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    found = describe_folder("data", tmp_path / "a" / "specterm")
    assert found.status == "missing"
    assert str(tmp_path / "a") in found.advice


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert describe_folder("data", tmp_path).status == "missing"


def test_broken_themes_are_named(tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text('name = "good"\n')
    (tmp_path / "nameless.toml").write_text("dark = true\n")
    (tmp_path / "torn.toml").write_text("name = \n")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    names, broken = read_themes(tmp_path)
    assert names == ["good"]
    assert [why.split()[0] for why in broken] == ["bytes.toml", "nameless.toml", "torn.toml"]
