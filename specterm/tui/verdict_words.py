"""What a comparison found out about a lane, in words."""

from __future__ import annotations

from specterm.bench.statistics import Interval, Statistics
from specterm.bench.summary import Summary
from specterm.report.deploy import interval_text
from specterm.report.figures import NOT_MEASURED
from specterm.tui.difference import DIFFERENCE
from specterm.tui.race import Lap
from specterm.tui.widgets.visible_text import visible

_CONTEXT = 24  # characters shown on either side of a difference


def mean_text(figure: Statistics | None, digits: int) -> str:
    """A mean; "n/a" where it was not measured."""
    return NOT_MEASURED if figure is None else f"{figure.mean:.{digits}f}"


def speedup_text(speedup: Interval | None) -> str:
    """A speedup with its 95 % interval, where there is one."""
    return NOT_MEASURED if speedup is None else interval_text(speedup)


def energy_text(entry: Summary) -> str:
    """Joules a token and where they were read."""
    energy = entry.figures.get("joules_per_token")
    if energy is None:
        return NOT_MEASURED
    return f"{energy.mean:.3f} ({', '.join(entry.energy_source)})"


def output_text(entry: Summary) -> str:
    """How the outputs of all runs compare with naive's; "may differ" where drafts are drawn, or the rule is lossy."""
    runs = sum(entry.matches_naive.values())
    for outcome, told in (("different", "DIFFERENT"), ("near_tie", "near tie")):
        if count := entry.matches_naive.get(outcome, 0):
            return f"{told} {count}/{runs}"
    if not runs:
        return NOT_MEASURED if entry.speedup is None else "may differ"
    return "identical"


def figures_text(entry: Summary) -> str:
    """The figures that a narrow table leaves out, on one line."""
    length = mean_text(entry.figures.get("mean_acceptance_length"), 2)
    speed = mean_text(entry.figures.get("throughput_tok_s"), 1)
    return f"acceptance length {length} · {speed} tok/s · J/token {energy_text(entry)}"


def sentence(entry: Summary, *, reference: bool, complete: bool, compared: bool) -> str:
    """The verdict on a lane on one line; `reference`: it is what the others are compared with; `compared`: their
    outputs have been, too."""
    if not entry.runs:
        return f"{entry.configuration}: no run came to its end"
    parts = [f"{mean_text(entry.figures.get('throughput_tok_s'), 1)} tok/s, what the others are compared with"]
    if not reference:
        parts = ["no speedup without a naive lane" if entry.speedup is None else speedup_text(entry.speedup)]
        parts += [_gain(entry.speedup)] if entry.speedup is not None else []
        output = output_text(entry) if compared else NOT_MEASURED
        parts.append("output not compared" if output == NOT_MEASURED else f"output {output}")
    if not entry.lossless:
        parts.append("not lossless")
    if not complete:
        parts.append("partial")
    if not entry.lossless and entry.lossless_reason:
        parts.append(entry.lossless_reason)
    return f"{entry.configuration}: {', '.join(parts)}"


def _gain(speedup: Interval) -> str:
    """Whether the interval tells it from naive."""
    low, high = speedup.low, speedup.high
    if low is None or high is None:
        return "one run: no interval"
    return "faster" if low > 1 else "slower" if high < 1 else "no measurable difference"


def difference_text(configuration: str, lap: Lap, naive: Lap, *, free: bool) -> str:
    """Where a lap's text leaves naive's, and both texts around it; "" where it does not. `free`: it may."""
    if lap.difference is None:
        return ""
    other = Lap(naive.events, naive.tokens, naive.seconds, lap.difference)
    told = [f"{name}: {_around(*which.around)}" for name, which in (("naive", other), (configuration, lap))]
    what = "differs, as it may," if free else "different"
    return " · ".join((f"{what} from token {lap.difference + 1}", *told))


def _around(before: str, after: str) -> str:
    start = "…" if len(before) > _CONTEXT else ""
    end = "…" if len(after) > _CONTEXT else ""
    return f"{start}{visible(before[-_CONTEXT:])}{DIFFERENCE}{visible(after[:_CONTEXT]) or '(ends here)'}{end}"
