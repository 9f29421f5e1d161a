"""A history as braille dots: two samples a cell, four levels a row. Unmeasured samples leave a gap."""

from __future__ import annotations

from collections.abc import Sequence

# Dots of the left and the right column of a braille cell, from the bottom up.
_LEFT = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)


def braille_graph(samples: Sequence[float | None], maximum: float, width: int, height: int) -> list[str]:
    """The last `2 * width` samples as `height` lines of `width` cells, the newest at the right edge.

    The full height is `maximum` (above 0). A sample above zero shows at least one dot.
    """
    levels = [_level(sample, maximum, 4 * height) for sample in samples[-2 * width :]]
    levels = [0] * (2 * width - len(levels)) + levels
    lines = []
    for row in range(height - 1, -1, -1):
        rows = [min(4, max(0, level - 4 * row)) for level in levels]
        lines.append("".join(chr(0x2800 + _LEFT[a] + _RIGHT[b]) for a, b in zip(rows[::2], rows[1::2], strict=True)))
    return lines


def _level(sample: float | None, maximum: float, levels: int) -> int:
    if sample is None or sample <= 0:
        return 0
    return max(1, min(levels, round(sample / maximum * levels)))


def bar(fraction: float, width: int) -> str:
    """A horizontal bar of eighth blocks, `width` cells at 1; the rest is blank."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")).ljust(width)
