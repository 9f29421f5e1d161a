"""Many rows of one prompt through the decode loop, and the target's own law of what they say: what statistics need.

The loop, the drafters and the rules are those of every run. The models are the loaded ones, each asked once for every
text (see `decoding.remembered`). The first token of a row, which a prefill draws and no draft has any part in, can be
given: then every row is about tokens that were speculated.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specterm.catalogue import METHODS
from specterm.config import RunSpec, SamplingSpec
from specterm.decoding.acceptance import RULES
from specterm.decoding.drafters import build_drafter
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.setup import DraftSetup, adaptive_length
from specterm.decoding.loop import DecodeLoop, Settings
from specterm.decoding.ports import Judging, Recording, Rule
from specterm.decoding.processing import LogitsProcessor, Processing
from specterm.decoding.remembered import RememberedRunner
from specterm.decoding.row import Prompt
from specterm.decoding.sampling import Warps, probabilities, row_key
from specterm.decoding.tree import DraftTree
from specterm.decoding.verdict import HostVerdict, Verdict
from specterm.errors import Cancelled, ConfigError
from specterm.events import Round, RowFinished
from specterm.models.loading import LoadedModels

_LAW_BYTES = {"cpu": 1 << 23}  # of the laws of one round's nodes: what stays in a processor's cache is quicker
_MOST_LAW_BYTES = 1 << 28
_MOST_ROWS = 256  # of one round


@dataclass(frozen=True, slots=True)
class Draws:
    """What the rows said, in the order of their seeds, the given first token left out; and what became of drafts."""

    outputs: tuple[tuple[int, ...], ...]
    drafted: int
    accepted: int
    rejected: int


class TextModels:
    """The loaded models for rows that begin with `prompt`."""

    def __init__(self, models: LoadedModels, prompt: Sequence[int]) -> None:
        self.prompt = tuple(prompt)
        self._models = models
        self._target = RememberedRunner(models.target.runner, prompt)
        self._drafts = tuple(RememberedRunner(draft.runner, prompt) for draft in models.drafts)

    def lose_cache(self) -> None:
        """The models were run otherwise: their caches hold something else."""
        for model in (self._target, *self._drafts):
            model.lose_cache()

    def draws(
        self,
        spec: RunSpec,
        processing: Processing,
        seeds: Sequence[int],
        first: int | None,
        cancelled: Callable[[], bool],
    ) -> Draws:
        """One row a seed, of `spec.sampling.max_tokens` tokens whatever they are; the prompt is that of this object.

        Raises:
            ConfigError: the method reads hidden states of the target, which are not remembered.
            Cancelled: `cancelled` became true between two rounds.
        """
        method = METHODS[spec.method.name]
        if method.heads:
            raise ConfigError(f"--method {method.name} drafts from hidden states; its rows cannot share forward passes")
        sampling, warps = spec.sampling, warps_of(spec.sampling)
        setup = DraftSetup(
            self._target,
            self._drafts[: method.max_drafts],
            warps,
            Recording(),
            spec.method.parameters,
            DraftMemory(lasting=False),
        )
        drafter = build_drafter(method.name, setup)
        rule: Rule = RULES[sampling.acceptance](**sampling.rule_parameters)
        if first is not None:
            rule = _GivenFirst(rule, first, len(self.prompt) - 1)
        law_bytes = _LAW_BYTES.get(self._target.device.type, _MOST_LAW_BYTES)
        row_bytes = 4 * self._target.vocab_size * (drafter.max_nodes + 1)
        settings = Settings(
            warps=warps,
            max_tokens=sampling.max_tokens,
            context=self._models.target.info.max_positions,
            batch_size=max(8, min(_MOST_ROWS, len(seeds), law_bytes // row_bytes)),
            processing=processing,
        )
        loop = DecodeLoop(
            self._target, drafter, rule, _Unread(), settings,
            clock=lambda: 0.0, cancelled=cancelled, adaptive=adaptive_length(setup, drafter),
        )  # fmt: skip
        rows = [Prompt(row, "", 0, seed, row_key(seed, self.prompt), "", self.prompt) for row, seed in enumerate(seeds)]
        outputs: dict[int, tuple[int, ...]] = {}
        states: list[str] = []
        try:
            for event in loop.run(rows):
                if isinstance(event, RowFinished):
                    outputs[event.row] = event.token_ids[first is not None :]
                elif isinstance(event, Round):
                    states.extend(state for part in event.rows for state in part.states)
        finally:
            drafter.close()
        if cancelled():
            raise Cancelled
        counted = [states.count(state) for state in ("accepted", "rejected")]
        return Draws(tuple(outputs[row] for row in range(len(rows))), len(states), *counted)

    def beginnings(
        self, sampling: SamplingSpec, processing: Processing, first: int | None, longest: int, count: int
    ) -> tuple[int, dict[tuple[int, ...], float]]:
        """The `count` likeliest beginnings, of 1 to `longest` tokens, of what follows the prompt and the token `first`
        under the target's own law, the likeliest first; and `first`, which is the likeliest token where it is None."""
        self._target.allocate(1, len(self.prompt) + longest + 1)
        if first is None:
            first = int(self._law(sampling, processing, ()).argmax())
        found: dict[tuple[int, ...], float] = {}
        waiting: list[tuple[float, tuple[int, ...]]] = [(-1.0, ())]
        while waiting and len(found) < count:
            chance, text = heapq.heappop(waiting)
            if text:
                found[text] = -chance
            if len(text) < longest:
                top = self._law(sampling, processing, (first, *text)).topk(min(count, self._target.vocab_size))
                for token, own in zip(top.indices.tolist(), top.values.tolist(), strict=True):
                    if own > 0.0:
                        heapq.heappush(waiting, (chance * own, (*text, token)))
        return first, found

    def log_likelihoods(self, processing: Processing, first: int, outputs: Sequence[tuple[int, ...]]) -> list[float]:
        """The log-probability of each output behind the prompt and the token `first`, under the target's law before
        temperature and truncation."""
        self._target.allocate(1, len(self.prompt) + max(map(len, outputs)) + 1)
        plain, known = SamplingSpec(temperature=1.0, top_p=1.0), {}
        texts = dict.fromkeys(output[:n] for output in outputs for n in range(len(output)))
        self._target.after([(*self.prompt, first, *text) for text in texts])  # many at a time
        followers: dict[tuple[int, ...], set[int]] = {}
        for output in set(outputs):
            for n, token in enumerate(output):
                followers.setdefault(output[:n], set()).add(token)
        for text, tokens in followers.items():
            law = self._law(plain, processing, (first, *text)).log()
            known.update({(*text, token): float(law[token]) for token in tokens})
        return [sum(known[output[: n + 1]] for n in range(len(output))) for output in outputs]

    def _law(self, sampling: SamplingSpec, processing: Processing, text: tuple[int, ...]) -> Tensor:
        """The target's warped law behind the prompt and `text`: float64 [V]."""
        logits = self._target.after([(*self.prompt, *text)]).unsqueeze(0)
        if processing != Processing():
            process = LogitsProcessor(processing, 1, self._target.vocab_size, (), self._target.device)
            process.admit(0, self.prompt)
            process.emitted(0, text)
            logits = process(logits, (0,), DraftTree.empty(1, self._target.device))
        return probabilities(logits, warps_of(sampling))[0, 0].double().cpu()


def warps_of(sampling: SamplingSpec) -> Warps:
    """The warps that a spec asks for."""
    return Warps(sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.filter_value)


class _GivenFirst:
    """A rule whose judgement of the prefill is given: the token `first`. `place` is the prompt's last position."""

    def __init__(self, rule: Rule, first: int, place: int) -> None:
        self._rule, self._first, self._place = rule, first, place

    def verify(self, tree: DraftTree, logits: Tensor, judging: Judging) -> Verdict | HostVerdict:
        """See `Rule`."""
        if judging.positions != (self._place,):
            return self._rule.verify(tree, logits, judging)
        none = torch.zeros(1, dtype=torch.int64, device=logits.device)
        return Verdict(tree.topology, none, none + self._first, walked=None)


class _Unread:
    """Nobody reads the text of these rows."""

    def decode(self, ids: Sequence[int]) -> str:
        """See `Detokenizer`."""
        return ""

    def piece(self, token: int) -> str:
        """See `Detokenizer`."""
        return ""
