"""A plug-in's drafter behind the drafter's contract: what it proposes is checked, and what it raises becomes one line.

Drafts are judged like all others, so a plug-in cannot change what is output; a malformed tree could, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from specterm.catalogue.plugins import Plugin, told_with_place
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.drafters.tree_check import fault
from specterm.decoding.ports import FINAL_NORM, Admission, Drafter, Feedback, Needs, ProposeRow
from specterm.decoding.tree import DraftTree
from specterm.errors import SpectermError

T = TypeVar("T")
_METHODS = ("open", "admit", "propose", "catch_up", "release", "close")


class CheckedDrafter:
    """See the module."""

    def __init__(self, plugin: Plugin, setup: DraftSetup) -> None:
        """Build the plug-in's drafter.

        Raises:
            SpectermError: it cannot be built, or what was built is no drafter.
        """
        self._method = plugin.method
        self._vocab_size, self._device = setup.target.vocab_size, setup.target.device
        self._drafter: Drafter = self._call("build", plugin.build, setup)
        for name in _METHODS:
            if not callable(getattr(self._drafter, name, None)):
                raise self._error(f"has no method {name}(); see specterm.plugins.Drafter")
        self.max_nodes: int = getattr(self._drafter, "max_nodes", -1)
        if not isinstance(self.max_nodes, int) or self.max_nodes < 0:
            raise self._error("has no max_nodes; set it to the most nodes that a tree of it may have")
        self.max_depth: int = getattr(self._drafter, "max_depth", self.max_nodes)
        self.needs: Needs = getattr(self._drafter, "needs", Needs())
        if not isinstance(self.needs, Needs) or not 0 <= self.needs.top_k <= self._vocab_size:
            raise self._error(f"needs {self.needs!r}; it must be Needs of at most {self._vocab_size} tokens")
        layers = setup.target.layers
        if wrong := [tap for tap in self.needs.taps if tap != FINAL_NORM and not 0 <= tap < layers]:
            raise self._error(f"needs the tap {wrong[0]}; the target has taps 0 to {layers - 1} and FINAL_NORM")

    def open(self, rows: int, capacity: int) -> None:
        """See `Drafter`; so for the others."""
        self._call("open", self._drafter.open, rows, capacity)

    def admit(self, admission: Admission) -> None:
        self._call("admit", self._drafter.admit, admission)

    def propose(self, rows: Sequence[ProposeRow]) -> DraftTree:
        """The plug-in's trees.

        Raises:
            SpectermError: they are malformed.
        """
        tree = self._call("propose", self._drafter.propose, rows)
        wrong = self._call("propose", fault, tree, rows, self.max_nodes, self._vocab_size, self._device)
        if not wrong and self._method.fixed and tree.children != "fixed":
            wrong = f"{tree.children} children; say so with Method(..., fixed=False)"
        if wrong:
            raise self._error(f"proposed {wrong}")
        return tree

    def catch_up(self, feedback: Sequence[Feedback]) -> None:
        self._call("catch_up", self._drafter.catch_up, feedback)

    def release(self, row: int) -> None:
        self._call("release", self._drafter.release, row)

    def close(self) -> None:
        self._call("close", self._drafter.close)

    def _call(self, doing: str, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return function(*arguments)
        except (SpectermError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:  # it is somebody else's code
            raise self._error(f"failed in {doing}: {told_with_place(error)}") from error

    def _error(self, what: str) -> SpectermError:
        return SpectermError(f"the drafter {self._method.name} {what}")
