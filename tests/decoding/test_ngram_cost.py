"""Drafting from an index costs the same after 30,000 tokens as after 100."""

import random
import statistics
import time

import pytest
import torch

from specterm.config import MethodSpec
from specterm.decoding.drafters import DRAFTERS
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, Feedback, ProposeRow, Recording
from specterm.decoding.sampling import Warps

ROUNDS = 400
SHORT, LONG = 100, 30_000


class Target:
    device = torch.device("cpu")
    vocab_size = 4096


def text(length: int) -> list[int]:
    """Phrases out of a small book: matches of every length are as common at the beginning as at the end."""
    draw = random.Random(0)
    phrases = [[draw.randrange(30) for _ in range(6)] for _ in range(8)]
    words: list[int] = []
    while len(words) < length:
        words += draw.choice(phrases)
    return words[:length]


def round_seconds(method: str, length: int, words: list[int]) -> float:
    """The median time of proposing and catching up, with `length` tokens behind."""
    spec = MethodSpec(name=method).checked()
    drafter = DRAFTERS[method](DraftSetup(Target(), (), Warps(0.0), Recording(), spec.parameters, DraftMemory()))
    drafter.open(1, LONG + 1000)
    drafter.admit(Admission(0, torch.tensor(words[: length - 1]), words[length - 1]))
    top_k = drafter.needs.top_k
    took, drafted = [], 0
    for turn in range(ROUNDS):
        emitted = tuple(words[(length + 2 * turn + i) % len(words)] for i in range(2))
        top_ids = tuple(tuple(range(token, token + top_k)) for token in emitted) if top_k else None
        began = time.perf_counter()
        tree = drafter.propose([ProposeRow(0, 64, 1, turn)])
        drafter.catch_up([Feedback(0, emitted, 1, top_ids)])
        took.append(time.perf_counter() - began)
        drafted += tree.counts[0]
    assert drafted > ROUNDS  # the price of drafting, not of finding nothing
    return statistics.median(took)


@pytest.mark.parametrize("method", ["ngram", "nasd", "suffix"])
def test_cost_does_not_grow_with_the_text(method):
    words = text(LONG + 2 * ROUNDS)
    # A busy machine can slow down one measurement of three, hardly all.
    ratios = [round_seconds(method, LONG, words) / round_seconds(method, SHORT, words) for _ in range(3)]
    assert min(ratios) < 2.0, ratios
