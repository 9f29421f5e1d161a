"""Copying text out of the terminal, and saying by which way it went."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module

from textual.app import App

Paste = Callable[[str], None]


def ignores_osc52(environment: Mapping[str, str]) -> bool:
    """Whether the terminal is of a kind that ignores the sequence OSC 52, by which a program offers it text."""
    return (
        environment.get("TERM_PROGRAM") == "Apple_Terminal"
        or environment.get("TERM") == "linux"
        or "VTE_VERSION" in environment
    )


def local_clipboard() -> Paste | None:
    """pyperclip's way to the clipboard of this machine, if it is installed and finds one."""
    try:
        pyperclip = import_module("pyperclip")
    except ImportError:
        return None
    copy: Paste = pyperclip.copy
    return copy if pyperclip.is_available() else None


def copy(app: App[None], text: str, what: str) -> None:
    """Copy `text`, called `what` in the notice.

    The terminal gets it by OSC 52, which works over SSH too. Where the terminal is known to ignore that, pyperclip is
    asked. No terminal answers whether it took the text, so the notice says which way was tried.
    """
    deaf = ignores_osc52(os.environ)
    local = local_clipboard() if deaf and "SSH_CONNECTION" not in os.environ else None
    if local is not None:
        try:
            local(text)
        except Exception as error:  # pyperclip runs programs of all kinds
            told = " ".join(str(error).split()) or type(error).__name__
            app.notify(f"pyperclip could not copy {what}: {told}", severity="error", markup=False)
            return
        app.notify(f"{what} copied with pyperclip", markup=False)
        return
    app.copy_to_clipboard(text)
    if deaf:
        advice = "which this terminal may ignore; install pyperclip, or save to a file"
        app.notify(f"{what} sent to the terminal (OSC 52), {advice}", severity="warning", markup=False)
    else:
        tmux = "; tmux takes it with  set -g set-clipboard on" if "TMUX" in os.environ else ""
        app.notify(f"{what} copied through the terminal (OSC 52){tmux}", markup=False)
