"""What a drafter from outside the package is made of.

A plug-in is one `Plugin` in a Python file: a `Method`, which says what it is called and which `Parameter`s it has, and
`build`, which makes a `Drafter` from a `DraftSetup`. README has an example; `Drafter` says what each method is told,
and `specterm.decoding.drafters` has all that ship with the package.

    specterm --method my_file.py:NAME                    a file, from the working folder
    specterm --method my.module:NAME                     a module that Python can import
    [project.entry-points."specterm.drafters"]           an installed package: then --method my-method
    my-method = "my.module:NAME"

What a drafter proposes is judged like any other draft, so it cannot change the output; a malformed tree ends the run.
The file is imported to read its options, before a screen or a model is there: naming things of torch at its top
(`DraftTree`, `tree_of_paths`, `import torch`) imports torch then, which takes about a second.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from specterm.catalogue import Method, Parameter
from specterm.catalogue.plugins import Plugin
from specterm.errors import ConfigError

if TYPE_CHECKING:
    from specterm.decoding.drafters.setup import DraftSetup
    from specterm.decoding.drafters.token_paths import tree_of_paths
    from specterm.decoding.ports import FINAL_NORM, Admission, Block, Drafter, Feedback, Needs, ProposeRow, Runner
    from specterm.decoding.tree import DraftTree, Topology

__all__ = [
    "FINAL_NORM",
    "Admission",
    "Block",
    "ConfigError",
    "DraftSetup",
    "DraftTree",
    "Drafter",
    "Feedback",
    "Method",
    "Needs",
    "Parameter",
    "Plugin",
    "ProposeRow",
    "Runner",
    "Topology",
    "tree_of_paths",
]

_HOME = {
    "DraftSetup": "drafters.setup",
    "tree_of_paths": "drafters.token_paths",
    **dict.fromkeys(
        ("FINAL_NORM", "Admission", "Block", "Drafter", "Feedback", "Needs", "ProposeRow", "Runner"), "ports"
    ),
    **dict.fromkeys(("DraftTree", "Topology"), "tree"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'specterm.plugins' has no attribute {name!r}")
    return getattr(importlib.import_module(f"specterm.decoding.{_HOME[name]}"), name)
