"""The top line: which models are loaded, as what, and what is going on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.widgets import Static

from specterm.catalogue import HEADS, METHODS
from specterm.config import ModelSpec
from specterm.events import Loaded, ModelInfo
from specterm.tui.model_names import short
from specterm.tui.widgets.history_graph import bar
from specterm.tui.widgets.visible_text import visible

_BAR_CELLS = 10


@dataclass(frozen=True)
class Status:
    """What is going on, in a word or two; `fraction` is how far it is, where that is known."""

    text: str
    tone: str = "idle"  # idle, busy, error
    fraction: float | None = None


class ModelBar(Static):
    """Target, drafts, the heads that the chosen method uses, number format, device, memory, all heads and runner on the
    left, as far as there is room; the status on the right."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "model-bar--brand",
        "model-bar--label",
        "model-bar--value",
        "model-bar--idle",
        "model-bar--busy",
        "model-bar--error",
    }

    def __init__(self, model: ModelSpec, method: str, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__("", id=id)
        self._asked = model
        self._method = method
        self._loaded: Loaded | None = None
        self._status = Status("")
        self._measuring = False

    def on_resize(self) -> None:
        self.draw()

    def show_loaded(self, loaded: Loaded) -> None:
        """Show the models as they really are."""
        self._loaded = loaded
        self.draw()

    def show_method(self, method: str) -> None:
        """Show what another method drafts with."""
        if method != self._method:
            self._method = method
            self.draw()

    def show_status(self, status: Status) -> None:
        """Show what is going on."""
        if status != self._status:
            self._status = status
            self.draw()

    def show_measuring(self, measuring: bool) -> None:
        """Show whether the screen is painted seldom."""
        self._measuring = measuring
        self.draw()

    def _parts(self) -> list[tuple[str, str]]:
        if self._loaded is None:
            drafts = self._method_drafts(self._asked.drafts)
            models = [("target", self._asked.target), *drafts, *self._method_heads(self._asked.heads())]
            return [*models, ("", self._asked.dtype), ("", self._asked.device)]
        target = self._loaded.target
        drafts = self._method_drafts([_name(draft, draft.quantization) for draft in self._loaded.drafts])
        heads = self._method_heads(self._loaded.heads)
        parts = [("target", _name(target)), *drafts, *heads, ("", target.dtype)]
        if target.quantization:
            parts.append(("", target.quantization))
        parts += [("", target.device), ("", _memory(self._loaded))]
        if self._loaded.heads:
            parts.append(("heads", "+".join(self._loaded.heads)))
        return [*parts, ("", target.runner)]

    def _method_drafts(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """The drafts; of several, those that the chosen method leaves out are told apart."""
        method = METHODS.get(self._method)
        used = method.max_drafts if method is not None and method.max_drafts else len(names)
        return [("draft" if number < used else "unused", name) for number, name in enumerate(names)]

    def _method_heads(self, named: Mapping[str, str]) -> list[tuple[str, str]]:
        """The heads that the chosen method needs: where they are from, or that there are none."""
        method = METHODS.get(self._method)
        if method is None or not method.heads:
            return []
        return [(HEADS[method.heads], visible(named.get(method.heads, "none")))]

    def draw(self) -> None:
        """Draw what is shown, in the colours of now."""
        width = self.size.width - 2
        if width <= 0:
            return
        style = self.get_component_rich_style
        label, value = style("model-bar--label", partial=True), style("model-bar--value", partial=True)
        status = Text(no_wrap=True)
        tone = style(f"model-bar--{self._status.tone}", partial=True)
        if self._status.fraction is not None:
            status.append(bar(self._status.fraction, _BAR_CELLS), tone)
            status.append(f" {self._status.fraction:.0%} ", tone)
        status.append(visible(short(self._status.text)), tone)
        if self._measuring:
            status.append(" · measuring", label)
        left = Text("specterm", style=style("model-bar--brand", partial=True), no_wrap=True)
        parts = [
            Text.assemble(("  " + (name + " " if name else "· "), label), (visible(short(told)), value))
            for name, told in self._parts()
        ]
        # What is going on may take what the target leaves, half of the line at least.
        room = width - left.cell_len - parts[0].cell_len - 2
        status.truncate(max(width // 2, room), overflow="ellipsis")
        for part in parts:
            if left.cell_len + part.cell_len + status.cell_len + 2 > width:
                break
            left.append_text(part)
        left.append(" " * max(1, width - left.cell_len - status.cell_len))
        self.update(left.append_text(status), layout=False)  # always one line


def _memory(loaded: Loaded) -> str:
    """What weights take, and a token of context in all KV caches where that is known."""
    models = (loaded.target, *loaded.drafts)
    weights = sum(model.weight_bytes for model in models) + (loaded.head_bytes or 0)
    told = f"{weights / 1e9:.1f} GB" if weights >= 1e9 else f"{weights / 1e6:.0f} MB"
    tokens = [model.kv_token_bytes for model in models]
    kept = [count for count in tokens if count is not None]
    return f"{told} + {sum(kept) / 1e3:.0f} kB/token" if len(kept) == len(tokens) else told


def _name(model: ModelInfo, quantization: str | None = None) -> str:
    millions = model.parameters / 1e6
    size = (
        f"{millions / 1000:.1f}B" if millions >= 1000 else f"{millions:.0f}M" if millions >= 10 else f"{millions:.1f}M"
    )
    return f"{model.name} ({size}{f', {quantization}' if quantization else ''})"
