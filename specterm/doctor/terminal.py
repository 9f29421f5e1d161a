"""What the terminal can show."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping

from specterm.doctor.report import Line

MIN_SIZE = (60, 18)  # columns and rows that the workbench needs

_COLOURS = {"standard": "16 colours", "256": "256 colours", "truecolor": "16 million colours", "windows": "16 colours"}


def terminal_lines() -> list[Line]:
    """The terminal that standard output is connected to."""
    from rich.console import Console

    interactive = sys.stdout.isatty()
    return describe_terminal(
        os.environ,
        size=tuple(shutil.get_terminal_size()) if interactive else None,
        color_system=Console(file=sys.stdout).color_system if interactive else None,
        encoding=sys.stdout.encoding or "",
    )


def describe_terminal(
    environ: Mapping[str, str], *, size: tuple[int, ...] | None, color_system: str | None, encoding: str
) -> list[Line]:
    """The findings on a terminal of `size` (columns, rows); None where standard output is no terminal."""
    lines = [_size(size)]
    if environ.get("NO_COLOR"):
        lines.append(Line("colours", "ok", "NO_COLOR is set: states are told apart by text attributes"))
    elif size is not None:
        lines.append(_colours(color_system, environ))
    if encoding.lower().replace("-", "") not in ("utf8", "utf8sig"):
        lines.append(
            Line("encoding", "note", f"{encoding or 'unknown'}: graphs and text may break", "use a UTF-8 locale")
        )
    if environ.get("TMUX"):
        lines.append(
            Line(
                "tmux",
                "note",
                "copying goes through tmux",
                "put `set -g set-clipboard on` in tmux.conf if copies do not arrive",
            )
        )
    if environ.get("SSH_CONNECTION"):
        lines.append(Line("ssh", "note", "over SSH: painting waits for the network; time runs with --batch"))
    return lines


def _size(size: tuple[int, ...] | None) -> Line:
    if size is None:
        return Line("terminal", "note", "standard output is no terminal: the workbench needs one, --prompt does not")
    told = f"{size[0]} columns, {size[1]} rows"
    if size[0] < MIN_SIZE[0] or size[1] < MIN_SIZE[1]:
        return Line("terminal", "note", told, f"enlarge it to {MIN_SIZE[0]} by {MIN_SIZE[1]} or more")
    return Line("terminal", "ok", told)


def _colours(color_system: str | None, environ: Mapping[str, str]) -> Line:
    term = environ.get("TERM", "")
    if color_system is None:
        return Line("colours", "note", f"none (TERM is {term or 'not set'})", "set TERM=xterm-256color if it is one")
    told = _COLOURS.get(color_system, color_system)
    if color_system == "truecolor":
        return Line("colours", "ok", told)
    return Line("colours", "ok" if color_system == "256" else "note", told, "set COLORTERM=truecolor if it shows more")
