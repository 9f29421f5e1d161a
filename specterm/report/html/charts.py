"""Charts as inline SVG. Places are in percent of the width, so that a chart is as wide as there is room and its letters
keep their size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from specterm.bench.statistics import Interval
from specterm.report.html.elements import Html, element, joined

_ROW_HEIGHT = 28
_BAR_HEIGHT = 64
_LEFT, _RIGHT = 1.0, 97.0  # percent: marks at the ends of an axis stay whole
_MOST_LABELLED = 12  # columns; the labels of more would touch
_LEAST_LABELLED = 0.09  # a share of a bar below which its label would not fit


@dataclass(frozen=True, slots=True)
class Dot:
    """A row of a chart of intervals; `others` are the values of the single prompts."""

    name: str
    interval: Interval
    text: str
    others: tuple[float, ...] = ()

    @property
    def reach(self) -> float:
        """The highest value of the row."""
        return max(self.interval.ratio, self.interval.high or 0.0, *self.others, 0.0)


def intervals(rows: Sequence[Dot], reach: float) -> Html:
    """A dot with its interval a row, on one axis from 0 that holds 1 (a line stands there) and `reach`."""
    end, step = _axis(max(1.0, reach))
    drawn = [_row(row.name, _dot(row, end), row.text) for row in rows]
    ticks = [step * count for count in range(1 + round(end / step))]
    labels = [_text(_place(tick, end), 12, f"{tick:g}×", "tick") for tick in ticks]
    axis = (element("span"), _svg(labels, 16, ""), element("span"))
    return element("div", (*drawn, *axis), class_="chart")


def _axis(value: float) -> tuple[float, float]:
    """A round end of an axis that holds `value`, and the distance of its ticks."""
    step = next(step for step in _steps() if value <= 5 * step)
    return math.ceil(round(value / step, 9)) * step, step


def _steps() -> Iterator[float]:
    scale = 0.1
    while True:
        yield from (scale, 2 * scale, 5 * scale)
        scale *= 10


def _dot(row: Dot, end: float) -> Html:
    middle, one = _ROW_HEIGHT / 2, _place(1.0, end)
    marks = [
        element("line", x1=f"{_LEFT}%", x2=f"{_RIGHT}%", y1=middle, y2=middle, class_="axis"),
        element("line", x1=one, x2=one, y1=0, y2=_ROW_HEIGHT, class_="one"),
        *(element("circle", cx=_place(value, end), cy=middle, r=2.5, class_="prompt") for value in row.others),
    ]
    low, high = row.interval.low, row.interval.high
    if low is not None and high is not None:
        marks.append(
            element("line", x1=_place(low, end), x2=_place(high, end), y1=middle, y2=middle, class_="interval")
        )
    marks.append(element("circle", cx=_place(row.interval.ratio, end), cy=middle, r=5.5, class_="dot"))
    return _svg(marks, _ROW_HEIGHT, f"{row.name}: {row.text}")


def _place(value: float, end: float) -> str:
    return f"{_LEFT + (_RIGHT - _LEFT) * value / end:.2f}%"


def columns(rows: Sequence[tuple[str, Sequence[float], str]]) -> Html:
    """For each name its shares (0 to 1) as columns, numbered from 1; a text stands beside them."""
    most = max(len(shares) for _, shares, _ in rows)
    drawn = (_row(name, _columns(name, shares, most), text) for name, shares, text in rows)
    return element("div", drawn, class_="chart")


def _columns(name: str, shares: Sequence[float], most: int) -> Html:
    width = min(100 / most, 12.0)
    marks = [element("line", x1="0%", x2=f"{width * most:.2f}%", y1=_BAR_HEIGHT, y2=_BAR_HEIGHT, class_="axis")]
    for place, share in enumerate(shares):
        height = max(share * (_BAR_HEIGHT - 14), 0.5)
        left, top = width * (place + 0.1), _BAR_HEIGHT - height
        marks.append(
            element("rect", x=f"{left:.2f}%", y=top, width=f"{width * 0.8:.2f}%", height=height, class_="column")
        )
        if most <= _MOST_LABELLED:
            middle = f"{left + width * 0.4:.2f}%"
            marks.append(_text(middle, top - 3, f"{100 * share:.0f}", "tick"))
            marks.append(_text(middle, _BAR_HEIGHT + 13, str(place + 1), "tick"))
    told = ", ".join(f"position {place} {share:.0%}" for place, share in enumerate(shares, 1))
    return _svg(marks, _BAR_HEIGHT + 18, f"{name}: {told}")


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of named parts, each with its number of the legend; `text` stands beside it."""

    name: str
    parts: tuple[tuple[str, int, float], ...]
    text: str

    @property
    def whole(self) -> float:
        """The length of the bar."""
        return math.fsum(size for _, _, size in self.parts)


def stacks(bars: Sequence[Bar], names: Sequence[str]) -> Html:
    """Bars of parts on one scale, each part with its share of its bar, and the legend of `names`."""
    longest = max(bar.whole for bar in bars)
    drawn = [_row(bar.name, _stack(bar, longest), bar.text) for bar in bars]
    keys = (element("span", (element("i", class_=f"key part{n}"), name)) for n, name in enumerate(names))
    return joined((element("div", drawn, class_="chart"), element("p", keys, class_="legend")))


def _stack(bar: Bar, longest: float) -> Html:
    marks, left = [], 0.0
    for name, number, size in bar.parts:
        width, share = 100 * size / longest, size / bar.whole
        shape = element(
            "rect", element("title", f"{name} {share:.1%}"), x=f"{left:.2f}%", y=3, width=f"{width:.2f}%",
            height=_ROW_HEIGHT - 6, class_=f"part{number}",
        )  # fmt: skip
        marks.append(shape)
        if width > 100 * _LEAST_LABELLED:
            marks.append(_text(f"{left + width / 2:.2f}%", _ROW_HEIGHT / 2 + 4, f"{share:.0%}", f"on part{number}"))
        left += width
    told = ", ".join(f"{name} {size / bar.whole:.1%}" for name, _, size in bar.parts)
    return _svg(marks, _ROW_HEIGHT, f"{bar.name}: {told}")


def _row(name: str, picture: Html, text: str) -> Html:
    return joined((element("span", name, class_="name"), picture, element("span", text, class_="value")))


def _text(x: str, y: float, content: str, kind: str) -> Html:
    return element("text", content, x=x, y=y, text_anchor="middle", class_=kind)


def _svg(marks: Iterable[Html], height: float, label: str) -> Html:
    hidden = None if label else "true"
    return element(
        "svg", marks, width="100%", height=height, role="img" if label else None, aria_label=label or None,
        aria_hidden=hidden,
    )  # fmt: skip
