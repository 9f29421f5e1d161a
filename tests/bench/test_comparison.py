"""Outputs against naive's."""

from __future__ import annotations

import pytest

from specterm.bench.comparison import NEAR_TIE_GAP, KnowsGaps, compare_outputs, output_must_match
from specterm.config import MethodSpec, RunSpec, SamplingSpec
from specterm.engine.local import LocalEngine


@pytest.mark.parametrize(
    ("candidate", "gap", "expected"),
    [
        ((1, 2, 3), None, "identical"),
        ((1, 9, 3), None, "different"),
        ((1, 9, 3), 0.0, "near_tie"),
        ((1, 9, 3), NEAR_TIE_GAP, "near_tie"),
        ((1, 9, 3), NEAR_TIE_GAP + 0.01, "different"),
        ((1, 2), 0.0, "different"),
        ((1, 2, 3, 4), 0.0, "different"),
        ((), 0.0, "different"),
    ],
)
def test_compare_outputs(candidate: tuple[int, ...], gap: float | None, expected: str) -> None:
    asked: list[int] = []

    def at(position: int) -> float:
        asked.append(position)
        assert gap is not None
        return gap

    assert compare_outputs((1, 2, 3), candidate, None if gap is None else at) == expected
    assert asked in ([], [1])


@pytest.mark.parametrize(
    ("method", "draft_temperature", "temperature", "dtype", "must"),
    [
        ("naive", None, 0.0, "float32", False),
        ("draft", None, 0.0, "bfloat16", True),
        ("draft", None, 0.7, "float32", False),
        ("draft", 0.0, 0.7, "float32", True),
        ("draft", 0.0, 0.7, "bfloat16", False),
        ("draft", 0.0, 0.7, None, False),
    ],
)
def test_when_outputs_must_match(
    method: str, draft_temperature: float | None, temperature: float, dtype: str | None, must: bool
) -> None:
    parameters = {} if method == "naive" else {"draft_temperature": draft_temperature}
    spec = RunSpec(
        method=MethodSpec(name=method, parameters=parameters), sampling=SamplingSpec(temperature=temperature)
    ).checked()
    assert output_must_match(spec, dtype) is must


def test_the_local_engine_knows_gaps() -> None:
    assert issubclass(LocalEngine, KnowsGaps)
