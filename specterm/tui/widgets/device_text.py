"""Device readings as text: what a device does not report is n/a, never 0."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.style import Style
from rich.text import Text

from specterm.events import DeviceReading
from specterm.tui.widgets.history_graph import bar, braille_graph

NOT_MEASURED = "n/a"
_GIB = 2**30
_HISTORY = 600


@dataclass
class DeviceHistory:
    """The last readings of each device; `observe` takes a snapshot once, however often it is offered."""

    latest: tuple[DeviceReading, ...] = ()
    power: dict[str, deque[float | None]] = field(default_factory=dict)
    utilization: dict[str, deque[float | None]] = field(default_factory=dict)

    def observe(self, readings: tuple[DeviceReading, ...]) -> bool:
        """Add a snapshot; False when it is the one added last."""
        if readings is self.latest:
            return False
        self.latest = readings
        for reading in readings:
            self.power.setdefault(reading.device, deque(maxlen=_HISTORY)).append(reading.power_w)
            self.utilization.setdefault(reading.device, deque(maxlen=_HISTORY)).append(reading.utilization)
        return True


@dataclass(frozen=True)
class Look:
    """The styles of a panel, resolved."""

    label: Style
    value: Style
    low: Style
    mid: Style
    high: Style

    def load(self, fraction: float | None) -> Style:
        """The style of a load from 0 to 1."""
        if fraction is None:
            return self.value
        return self.low if fraction < 0.5 else self.mid if fraction < 0.85 else self.high


def percent(fraction: float | None) -> str:
    """A fraction as whole percent."""
    return NOT_MEASURED if fraction is None else f"{fraction:.0%}".replace("%", " %")


def watts(reading: DeviceReading) -> str:
    """Power and its limit."""
    if reading.power_w is None:
        return NOT_MEASURED
    limit = "" if reading.power_limit_w is None else f" / {reading.power_limit_w:.0f}"
    return f"{reading.power_w:.0f}{limit} W"


def memory(reading: DeviceReading) -> str:
    """Memory used and in all, in GiB."""
    if reading.memory_used is None:
        return NOT_MEASURED
    total = "" if reading.memory_total is None else f" / {reading.memory_total / _GIB:.1f}"
    return f"{reading.memory_used / _GIB:.1f}{total} GiB"


def celsius(reading: DeviceReading) -> str:
    """Temperature."""
    return NOT_MEASURED if reading.temperature_c is None else f"{reading.temperature_c:.0f} °C"


def clock(reading: DeviceReading) -> str:
    """Clock frequency, and whether the device holds it down."""
    if reading.clock_mhz is None:
        return NOT_MEASURED
    return f"{reading.clock_mhz:.0f} MHz"


def power_origin(reading: DeviceReading) -> str:
    """Where the power figure comes from and what it covers."""
    if reading.power_w is None:
        return ""
    parts = [reading.power_source or "source unknown"]
    if reading.scope and reading.scope != "gpu":
        parts.append(reading.scope)
    return ", ".join(parts)


def power_share(reading: DeviceReading) -> float | None:
    """Power as a share of its limit."""
    if reading.power_w is None or not reading.power_limit_w:
        return None
    return reading.power_w / reading.power_limit_w


def memory_share(reading: DeviceReading) -> float | None:
    """Used memory as a share of the whole."""
    if reading.memory_used is None or not reading.memory_total:
        return None
    return reading.memory_used / reading.memory_total


def device_line(readings: Sequence[DeviceReading], width: int, look: Look) -> Text:
    """The first device (a GPU, where there is one) on one line; parts that do not fit are left out."""
    if not readings:
        return Text("device n/a", style=look.label)
    ordered = sorted(readings, key=lambda reading: reading.device == "cpu")
    first = ordered[0]
    text = Text(f"{first.device} ", style=look.label)
    text.append(watts(first), look.load(power_share(first)))
    origin = power_origin(first)
    optional = [
        ("util", percent(first.utilization), look.value),
        ("mem", memory(first), look.load(memory_share(first))),
        ("", celsius(first), look.value),
        ("", clock(first), look.value),
        ("power by", origin, look.label) if origin else ("", "", look.label),
    ]
    if first.power_w is None:
        text = Text.assemble((f"{first.device} ", look.label), ("power ", look.label), (NOT_MEASURED, look.value))
    for label, value, style in optional:
        if not value:
            continue
        part = Text.assemble(("  " + (label + " " if label else ""), look.label), (value, style))
        if text.cell_len + part.cell_len <= width:
            text.append_text(part)
    if len(ordered) > 1:
        more = Text(f"  +{len(ordered) - 1}", style=look.label)
        if text.cell_len + more.cell_len <= width:
            text.append_text(more)
    return text


def device_block(
    reading: DeviceReading, history: DeviceHistory, width: int, graph_height: int, look: Look
) -> list[Text]:
    """A device in full: five lines and a graph of `graph_height` lines (none where that is 0)."""
    title = Text.assemble((reading.device, look.value + Style(bold=True)), (f"  {reading.name}", look.label))
    if reading.throttled:
        title.append("  throttled", look.high)
    title.truncate(width, overflow="ellipsis")
    lines = [title, _row("power", watts(reading), power_origin(reading), power_share(reading), width, look)]
    if graph_height:
        lines += _graph(reading, history, width, graph_height, look)
    share = memory_share(reading)
    lines.append(_gauge("util", percent(reading.utilization), reading.utilization, look.value, width, look))
    lines.append(_gauge("memory", memory(reading), share, look.load(share), width, look))
    lines.append(
        Text.assemble(
            ("temp".ljust(8), look.label),
            (celsius(reading), look.value),
            ("  clock ", look.label),
            (clock(reading), look.value),
        )
    )
    return lines


def _row(label: str, value: str, remark: str, share: float | None, width: int, look: Look) -> Text:
    text = Text.assemble((label.ljust(8), look.label), (value, look.load(share)))
    if remark and text.cell_len + len(remark) + 2 <= width:
        text.append("  " + remark, look.label)
    return text


def _gauge(label: str, value: str, share: float | None, style: Style, width: int, look: Look) -> Text:
    text = Text.assemble((label.ljust(8), look.label), (value, style))
    used = max(26, text.cell_len + 1)
    if share is not None and width - used >= 6:
        text.append(" " * (used - text.cell_len))
        text.append(bar(share, width - used), style)
    return text


def _graph(reading: DeviceReading, history: DeviceHistory, width: int, height: int, look: Look) -> list[Text]:
    """Power up to the limit (without one, up to the highest seen); where there is no power, utilization."""
    samples: Sequence[float | None] = tuple(history.power.get(reading.device, ()))
    if any(sample is not None for sample in samples):
        peak = max(sample for sample in samples if sample is not None)
        maximum, share = max(reading.power_limit_w or 0.0, peak, 1.0), power_share(reading)
        label = "power W"
    else:
        samples = tuple(history.utilization.get(reading.device, ()))
        maximum, share, label = 1.0, None, "util %"
    lines = braille_graph(samples, maximum, max(4, width - 8), height)
    labels: Mapping[int, str] = {0: label.split()[0][:7], height - 1: f"{maximum * (1 if 'W' in label else 100):.0f}"}
    texts = []
    for index, line in enumerate(lines):
        # Top row carries the scale, bottom row the name; one row carries the scale only.
        caption = (
            f"≤{labels[height - 1]} {label.split()[1]}" if index == 0 else (labels[0] if index == height - 1 else "")
        )
        texts.append(Text.assemble((caption[:8].ljust(8), look.label), (line, look.load(share))))
    return texts
