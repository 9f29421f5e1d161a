"""The checks of whole outputs: greedy ones against naive's and the target's own choices, sampled ones seed for seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import msgspec

from specterm.bench.comparison import Match, compare_outputs, near_tie_gap
from specterm.bench.prompts import gather
from specterm.bench.watching import watch
from specterm.catalogue.models import BUILTIN
from specterm.config import MethodSpec, Request, RunSpec
from specterm.events import EmittedToken, Prefilled, Round, RowFinished, RowStarted
from specterm.verify.plan import naive_under
from specterm.verify.ports import Verifies
from specterm.verify.result import CheckResult, Difference, Result, counted

_PROMPTS = 3
_TOKENS = 24
_RANK: tuple[Match, ...] = ("identical", "near_tie", "different")


@dataclass(frozen=True, slots=True)
class Output:
    """What a run gave for one prompt."""

    prompt_id: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outputs:
    """A run: its outputs, and how many draft tokens came to which state."""

    rows: tuple[Output, ...]
    states: Counter[str]

    @property
    def drafted(self) -> int:
        """Draft tokens."""
        return self.states.total()


@dataclass(slots=True)
class OutputChecks:
    """Runs methods over a few of the built-in prompts; naive runs once for each way of sampling. `dtype`: what
    the target computes in."""

    engine: Verifies
    dtype: str
    _naive: dict[bytes, Outputs] = field(default_factory=dict)

    def greedy(self, spec: RunSpec, begun: CheckResult) -> CheckResult:
        """`begun` with the result: the worst of all prompts'."""
        own, naive = self._outputs(spec), self._of_naive(spec)
        found = []
        for output, reference in zip(own.rows, naive.rows, strict=True):
            ids = (*output.prompt_ids, *output.ids)
            shortfalls = self.engine.shortfalls(ids, len(output.prompt_ids), spec.sampling)
            match = compare_outputs(reference.ids, output.ids, lambda told=shortfalls: told, self.dtype)  # type: ignore[misc]
            if max(shortfalls, default=0.0) > near_tie_gap(self.dtype):  # even where naive says the same
                match = "different"
            found.append((_RANK.index(match), output, reference, shortfalls))
        worst, output, reference, shortfalls = max(found, key=lambda own: own[0])
        if not worst:
            return _counted(begun, own, "identical")
        difference = _difference(output, reference, shortfalls)
        return msgspec.structs.replace(_counted(begun, own, _RANK[worst]), difference=difference)

    def seeds(self, spec: RunSpec, begun: CheckResult) -> CheckResult:
        """`begun` with the result: sampled output with the same seeds, token for token."""
        own, naive = self._outputs(spec), self._of_naive(spec)
        for output, reference in zip(own.rows, naive.rows, strict=True):
            if output.ids != reference.ids:
                result = _counted(begun, own, "different")
                return msgspec.structs.replace(result, difference=_difference(output, reference, None))
        return _counted(begun, own, "identical")

    def _of_naive(self, spec: RunSpec) -> Outputs:
        plain = naive_under(spec.sampling)
        key = msgspec.json.encode(plain)
        if key not in self._naive:
            run = msgspec.structs.replace(spec, method=MethodSpec(name="naive"), sampling=plain)
            self._naive[key] = self._outputs(run)
        return self._naive[key]

    def _outputs(self, spec: RunSpec) -> Outputs:
        tokens = min(_TOKENS, spec.sampling.max_tokens)
        sampling = msgspec.structs.replace(spec.sampling, max_tokens=tokens, min_tokens=0)
        run = msgspec.structs.replace(spec, sampling=sampling, batch_size=_PROMPTS, fresh_memory=True)
        return run_outputs(self.engine, run, _requests(spec.sampling.seed))


def run_outputs(engine: Verifies, spec: RunSpec, requests: tuple[Request, ...]) -> Outputs:
    """Run `requests` on `engine` and collect what they said, in their order.

    Raises:
        SpectermError: the run failed.
        KeyboardInterrupt: it was interrupted.
    """
    watched = watch(engine.run(spec, requests), lambda event: None)
    watched.raise_failure()
    if watched.interrupted:
        raise KeyboardInterrupt
    started: dict[int, RowStarted] = {}
    ids: dict[int, tuple[int, ...]] = {}
    texts: dict[int, list[str]] = {}
    states: Counter[str] = Counter()

    def say(row: int, tokens: Sequence[EmittedToken]) -> None:
        texts.setdefault(row, []).extend(token.text for token in tokens)

    for event in watched.events:
        match event:
            case RowStarted():
                started[event.row] = event
            case Prefilled() if event.token is not None:
                say(event.row, [event.token])
            case Round():
                for part in event.rows:
                    states.update(part.states)
                    say(part.row, part.emitted)
            case RowFinished():
                ids[event.row] = event.token_ids
    rows = (
        Output(begun.prompt_id, begun.prompt_ids, ids[row], tuple(texts.get(row, ())))
        for row, begun in sorted(started.items())
    )
    return Outputs(tuple(rows), states)


def _requests(seed: int) -> tuple[Request, ...]:
    """Built-in prompts, every other one said twice, so that there is something to look up."""
    return tuple(
        msgspec.structs.replace(request, prompt=request.prompt * (1 + i % 2), seed=seed + i)
        for i, request in enumerate(gather((BUILTIN,), _PROMPTS))
    )


def _counted(begun: CheckResult, own: Outputs, result: Result) -> CheckResult:
    return counted(begun, result, own.drafted, own.states["accepted"], own.states["rejected"])


def _difference(output: Output, reference: Output, shortfalls: Sequence[float] | None) -> Difference:
    """The first token that is another, and the greatest gap from there on."""
    both = enumerate(zip_longest(reference.ids, output.ids))
    place = next((i for i, (expected, found) in both if expected != found), None)
    if place is None:  # naive says the same, and both fall short of the target's own choice
        assert shortfalls is not None
        place = max(range(len(output.ids)), key=lambda i: shortfalls[i])
    return Difference(
        prompt_id=output.prompt_id,
        position=place,
        expected=reference.ids[place] if place < len(reference.ids) else None,
        expected_text=reference.texts[place] if place < len(reference.texts) else "",
        found=output.ids[place] if place < len(output.ids) else None,
        found_text=output.texts[place] if place < len(output.texts) else "",
        gap=max(shortfalls[place:], default=None) if shortfalls is not None else None,
    )
