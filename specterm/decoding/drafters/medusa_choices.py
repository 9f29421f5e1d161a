"""Static trees from a list of choices, as they are published with Medusa heads (`medusa_choices`).

Each entry is a node, told by the ranks of the tokens on its path: [1, 0] is the likeliest token of the second head
below the second likeliest of the first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from specterm.decoding.drafters.rank_paths import Path as RankPath
from specterm.errors import ConfigError

_MOST_NODES = 256  # as of other trees


def read_choices(path: Path, heads: int, ranks: int) -> list[RankPath]:
    """The nodes listed in a JSON file, parents first; parents that the list leaves out are added.

    heads: how deep a node may lie; ranks: below which its ranks must be.

    Raises:
        ConfigError: the file cannot be read, or an entry is no node; the text names it.
    """
    told = f"--medusa-choices {path}"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{told} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{told} is not valid JSON: {error}") from None
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{told} is no list of paths; write [[0], [0, 0], [1], ...]")
    nodes: set[RankPath] = set()
    for entry in listed:
        node = _node(entry, heads, ranks, told)
        nodes.update(node[:depth] for depth in range(1, len(node) + 1))
    if len(nodes) > _MOST_NODES:
        raise ConfigError(f"{told} has {len(nodes)} nodes; a tree has {_MOST_NODES} at most")
    return sorted(nodes, key=lambda node: (len(node), node))


def _node(entry: Any, heads: int, ranks: int, told: str) -> RankPath:
    if not isinstance(entry, list) or not entry or not all(type(rank) is int for rank in entry):
        raise ConfigError(f"{told} has the entry {json.dumps(entry)}; an entry is a list of whole numbers")
    if wrong := [rank for rank in entry if not 0 <= rank < ranks]:
        raise ConfigError(f"{told} has the entry {entry} with the rank {wrong[0]}; ranks are 0 to {ranks - 1}")
    if len(entry) > heads:
        raise ConfigError(f"{told} has the entry {entry}, which is {len(entry)} deep; there are {heads} heads")
    return tuple(entry)
