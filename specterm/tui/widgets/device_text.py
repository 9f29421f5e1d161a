"""Device readings as text: what a device does not report is n/a, never 0."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.style import Style
from rich.text import Text

from specterm.events import DeviceReading
from specterm.tui.widgets.history_graph import bar, braille_graph
from specterm.tui.widgets.visible_text import visible

NOT_MEASURED = "n/a"
_GIB = 2**30
_HISTORY = 600
_LABEL = 8  # cells of a label


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
    bar: Style
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
        return Text("devices: nothing read yet", style=look.label)
    ordered = sorted(readings, key=lambda reading: reading.device == "cpu")
    first = ordered[0]
    parts = [
        ("util", percent(first.utilization), look.value),
        ("mem", memory(first), look.load(memory_share(first))),
        ("" if first.temperature_c is not None else "temp", celsius(first), look.value),
        ("" if first.clock_mhz is not None else "clock", clock(first), look.value),
    ]
    if origin := power_origin(first):
        parts.append(("power by", origin, look.label))
    if len(ordered) > 1:
        parts.append(("", f"+{len(ordered) - 1}", look.label))
    power_label = "power " if first.power_w is None else ""  # watts say themselves what they are
    text = Text.assemble((f"{first.device} {power_label}", look.label), (watts(first), look.load(power_share(first))))
    for label, value, style in parts:
        part = Text.assemble(("  " + (label + " " if label else ""), look.label), (value, style))
        if text.cell_len + part.cell_len <= width:
            text.append_text(part)
    return text


def device_block(
    reading: DeviceReading, history: DeviceHistory, width: int, graph_height: int, look: Look
) -> list[Text]:
    """A device in full: five lines and a graph of `graph_height` (1 or more) lines."""
    title = Text.assemble((reading.device, look.value + Style(bold=True)), (f"  {visible(reading.name)}", look.label))
    if reading.throttled:
        title.append("  throttled", look.high)
    title.truncate(width, overflow="ellipsis")
    power = Text.assemble(("power".ljust(_LABEL), look.label), (watts(reading), look.load(power_share(reading))))
    origin = power_origin(reading)
    if origin and power.cell_len + len(origin) + 2 <= width:
        power.append("  " + origin, look.label)
    share = memory_share(reading)
    return [
        title,
        power,
        *_graph(reading, history, width, graph_height, look),
        _gauge("util", percent(reading.utilization), reading.utilization, look.value, look.bar, width, look),
        _gauge("memory", memory(reading), share, look.load(share), look.load(share), width, look),
        Text.assemble(
            ("temp".ljust(_LABEL), look.label),
            (celsius(reading), look.value),
            ("  clock ", look.label),
            (clock(reading), look.value),
        ),
    ]


def _gauge(label: str, value: str, share: float | None, style: Style, bar_style: Style, width: int, look: Look) -> Text:
    text = Text.assemble((label.ljust(_LABEL), look.label), (value, style))
    used = max(26, text.cell_len + 1)
    if share is not None and width - used >= 6:
        text.append(" " * (used - text.cell_len))
        text.append(bar(share, width - used), bar_style)
    return text


def _graph(reading: DeviceReading, history: DeviceHistory, width: int, height: int, look: Look) -> list[Text]:
    """Power up to the limit (without one, up to the highest seen); where there is no power, utilization."""
    samples: Sequence[float | None] = tuple(history.power.get(reading.device, ()))
    seen = [sample for sample in samples if sample is not None]
    if seen:
        maximum = max(reading.power_limit_w or 0.0, *seen, 1.0)
        scale, style = f"≤{maximum:.0f} W", look.load(power_share(reading))
    else:
        samples = tuple(history.utilization.get(reading.device, ()))
        maximum, scale, style = 1.0, "≤100 %", look.bar
    lines = braille_graph(samples, maximum, max(4, width - _LABEL), height)
    return [
        Text.assemble(((scale if row == 0 else "").ljust(_LABEL), look.label), (line, style))
        for row, line in enumerate(lines)
    ]
