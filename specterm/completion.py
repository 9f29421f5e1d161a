"""Completing specterm's options in a shell: the script to be sourced, and the answers it asks for."""

from __future__ import annotations

import os

from specterm.errors import ConfigError
from specterm.options import SHELLS

_VARIABLE = "_SPECTERM_COMPLETE"  # by which a script asks for the completions of a line; the option parser answers


def completion_script(shell: str) -> str:
    """The script for `shell`, to be sourced by it.

    Raises:
        ConfigError: the shell is not one of `SHELLS`.
    """
    if shell not in SHELLS:
        raise ConfigError(f"--completion is {shell!r}; it must be one of {', '.join(SHELLS)}")
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    return get_completion_script(prog_name="specterm", complete_var=_VARIABLE, shell=shell)


def prepare_completion() -> None:
    """Let the option parser answer a shell that asks, if one does."""
    if _VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()
