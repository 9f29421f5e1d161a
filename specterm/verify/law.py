"""The checks of laws: the first speculated tokens of many rows of one prompt, against what the target says of them.

The prefill's token is given; behind it stand `_JUDGED` tokens, enough for a draft of two, its correction or bonus, and
whatever rounds follow. Bins are the likeliest beginnings of those tokens, each without the longer ones that are listed
too, and a rest, so that single tokens count and what follows them. What rows share is proved apart: the same seeds have
to give the same tokens when every row has the models' own caches.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from specterm.bench.comparison import EXACT_DTYPES
from specterm.bench.prompts import gather
from specterm.catalogue import METHODS
from specterm.catalogue.models import BUILTIN
from specterm.config import MethodSpec, Request, RunSpec, SamplingSpec
from specterm.verify.chi_square import (
    Fit,
    bin_law,
    binned,
    chance_variation,
    critical_value,
    fit,
    looks,
    sample_size,
    total_variation,
)
from specterm.verify.outputs import run_outputs
from specterm.verify.plan import naive_under
from specterm.verify.ports import Verifies
from specterm.verify.result import CheckResult, Difference, Result, counted

FALSE_ALARM = 1e-3
"""How often a whole command may refute what is true."""
POWER = 0.95
DISTANCE = 0.03
"""A law at this total variation, over the bins, is seen with the probability `POWER`."""

_BEGINNINGS = 7
_JUDGED = 3
_PROMPTS = 3
_CHUNK = 1024  # rows between two looks at the clock
_SAME = 256  # rows that show two rules to be the same
_SHARED_ROWS, _SHARED_TOKENS = 8, 6
_ALONE = 1500  # rows of a lossy rule that cannot share forward passes


@dataclass(frozen=True, slots=True)
class _Place:
    """A prompt, the token behind it, and the target's law of what follows."""

    prompt: str
    first: int
    beginnings: Mapping[tuple[int, ...], float]

    @property
    def law(self) -> list[float]:
        """The law of the bins."""
        return bin_law(self.beginnings)


@dataclass(slots=True)
class _Rows:
    """What came of many rows."""

    outputs: list[tuple[int, ...]] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0
    rejected: int = 0


