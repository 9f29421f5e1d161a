"""Greedy word wrapping over columns of widths and flags: no text is looked at, so a million tokens wrap in a blink."""

from __future__ import annotations

from array import array

SPACE = 1  # the piece begins with a space: the line may break before it, and the space is then not shown
NEWLINE = 2  # the piece is a newline: the line ends with it
HIDEABLE = 4  # the piece shows only while rejected tokens are shown
BREAK = 8  # the line may break before the piece (wide characters need no space between them)


def wrap(
    widths: array[int], flags: bytearray, first: int, width: int, show_hideable: bool, continues: bool
) -> array[int]:
    """The first piece of each visual line after the one that begins at piece `first`.

    No piece may be wider than `width` cells. `continues` says that the line at `first` is itself a continuation, so
    that a space at its start is not shown.
    """
    starts = array("L")
    used = before_break = last_break = 0
    at_start = continues  # at the start of a continuation line, where a leading space takes no cell
    # Slices copy the tail only; islice() would walk over everything before it at every frame.
    for index, (cells, flag) in enumerate(zip(widths[first:], flags[first:], strict=True), first):
        if flag:
            if flag & HIDEABLE and not show_hideable:
                continue
            if flag & NEWLINE:
                starts.append(index + 1)
                used = before_break = 0
                at_start = False
                continue
            if flag & (SPACE | BREAK):
                before_break, last_break = used, index
                if at_start and flag & SPACE:
                    used -= 1
        at_start = False
        used += cells
        if used > width:
            if before_break:  # to the last gap between words
                starts.append(last_break)
                used -= before_break + (flags[last_break] & SPACE)
            if used > width:  # a word longer than the line
                starts.append(index)
                used = cells - (flag & SPACE)
            before_break = 0
    return starts
