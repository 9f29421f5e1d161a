"""The ways in which a method can make the children of a node: what proofs have to go through."""

from __future__ import annotations

from specterm.catalogue.method_parameters import DRAFT_TEMPERATURE, HEAD_TREE, TREE_CHILDREN, TREE_WIDTH
from specterm.catalogue.methods import Method
from specterm.catalogue.parameter import Value

_OTHER_WAYS: tuple[
    tuple[str, Value, Value], ...
] = (  # parameter, its default, and a value that makes children otherwise
    (HEAD_TREE.name, HEAD_TREE.default, "static"),
    (TREE_CHILDREN.name, TREE_CHILDREN.default, "sampled"),
    (DRAFT_TEMPERATURE.name, DRAFT_TEMPERATURE.default, 0.0),
    (TREE_WIDTH.name, TREE_WIDTH.default, 3),
)


def shapes(method: Method) -> tuple[dict[str, Value], ...]:
    """Parameters of `method`, one set for each way: its own defaults first, without parameters."""
    defaults = {parameter.name: parameter.default for parameter in method.parameters}
    others = ({name: value} for name, usual, value in _OTHER_WAYS if name in defaults and defaults[name] == usual)
    return ({}, *others)
