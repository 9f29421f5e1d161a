"""specterm: a terminal workbench for speculative decoding of large language models.

    from specterm import Workbench

    with Workbench() as workbench:  # the built-in pair; or Workbench("my/target", draft="my/draft")
        for event in workbench.stream("Once upon a time", method="draft", num_draft_tokens=4):
            print(event)

Everything is imported when it is first used: importing this package costs nothing.
"""

from __future__ import annotations

from specterm.version import __version__

TYPE_CHECKING = False  # as type checkers take it; the import of typing takes longer than all of this
if TYPE_CHECKING:
    from typing import Any

    from specterm.api import Workbench
    from specterm.config import MethodSpec, ModelSpec, RunSpec, SamplingSpec
    from specterm.errors import ConfigError, DeviceError, ModelError, SpectermError
    from specterm.events import Loaded, Notice, Prefilled, Round, RowFinished, RowStarted, RunFinished, RunStarted
    from specterm.metrics import RowResult

__all__ = [
    "ConfigError",
    "DeviceError",
    "Loaded",
    "MethodSpec",
    "ModelError",
    "ModelSpec",
    "Notice",
    "Prefilled",
    "Round",
    "RowFinished",
    "RowResult",
    "RowStarted",
    "RunFinished",
    "RunSpec",
    "RunStarted",
    "SamplingSpec",
    "SpectermError",
    "Workbench",
    "__version__",
]

_HOME = {
    "Workbench": "api",
    "RowResult": "metrics",
    **dict.fromkeys(("MethodSpec", "ModelSpec", "RunSpec", "SamplingSpec"), "config"),
    **dict.fromkeys(("ConfigError", "DeviceError", "ModelError", "SpectermError"), "errors"),
    **dict.fromkeys(
        ("Loaded", "Notice", "Prefilled", "Round", "RowFinished", "RowStarted", "RunFinished", "RunStarted"), "events"
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'specterm' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"specterm.{_HOME[name]}"), name)
