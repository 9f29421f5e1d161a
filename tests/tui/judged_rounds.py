"""Rounds with everything that the inspector tells: a sampled chain, a tree of two drafters, a lookup, bare counts."""

from __future__ import annotations

from specterm.config import MethodSpec, ModelSpec, RunSpec, SamplingSpec
from specterm.events import Alternatives, Candidate, EmittedToken, Round, RowRound

TREE_SPEC = RunSpec(
    model=ModelSpec(target="builtin", drafts=("builtin", "builtin/draft-b")),
    method=MethodSpec(name="tree"),
    trace="alternatives",
).checked()
DRAFT_SPEC = RunSpec(method=MethodSpec(name="draft"), trace="probs").checked()
GREEDY_SPEC = RunSpec(method=MethodSpec(name="draft"), sampling=SamplingSpec(temperature=0.0)).checked()
NGRAM_SPEC = RunSpec(method=MethodSpec(name="ngram"), trace="probs").checked()


def in_round(index: int, part: RowRound) -> Round:
    return Round(0.1 + 0.01 * (index + 1), index, 0.002, 0.005, 0.0009, None, (part,))


# "Once" - " upon"(✓) - " a"(✗) - " the"(·), then the correction " one": a chain drawn from q.
CHAIN = RowRound(
    row=0,
    tokens=(11, 12, 13),
    parents=(-1, 0, 1),
    states=("accepted", "rejected", "unused"),
    emitted=(EmittedToken(11, " upon", "accepted", 0.5), EmittedToken(14, " one", "correction", 0.25)),
    texts=(" upon", " a", " the"),
    p=(0.5, 0.1, 0.2),
    q=(0.4, 0.8, 0.6),
    sources=(1, 1, 1),
)

#  root - A " cat"(✓) - AB " sat"(✗), then the correction " down"
#      |             `- B " ran"(✗) - B " off"(·)
#      `- B " dog"(·)
TREE = RowRound(
    row=0,
    tokens=(21, 22, 23, 24, 25),
    parents=(-1, -1, 0, 0, 3),
    states=("accepted", "unused", "rejected", "rejected", "unused"),
    emitted=(EmittedToken(21, " cat", "accepted", 0.6), EmittedToken(26, " down", "correction", 0.125)),
    texts=(" cat", " dog", " sat", " ran", " off"),
    p=(0.6, 0.3, 0.7, 0.001, 0.0),
    confidence=(0.83, 0.11, 0.5, 0.4, 0.9),
    sources=(1, 2, 3, 2, 2),
    alternatives=(
        Alternatives((Candidate(21, " cat", 0.6), Candidate(22, " dog", 0.3)), (Candidate(21, " cat", 0.83),)),
        Alternatives((Candidate(23, " sat", 0.7), Candidate(26, " down", 0.125)), None),
        Alternatives((Candidate(9, ".", 1.0),), None),
        Alternatives((Candidate(9, ".", 1.0),), None),
        Alternatives((Candidate(25, " off", 1.0),), None),
        Alternatives((Candidate(9, ".", 1.0),), None),
    ),
)

# A looked-up chain of which everything was kept.
LOOKUP = RowRound(
    row=0,
    tokens=(31, 32),
    parents=(-1, 0),
    states=("accepted", "accepted"),
    emitted=(
        EmittedToken(31, " the", "accepted", 0.9),
        EmittedToken(32, " end", "accepted", 0.8),
        EmittedToken(33, ".", "bonus", 0.7),
    ),
    texts=(" the", " end"),
    p=(0.9, 0.8),
    sources=(1, 1),
)

COUNTS = RowRound(
    row=0,
    tokens=(41, 42),
    parents=(-1, 0),
    states=("accepted", "rejected"),
    emitted=(EmittedToken(41, " so", "accepted"), EmittedToken(43, " it", "correction")),
)

PLAIN = RowRound(row=0, tokens=(), parents=(), states=(), emitted=(EmittedToken(51, " was", "plain", 0.33),))

ROUNDS = tuple(in_round(n, part) for n, part in enumerate((CHAIN, TREE, LOOKUP, COUNTS, PLAIN)))
