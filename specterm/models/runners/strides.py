"""Rounds of one row in one call; see `compiled.strides`."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from ctypes import Array, addressof, c_double, c_int64, memmove

import numpy as np
import torch
from torch import Tensor

from specterm.decoding.host import ToldWarps
from specterm.decoding.sampling import ROUND_STRIDE, Purpose, Warps, probabilities, purpose_key
from specterm.decoding.stride_ports import Drafting, Grown, Lookup, Recorded, Step
from specterm.kernels.words import WalkWord
from specterm.models.compiled.kernels import stride_kernel
from specterm.models.compiled.strides import Record, record_size
from specterm.models.compiled.words import CallWord, LookupWord, StrideWord
from specterm.models.runners.compiled_passes import CompiledPasses
from specterm.models.runners.stride_rooms import Computing, DrafterRoom, PassRoom, TreeRoom, integers, tell

_KEYS = {
    WalkWord.TARGET_KEY: Purpose.TARGET,
    WalkWord.RATIO_KEY: Purpose.RATIO,
    WalkWord.RESIDUAL_KEY: Purpose.RESIDUAL,
}
# As plain numbers: members of enums are slow to index with.
_ROUNDS, _MOST, _DEPTH, _START, _INDEX, _ENDS, _END_COUNT, _RECORDS, _LOGITS_STEP = map(
    int,
    (
        StrideWord.ROUNDS,
        StrideWord.MOST,
        StrideWord.DEPTH,
        StrideWord.START,
        StrideWord.INDEX,
        StrideWord.ENDS,
        StrideWord.END_COUNT,
        StrideWord.RECORDS,
        StrideWord.LOGITS_STEP,
    ),
)
_WARPS, _LOGITS, _OF_WALK = int(WalkWord.WARPS), int(CallWord.LOGITS), int(WalkWord.LOGITS)
_TOLD, _RATE = int(Record.REST), int(Record.RATE)
_MOST_WAYS = 8
"""In which drafts are made, that are remembered: each has room for logits."""


def compile_strides(target: CompiledPasses, drafts: Sequence[CompiledPasses]) -> None:
    """See `Strides.ready`."""
    stride_kernel(target.machine, target.kind, (), beams=False, tree=False, lookup=False)
    stride_kernel(target.machine, target.kind, (), beams=False, tree=False, lookup=True)
    for draft in drafts[:1]:
        stride_kernel(target.machine, target.kind, (draft.kind,), beams=False, tree=False, lookup=False)
    if len(drafts) > 1:
        kinds = tuple(draft.kind for draft in drafts)
        for beams in (False, True):
            stride_kernel(target.machine, target.kind, kinds, beams=beams, tree=True, lookup=False)


class CompiledStrides:
    """Strides of one target, whose drafts are made by certain models in a certain way; not for two threads at once, and
    only as long as all models are there."""

    def __init__(self, target: CompiledPasses, drafts: Sequence[Computing], drafting: Drafting) -> None:
        most, depth = drafting.most, drafting.depth
        kinds = tuple(draft[0].kind for draft in drafts)
        beams = drafting.width > 1
        lookup = drafting.lookup is not None
        self._kernel = stride_kernel(target.machine, target.kind, kinds, beams=beams, tree=drafting.tree, lookup=lookup)
        self._most, self._depth = most, depth  # at most
        self._words, self._walk, self._warps = integers(len(StrideWord)), integers(len(WalkWord)), ToldWarps()
        self._ids, self._path, self._records = integers(most + 1), integers(depth + 3), integers(0)
        self._doubles = (c_double * 0).from_buffer(self._records)
        self._logits, self._room = torch.empty((1, most + 1, target.vocab)), torch.empty((2, target.vocab))
        self._kept = 1  # rounds of which there is room for logits
        self._pass = PassRoom(target, most + 1, addressof(self._ids), self._logits.data_ptr())
        self._ends: tuple[tuple[int, ...], Array[c_int64]] = (), integers(0)
        self._models = [
            DrafterRoom(draft, drafting, ahead, target.vocab)
            for draft, ahead in zip(drafts, drafting.models, strict=True)
        ]
        self._addresses = (c_int64 * len(drafts))(*[addressof(model.words) for model in self._models])
        self._tree = TreeRoom(drafting, len(drafts)) if drafting.tree else None
        self._lookup, self._text = integers(len(LookupWord)), integers(0)
        tell(
            self._words,
            {
                StrideWord.INDEX_STEP: ROUND_STRIDE,
                StrideWord.MODEL: target.model_at,
                StrideWord.PASS: self._pass.buffers.at,
                StrideWord.CALL: self._pass.call.at,
                StrideWord.PLACES: target.places_at,
                StrideWord.IDS: addressof(self._ids),
                StrideWord.WALK: addressof(self._walk),
                StrideWord.DRAFTERS: addressof(self._addresses),
                StrideWord.TREE: 0 if self._tree is None else addressof(self._tree.words),
                StrideWord.LOOKUP: addressof(self._lookup),
            },
        )
        tell(
            self._walk,
            {
                WalkWord.VOCAB: target.vocab,
                WalkWord.TOKENS: addressof(self._ids) + 8,
                WalkWord.PARENTS: 0 if self._tree is None else addressof(self._tree.above),
                WalkWord.LAWS: self._models[0].laws_at if self._models else 0,
                WalkWord.ROOM: self._room.data_ptr(),
                WalkWord.PATH: addressof(self._path),
            },
        )

    def suit(self, drafting: Drafting) -> bool:
        """Whether there is room for such drafts."""
        return drafting.most <= self._most and drafting.depth <= self._depth

    def run(
        self, target: Computing, drafts: Sequence[Computing], row: int, start: int, root: int, rounds: int,
        drafting: Drafting, warps: Warps, key: int, first: int, ends: tuple[int, ...], record: bool,
    ) -> list[Step]:  # fmt: skip
        """See `Strides`; the caches have room and all layers, and know that they are about to be written."""
        words, most, depth = self._words, drafting.most, drafting.depth
        size = record_size(most, depth, len(drafts), tree=drafting.tree)
        if self._pass.over(target, row) and self._tree is not None:
            self._tree.over(target, row)
        for model, draft, ahead in zip(self._models, drafts, drafting.models, strict=True):
            model.begin(draft, ahead, drafting, row, key)
        if self._tree is not None and drafting.plan is not None:
            self._tree.follow(drafting.plan, self._models)
        if drafting.lookup is not None:
            self._look_up(drafting.lookup, rounds * (1 + depth) + most)
        if len(self._records) < rounds * size:
            self._records = integers(rounds * size)
            self._doubles = (c_double * (rounds * size)).from_buffer(self._records)
            words[_RECORDS] = addressof(self._records)
        self._keep_logits(rounds if record else 1)
        if self._ends[0] != ends:
            self._ends = ends, (c_int64 * len(ends))(*ends)
            words[_ENDS], words[_END_COUNT] = addressof(self._ends[1]), len(ends)
        words[_ROUNDS], words[_MOST], words[_DEPTH] = rounds, most, depth
        words[_START], words[_INDEX] = start, first * ROUND_STRIDE
        self._ids[0] = root
        self._walk[_WARPS] = self._warps.of(warps)
        if not warps.greedy:
            tell(self._walk, {word: purpose_key(key, purpose) for word, purpose in _KEYS.items()})
        began = time.perf_counter()
        self._kernel(words)
        steps = self._steps(words[_ROUNDS], size, drafting, time.perf_counter() - began)
        return self._recorded(steps, size, drafting, warps) if record else steps

    def _keep_logits(self, rounds: int) -> None:
        """Of so many rounds, where that is more than one; or only of the last one."""
        if self._kept < rounds:
            self._kept, self._logits = rounds, torch.empty((rounds, *self._logits.shape[1:]))
        self._pass.call.words[_LOGITS] = self._walk[_OF_WALK] = self._logits.data_ptr()
        self._words[_LOGITS_STEP] = self._logits.nbytes // self._kept if rounds > 1 else 0

    def _look_up(self, lookup: Lookup, further: int) -> None:
        """The text, with room for so many tokens more."""
        (at, length), words = lookup.text.buffer_info(), self._lookup
        if len(self._text) < length + further:
            self._text = integers(2 * (length + further))
            words[LookupWord.TEXT] = addressof(self._text)
        memmove(self._text, at, 8 * length)
        words[LookupWord.LENGTH], words[LookupWord.LONGEST], words[LookupWord.SHORTEST] = (
            length, lookup.longest, lookup.shortest
        )  # fmt: skip

    def _steps(self, rounds: int, size: int, drafting: Drafting, seconds: float) -> list[Step]:
        """Those of the last call, which took so many seconds; size: of a record."""
        records, most, end = self._records, drafting.most, size - len(drafting.models)
        # Where the processor's clock stood still nothing is known of the parts.
        tick = seconds / max(1, records[(rounds - 1) * size + Record.JUDGED] - records[Record.BEGUN])
        steps = []
        for at in range(0, rounds * size, size):
            count, kept, following, begun, drafted, verified, judged, levels, *_ = records[at : at + _TOLD]
            rest = at + _TOLD
            tokens = tuple(records[rest : rest + count]) if count else ()
            path: Sequence[int] = range(1, kept + 1)
            grown = None
            if self._tree is not None:
                above, told, nodes = rest + 2 * most, rest + 3 * most, rest + 4 * most
                path = records[nodes : nodes + kept]
                rate, promised = self._doubles[at + _RATE : at + _TOLD]
                grown = Grown(
                    tuple([parent - 1 for parent in records[above : above + count]]),
                    tuple(records[told : told + count]),
                    levels,
                    rate,
                    promised,
                    tuple(records[at + end : at + size]),
                )
            parts = max(0, drafted - begun), max(0, verified - drafted), max(0, judged - verified)
            steps.append(Step(tokens, path, following, tick * parts[0], tick * parts[1], tick * parts[2], grown))
        return steps

    def _recorded(self, steps: Sequence[Step], size: int, drafting: Drafting, warps: Warps) -> list[Step]:
        """The steps of the last call with what is recorded of them; size: of a record."""
        began = time.perf_counter()
        longest = 1 + max(len(step.tokens) for step in steps)
        above, tokens = [], []
        for step in steps:
            parents = range(-1, len(step.tokens) - 1) if step.grown is None else step.grown.parents
            last = step.path[-1] if step.path else 0
            above.append([*[parent + 1 for parent in parents], last])
            tokens.append([*step.tokens, step.next_token])
        found = iter(_probabilities_at(probabilities(self._logits[: len(steps), :longest], warps), above, tokens))
        recorded = []
        for number, step in enumerate(steps):
            count, rest = len(step.tokens), number * size + _TOLD + drafting.most
            *p, next_p = [next(found) for _ in range(count + 1)]
            chances = tuple(self._doubles[rest : rest + count]) if drafting.models else None
            fixed = step.grown is not None or drafting.warps.greedy
            said = (None, chances) if fixed else (chances, None)
            recorded.append(step._replace(recorded=Recorded(tuple(p), next_p, *said)))
        seconds = (time.perf_counter() - began) / len(steps)
        return [step._replace(sampling_s=step.sampling_s + seconds) for step in recorded]


class StridesByDraft:
    """Those of one target, by how drafts are made; they are made when they are needed first."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[tuple[Callable[[], CompiledPasses | None], ...], CompiledStrides]] = {}

    def of(self, target: Computing, drafts: Sequence[Computing], drafting: Drafting) -> CompiledStrides:
        """For `drafting` by these models."""
        how = drafting.width, drafting.tree, drafting.warps.greedy, drafting.lookup is None, drafting.plan is None
        models = zip(drafts, drafting.models, strict=True)
        key = (*how, *[(id(model), layers, ahead.widest) for (model, _, layers), ahead in models])
        held, made = self._made.get(key, ((), None))
        gone = any(own() is not draft[0] for own, draft in zip(held, drafts, strict=True)) if made else False
        if made is None or gone or not made.suit(drafting):
            if len(self._made) >= _MOST_WAYS:
                self._made.clear()
            # They have the addresses of the models, and are not to be what keeps those.
            held, made = tuple(weakref.ref(model) for model, *_ in drafts), CompiledStrides(target[0], drafts, drafting)
            self._made[key] = held, made
        return made


def _probabilities_at(probs: Tensor, nodes: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> list[float]:
    """probs[r, n, t], one after the other, of the nodes n and tokens t of each round r."""
    rounds = [number for number, own in enumerate(nodes) for _ in own]
    where = rounds, [node for own in nodes for node in own], [token for own in tokens for token in own]
    found: list[float] = probs.numpy()[tuple(np.array(place) for place in where)].tolist()
    return found