@dataclass(slots=True)
class LawChecks:
    """`family`: how many tests share the rate of false alarms; `dtype`: what the target computes in. `tell` is called
    with the share that is done of a check."""

    engine: Verifies
    family: int
    dtype: str
    tell: Callable[[float], None] = lambda share: None
    _places: dict[bytes, _Place] = field(default_factory=dict)

    def law(self, spec: RunSpec, others: Sequence[RunSpec], begun: CheckResult) -> CheckResult:
        """`begun` with the result of the chi-square test, and of the rows on the models' own caches. `others` run the
        same method under rules that have to say the same with the same seeds; some of the rows show it."""
        place, level = self._place(spec), FALSE_ALARM / max(1, self.family)
        clear = fit([10**6] * len(place.law), place.law)  # the bins that many rows have
        if clear is None or max(place.law) > 1.0 - DISTANCE:
            note = "the target leaves next to no choice after the prompts that were tried; a higher --temperature does"
            return msgspec.structs.replace(begun, result="not_tested", note=note)
        rows, found = self._tested(spec, place, clear.freedom, level)
        counts = binned(Counter(rows.outputs), list(place.beginnings))
        told = msgspec.structs.replace(
            _counted(begun, rows, "same_law" if found.p_value >= level else "different"),
            statistic=found.statistic,
            freedom=found.freedom,
            critical=critical_value(found.freedom, level),
            p_value=found.p_value,
            total_variation=total_variation(counts, place.law),
            chance_variation=chance_variation(len(rows.outputs), place.law),
        )
        for other in others:
            same = self._rows(other, place, min(_SAME, len(rows.outputs))).outputs
            if same != rows.outputs[: len(same)]:
                note = f"{other.sampling.acceptance} says something else than {begun.acceptance[0]} with the same seeds"
                return msgspec.structs.replace(told, result="different", note=note)
        difference = self._shared(spec, place.prompt)
        if difference is None:
            return told
        note = "rows on the models' own caches say something else than rows that share forward passes"
        return msgspec.structs.replace(told, result="different", note=note, difference=difference)

    def _tested(self, spec: RunSpec, place: _Place, freedom: int, level: float) -> tuple[_Rows, Fit]:
        """As many rows as it takes to tell, and how well they fit the law."""
        rows, stages = _Rows(), looks(freedom, level, POWER, DISTANCE)
        for look in stages:
            self._draw(rows, spec, place, look.rows, of=stages[-1].rows)
            found = fit(binned(Counter(rows.outputs), list(place.beginnings)), place.law)
            if found is not None and found.freedom == freedom and found.statistic <= look.fits:
                break
        assert found is not None, "there are enough rows for two bins"
        return rows, found

    def distance(self, spec: RunSpec, begun: CheckResult) -> CheckResult:
        """`begun` with how far a lossy rule's law is from the target's own."""
        place = self._place(spec)
        size = sample_size(len(place.law) - 1, FALSE_ALARM, POWER, DISTANCE)
        rows = self._rows(spec, place, size) if _shares(spec) else self._rows_alone(spec, place)
        naive = self._rows(_naive(spec), place, len(rows.outputs))
        told = _counted(begun, rows, "measured")
        if told.result != "measured":
            return told
        counts = binned(Counter(rows.outputs), list(place.beginnings))
        means, errors = [], []
        for own in (rows, naive):
            likely = self.engine.log_likelihoods(spec.sampling, place.prompt, place.first, own.outputs)
            each = [value / _JUDGED for value in likely]
            means.append(statistics.fmean(each))
            errors.append(statistics.stdev(each) / math.sqrt(len(each)))
        return msgspec.structs.replace(
            told,
            total_variation=total_variation(counts, place.law),
            chance_variation=chance_variation(len(rows.outputs), place.law),
            log_probability_change=means[0] - means[1],
            log_probability_error=math.hypot(*errors),
        )

    def _place(self, spec: RunSpec) -> _Place:
        """Of a few prompts the one after which the target has most choice, so that most can go wrong."""
        sampling = _of_rows(spec.sampling)
        key = msgspec.json.encode(naive_under(sampling))
        if key not in self._places:
            tried = []
            for request in gather((BUILTIN,), _PROMPTS):
                prompt = request.prompt * 2  # so that there is something to look up
                first, found = self.engine.beginnings(sampling, prompt, None, _JUDGED, _BEGINNINGS)
                tried.append(_Place(prompt, first, found))
            self._places[key] = min(tried, key=lambda place: sum(share**2 for share in place.law))
        return self._places[key]

    def _rows(self, spec: RunSpec, place: _Place, count: int) -> _Rows:
        rows = _Rows()
        self._draw(rows, spec, place, count, of=count)
        return rows

    def _draw(self, rows: _Rows, spec: RunSpec, place: _Place, count: int, of: int) -> None:
        """Draw more rows until there are `count`, of `of` that there may be in the end."""
        seed = spec.sampling.seed
        run = msgspec.structs.replace(spec, sampling=_of_rows(spec.sampling))
        for begin in range(len(rows.outputs), count, _CHUNK):
            seeds = range(seed + begin, seed + min(begin + _CHUNK, count))
            drawn = self.engine.draws(run, place.prompt, seeds, place.first)
            rows.outputs += drawn.outputs
            rows.drafted += drawn.drafted
            rows.accepted += drawn.accepted
            rows.rejected += drawn.rejected
            self.tell(len(rows.outputs) / of)

    def _rows_alone(self, spec: RunSpec, place: _Place) -> _Rows:
        """Rows of a method that reads hidden states, each with a prefill of its own: those of them whose first token is
        the given one."""
        rows, seed = _Rows(), spec.sampling.seed
        run = msgspec.structs.replace(spec, sampling=_of_rows(spec.sampling), batch_size=64, ignore_eos=True)
        for begin in range(seed, seed + _ALONE, 256):
            requests = tuple(Request(prompt=place.prompt, prompt_id=str(s), seed=s) for s in range(begin, begin + 256))
            found = run_outputs(self.engine, run, requests)
            rows.outputs += [output.ids[1:] for output in found.rows if output.ids[0] == place.first]
            rows.drafted += found.drafted
            rows.accepted += found.states["accepted"]
            rows.rejected += found.states["rejected"]
            self.tell((begin - seed) / _ALONE)
        return rows

    def _shared(self, spec: RunSpec, prompt: str) -> Difference | None:
        """Where rows on the models' own caches part from rows that share forward passes; None where they do not, or
        where rounding may part them."""
        if self.dtype not in EXACT_DTYPES:
            return None
        sampling = msgspec.structs.replace(_of_rows(spec.sampling), max_tokens=_SHARED_TOKENS)
        run = msgspec.structs.replace(
            spec, sampling=sampling, batch_size=_SHARED_ROWS, ignore_eos=True, fresh_memory=True
        )
        seeds = range(sampling.seed, sampling.seed + _SHARED_ROWS)
        shared = self.engine.draws(run, prompt, seeds)
        requests = tuple(Request(prompt=prompt, prompt_id=f"seed {seed}", seed=seed) for seed in seeds)
        own = run_outputs(self.engine, run, requests)
        for output, expected in zip(own.rows, shared.outputs, strict=True):
            place = next((i for i, pair in enumerate(zip(expected, output.ids, strict=True)) if len({*pair}) > 1), None)
            if place is not None:
                return Difference(
                    prompt_id=output.prompt_id, position=place, expected=expected[place], expected_text="",
                    found=output.ids[place], found_text=output.texts[place],
                )  # fmt: skip
        return None


def _of_rows(sampling: SamplingSpec) -> SamplingSpec:
    """The sampling of the rows: the given first token and those that are judged."""
    return msgspec.structs.replace(sampling, max_tokens=1 + _JUDGED, min_tokens=0, stop=())


def _shares(spec: RunSpec) -> bool:
    return not METHODS[spec.method.name].heads


def _naive(spec: RunSpec) -> RunSpec:
    return msgspec.structs.replace(spec, method=MethodSpec(name="naive"), sampling=naive_under(spec.sampling))


def _counted(begun: CheckResult, rows: _Rows, result: Result) -> CheckResult:
    told = counted(begun, result, rows.drafted, rows.accepted, rows.rejected)
    return msgspec.structs.replace(told, rows=len(rows.outputs))
