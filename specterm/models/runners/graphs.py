"""Forward passes as CUDA graphs: one for each shape, captured when it first comes.

A pass over a few tokens is hundreds of kernels, each shorter than the host needs to start it; a graph starts all of
them with one call. So the shapes have to come from a small set: the slots that are read end at one of a few reaches,
what lies beyond a row's own is masked, and what changes from pass to pass is copied into tensors that stay.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

import torch
from torch import Tensor

from specterm.decoding.drafters.draft_law import over_vocabulary
from specterm.decoding.ports import Block
from specterm.decoding.sampling import likeliest
from specterm.models.cache import SlotCache, follow, sight

WIDEST = 64
"""Tokens of a row; more keep a device busy by themselves."""

MOST = 96
"""Graphs that are kept; the one that was not used for longest goes first. They share their scratch memory."""

_log = logging.getLogger(__name__)

Outputs: TypeAlias = tuple[Tensor, ...]
Replay: TypeAlias = Callable[[], Outputs]
Update: TypeAlias = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""See `SlotCache.update_both`."""


class Compute(Protocol):
    """The pass itself, of operations that a graph can hold."""

    def __call__(
        self, ids: Tensor, positions: Tensor, seen: Tensor, update: Update, layers: int, taps: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Logits [B, T, V] and the states at `taps` [B, T, F] after ids, int64 [B, T], at `positions`, int64 [B, T];
        seen: bool [B, T, end]."""


class FeatureCompute(Protocol):
    """The same of heads that read a feature with each token."""

    def __call__(
        self, ids: Tensor, positions: Tensor, seen: Tensor, update: Update, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits [B, T, W] and the next features [B, T, H] after ids and the features [B, T, H] before them; the others
        as of `Compute`."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a graph is for. `shared` is whether one tree is that of all rows; nodes: 0 for a chain. vocab_size: what
    tokens are picked from, None where none are."""

    first_row: int
    rows: int
    width: int
    first: int
    nodes: int
    shared: bool
    reach: int
    layers: int
    taps: tuple[int, ...]
    steps: int
    vocab_size: int | None


class ForwardGraphs:
    """The graphs of one model over the cache that it has at the time."""

    def __init__(
        self,
        compute: Compute | FeatureCompute,
        device: torch.device,
        max_positions: int,
        capture: Callable[[Callable[[], Outputs]], Replay] | None = None,
    ) -> None:
        """`capture` makes a computation, which has been run before, into one that can be repeated."""
        self._compute, self._device, self._max_positions = compute, device, max_positions
        self._capture = capture or DeviceCapture(device)
        self._passes: OrderedDict[_Shape, _Pass] = OrderedDict()
        self._of: tuple[SlotCache, int] | None = None
        self.refused: str | None = None
        """Why no graphs are used any more; None while they are."""

    def clear(self) -> None:
        """Let all graphs go, and the cache that they write to."""
        self._passes.clear()
        self._of = None

    def forward(
        self, cache: SlotCache, block: Block, layers: int, taps: Sequence[int] = (), features: Tensor | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """See `Compute`, or `FeatureCompute` where there are `features`; None where there can be no graph, and nothing
        was done."""
        if block.width > WIDEST:
            return None
        return self._run(cache, block, layers, tuple(taps), features=features)

    def chain(
        self, cache: SlotCache, block: Block, layers: int, steps: int, vocab_size: int
    ) -> tuple[Tensor, Tensor] | None:
        """`steps` passes as one graph: see `ChainsInOne`. None: see `forward`."""
        return self._run(cache, block, layers, (), steps, vocab_size)

    def _run(
        self,
        cache: SlotCache,
        block: Block,
        layers: int,
        taps: tuple[int, ...],
        steps: int = 1,
        vocab_size: int | None = None,
        features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor] | None:
        if self.refused is not None or not follow(block.rows) or len(cache.layers()) < layers:
            return None
        if self._of != (cache, cache.generation):
            self.clear()
            self._of = cache, cache.generation
        end = block.end + steps - 1
        for row, start in zip(block.rows, block.starts, strict=True):
            cache.claim(row, start + block.first, end)
        topology = block.topology
        tree = not topology.chain
        shape = _Shape(
            block.rows[0], len(block.rows), block.width, block.first, block.first + block.width if tree else 0,
            tree and topology.depth.shape[0] == 1, reach(end, cache.capacity), layers, taps, steps,
            vocab_size,
        )  # fmt: skip
        found = self._passes.get(shape)
        if found is None:
            found = self._passes[shape] = _Pass(
                shape, cache, self._compute, self._device, self._max_positions, features
            )
            while len(self._passes) > MOST:
                self._passes.popitem(last=False)
        self._passes.move_to_end(shape)
        found.take(block, features)
        if found.replay is None:
            return self._first(found)
        logits, rest = found.replay()
        return logits.clone(), rest.clone()

    def _first(self, new: _Pass) -> tuple[Tensor, Tensor]:
        """Run as it is, then capture; what was computed is given out, and what the graph computes must agree."""
        plain = new.run()
        try:
            new.replay = self._capture(new.run)
            again = new.replay()
            if not all(_agree(a, b) for a, b in zip(plain, again, strict=True)):
                raise RuntimeError("a graph computes other numbers than the pass that it was captured from")
        except RuntimeError as error:  # what cannot be captured is told by errors of many kinds, all of this class
            self.refused = str(error).splitlines()[0]
            self._passes.clear()
            _log.warning("CUDA graphs are not used: %s", self.refused)
        return plain[0], plain[1]


class _Pass:
    """One shape's own tensors, and what is computed from them."""

    replay: Replay | None = None

    def __init__(
        self,
        shape: _Shape,
        cache: SlotCache,
        compute: Compute | FeatureCompute,
        device: torch.device,
        max_positions: int,
        features: Tensor | None,
    ) -> None:
        """features: like those that are to come, None where none are."""
        self._features = None if features is None else torch.empty_like(features)
        self._shape, self._compute, self._last = shape, compute, max_positions - 1
        rows, width = shape.rows, shape.width
        self._ids = torch.zeros((rows, width), dtype=torch.int64, device=device)
        self._starts = torch.zeros((rows, 1), dtype=torch.int64, device=device)
        self._depth = torch.arange(shape.first, shape.first + width, device=device).unsqueeze(0)
        self._visible: Tensor | None = None
        if shape.nodes:
            trees = 1 if shape.shared else rows
            self._depth = self._depth.repeat(trees, 1)
            self._visible = torch.zeros((trees, shape.nodes, shape.nodes), dtype=torch.bool, device=device)
        self._offsets = torch.arange(shape.first, shape.first + width, device=device).unsqueeze(0)
        self._own = [cache.of_rows(layer, shape.first_row, rows) for layer in range(shape.layers)]

    def take(self, block: Block, features: Tensor | None) -> None:
        """Copy in what is new; nothing here waits for the device."""
        if self._features is not None and features is not None:
            self._features.copy_(features)
        self._ids.copy_(block.ids, non_blocking=True)
        starts = torch.tensor(block.starts, pin_memory=self._ids.is_cuda).unsqueeze(1)
        self._starts.copy_(starts, non_blocking=True)
        if self._visible is not None:
            shape, topology = self._shape, block.topology
            assert topology.visible is not None
            self._visible.copy_(topology.visible[:, : shape.nodes, : shape.nodes], non_blocking=True)
            self._depth.copy_(topology.depth[:, shape.first : shape.nodes], non_blocking=True)

    def run(self) -> Outputs:
        """Compute it."""
        if self._shape.vocab_size is None:
            return self._forward(self._ids, self._starts)
        drawn: list[Tensor] = []
        laws: list[Tensor] = []
        ids = self._ids
        for step in range(self._shape.steps):
            laws.append(self._forward(ids, self._starts + step)[0][:, 0])
            drawn.append(likeliest(over_vocabulary(laws[-1], self._shape.vocab_size)))
            ids = drawn[-1].unsqueeze(1)
        return torch.stack(drawn, dim=1), torch.stack(laws, dim=1)

    def _forward(self, ids: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
        shape = self._shape
        seen = sight(starts, shape.first, shape.width, shape.reach, self._visible)
        slots = (starts + self._offsets).view(shape.rows, 1, shape.width, 1)

        def update(layer: int, keys_values: Tensor) -> tuple[Tensor, Tensor]:
            new, own = keys_values.transpose(1, 2), self._own[layer]
            own.scatter_(2, slots.expand(new.shape), new)
            keys, values = own[:, :, : shape.reach].chunk(2, dim=1)
            return keys, values

        positions = (starts + self._depth).clamp(max=self._last)
        if self._features is not None:
            return cast(FeatureCompute, self._compute)(ids, positions, seen, update, self._features)
        return cast(Compute, self._compute)(ids, positions, seen, update, shape.layers, shape.taps)


class DeviceCapture:
    """CUDA's own graphs; their scratch memory is one pool, since no two of them run at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def __call__(self, run: Callable[[], Outputs]) -> Replay:
        """Capture what `run` does.

        Raises:
            RuntimeError: it waits for the device, or does something else that a graph cannot hold.
        """
        with torch.cuda.device(self._device):
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                run()  # libraries make their workspaces in the first call on a stream
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=side, capture_error_mode="thread_local"):
                outputs = run()

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay


def reach(end: int, capacity: int) -> int:
    """The slots that a graph reads where `end` are in use: a power of two or halfway to the next, from 256 on."""
    size = 256
    while size < end:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return min(size, capacity)


def _agree(a: Tensor, b: Tensor) -> bool:
    tolerance = 1e-2 if a.dtype.itemsize == 2 else 1e-4
    return torch.allclose(
        a.double(), b.double(), rtol=tolerance, atol=tolerance * float(a.abs().max() if a.numel() else 0)
    )
