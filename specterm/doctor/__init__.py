"""What this machine has, what specterm would use of it, and what is missing, each with its mend.

Every line is looked up or tried when it is asked for; nothing is installed, fetched or written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from specterm.doctor.compute import compute_lines
from specterm.doctor.files import builtin_lines, folder_lines, theme_lines
from specterm.doctor.report import Line, Report, Section
from specterm.doctor.sensors import sensor_lines
from specterm.doctor.software import software_lines
from specterm.doctor.terminal import terminal_lines
from specterm.telemetry.host import HostSource
from specterm.telemetry.nvml import NvmlSource

__all__ = ["Line", "Report", "Section", "doctor"]


def doctor() -> Report:
    """Examine this machine. Imports torch and tries bitsandbytes, so it takes some seconds.

    A check that fails in an unforeseen way becomes a line of its own; it does not end the others.
    """
    nvml, host = NvmlSource(), HostSource()
    try:
        return Report(
            (
                _section("Software", software_lines),
                _section("Compute", partial(compute_lines, nvml)),
                _section("Power and sensors", partial(sensor_lines, nvml, host)),
                _section("Models and files", builtin_lines, folder_lines, theme_lines),
                _section("Terminal", terminal_lines),
            )
        )
    finally:
        nvml.close()
        host.close()


def _section(title: str, *checks: Callable[[], list[Line]]) -> Section:
    lines: list[Line] = []
    for check in checks:
        try:
            lines.extend(check())
        except Exception as error:  # a doctor who faints helps nobody
            lines.append(Line(title.lower(), "note", f"could not be examined: {type(error).__name__}: {error}"))
    return Section(title, tuple(lines))
