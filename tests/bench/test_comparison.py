"""Outputs against naive's."""

from __future__ import annotations

from typing import Any, Never

import pytest

from specterm.bench.comparison import TeacherForces, compare_outputs, near_tie_gap, output_must_match
from specterm.config import MethodSpec, RunSpec, SamplingSpec
from specterm.engine.local import LocalEngine

TIE = near_tie_gap("bfloat16")
MORE = TIE + 0.01


@pytest.mark.parametrize(
    ("candidate", "shortfalls", "expected"),
    [
        ((1, 2, 3), None, "identical"),
        ((1, 9, 3), None, "different"),
        ((1, 9, 3), (0.0, 0.0, 0.0), "near_tie"),
        ((1, 9, 3), (0.0, TIE, 0.0), "near_tie"),
        ((1, 9, 3), (0.0, MORE, 0.0), "different"),
        ((1, 9, 3), (0.0, TIE, MORE), "different"),  # a later token is no tie
        ((1, 9, 3), (MORE, TIE, 0.0), "near_tie"),  # what agrees is not in question
        ((1, 2), (0.0, 0.0), "different"),
        ((1, 2, 3, 4), (0.0,) * 4, "different"),
        ((), (), "different"),
    ],
)
def test_compare_outputs(candidate: tuple[int, ...], shortfalls: tuple[float, ...] | None, expected: str) -> None:
    told = None if shortfalls is None else lambda: shortfalls
    assert compare_outputs((1, 2, 3), candidate, told) == expected


def test_identical_outputs_are_not_teacher_forced() -> None:
    def never() -> Never:
        raise AssertionError

    assert compare_outputs((1, 2), (1, 2), never) == "identical"


@pytest.mark.parametrize(
    ("method", "parameters", "temperature", "dtype", "must"),
    [
        ("naive", {}, 0.0, "float32", False),
        ("draft", {}, 0.0, "bfloat16", True),
        ("draft", {}, 0.7, "float32", False),
        ("draft", {"draft_temperature": 0.0}, 0.7, "float32", True),
        ("draft", {"draft_temperature": 0.0}, 0.7, "bfloat16", False),
        ("draft", {"draft_temperature": 0.0}, 0.7, None, False),
        ("tree", {}, 0.7, "float32", True),
        ("early-exit", {}, 0.7, "float32", False),
        ("early-exit", {"tree_width": 2}, 0.7, "float32", True),
        ("tree", {"tree_children": "sampled"}, 0.7, "float32", False),
        ("tree", {"tree_children": "sampled"}, 0.0, "float32", True),
    ],
)
def test_when_outputs_must_match(
    method: str, parameters: dict[str, Any], temperature: float, dtype: str | None, must: bool
) -> None:
    spec = RunSpec(
        method=MethodSpec(name=method, parameters=parameters), sampling=SamplingSpec(temperature=temperature)
    ).checked()
    assert output_must_match(spec, dtype) is must


def test_the_local_engine_teacher_forces() -> None:
    assert issubclass(LocalEngine, TeacherForces)


def test_a_tie_is_as_wide_as_the_dtype_rounds() -> None:
    for dtype, expected in (("bfloat16", "near_tie"), ("float16", "near_tie"), ("float32", "different")):
        assert compare_outputs((1, 2, 3), (1, 9, 3), lambda: (0.0, 0.1, 0.0), dtype) == expected
    assert compare_outputs((1, 2), (1, 9), lambda: (0.0, 1e-4), "float32") == "near_tie"
    assert compare_outputs((1, 2), (1, 9), lambda: (0.0, 1e-4), "float64") == "different"
