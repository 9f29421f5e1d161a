"""What the program remembers from session to session by itself: the theme that was chosen, and earlier prompts.

Both lie in the state folder, readable by their owner only. A memory that cannot be read or written is no reason to
disturb anybody: it is then empty, and lost with the session.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from specterm.locations import PROMPTS_FILE

MAX_PROMPTS = 500
_SPARE_PROMPTS = 100  # lines beyond that before the file is written anew
_PRIVATE = 0o600


class Memory:
    """The memory in `folder`; with None nothing is remembered. `prompts`: whether prompts are."""

    def __init__(self, folder: Path | None = None, *, prompts: bool = True) -> None:
        self._state = None if folder is None else folder / "state.json"
        self._prompts = folder / PROMPTS_FILE if folder is not None and prompts else None

    @property
    def theme(self) -> str | None:
        """The theme that was chosen last."""
        found = self._read_state().get("theme")
        return found if isinstance(found, str) else None

    @theme.setter
    def theme(self, name: str) -> None:
        if self._state is not None and name != self.theme:
            _write(self._state, json.dumps({**self._read_state(), "theme": name}, ensure_ascii=False) + "\n")

    def _read_state(self) -> dict[str, Any]:
        if self._state is not None:
            with suppress(OSError, ValueError):
                found = json.loads(self._state.read_text(encoding="utf-8"))
                return found if isinstance(found, dict) else {}
        return {}

    def prompts(self) -> list[str]:
        """Earlier prompts, the oldest first, at most `MAX_PROMPTS`. Where the file has grown long it is shortened."""
        if self._prompts is None:
            return []
        found: list[str] = []
        lines: list[str] = []
        with suppress(OSError, UnicodeDecodeError):
            lines = self._prompts.read_text(encoding="utf-8").split("\n")
        for line in lines:
            with suppress(ValueError):  # a line that a crash cut short
                prompt = json.loads(line)
                if isinstance(prompt, str) and prompt != (found[-1] if found else None):
                    found.append(prompt)
        kept = found[-MAX_PROMPTS:]
        if len(lines) > MAX_PROMPTS + _SPARE_PROMPTS:
            _write(self._prompts, _lines(kept))
        return kept

    def add_prompt(self, prompt: str) -> None:
        """Remember a prompt."""
        if self._prompts is None:
            return
        with suppress(OSError):
            self._prompts.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._prompts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _PRIVATE)
            with os.fdopen(handle, "a", encoding="utf-8") as file:
                file.write(json.dumps(prompt) + "\n")

    def forget_prompts(self, prompts: Collection[str] | None = None) -> None:
        """Delete `prompts`; None deletes all."""
        if self._prompts is None:
            return
        kept = [] if prompts is None else [prompt for prompt in self.prompts() if prompt not in prompts]
        if kept:
            _write(self._prompts, _lines(kept))
        else:
            with suppress(OSError):
                self._prompts.unlink()


def _lines(prompts: Iterable[str]) -> str:
    return "".join(json.dumps(prompt) + "\n" for prompt in prompts)


def _write(path: Path, text: str) -> None:
    from specterm.report.writing import write_whole

    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, text, _PRIVATE)
