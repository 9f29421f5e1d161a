"""The methods: ways to draft."""

from __future__ import annotations

from dataclasses import dataclass

from specterm.catalogue.method_parameters import (
    ADAPTIVE,
    BEAM_WIDTH,
    DRAFT_CONFIDENCE,
    DRAFT_MEMORY,
    DRAFT_TEMPERATURE,
    EXIT_LAYER,
    FILLER_TOP_K,
    HEAD_TREE,
    MEDUSA_CHOICES,
    NGRAM_CAPACITY,
    NGRAM_MAX,
    NGRAM_MIN,
    NGRAM_STORE,
    NUM_DRAFT_TOKENS,
    SUFFIX_FACTOR,
    SUFFIX_MIN_PROBABILITY,
    TREE_CHILDREN,
    TREE_DEPTH,
    TREE_NODES,
    TREE_WIDTH,
)
from specterm.catalogue.parameter import Parameter


@dataclass(frozen=True, slots=True)
class Method:
    """A way to draft."""

    name: str
    title: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    min_drafts: int = 0  # draft models it needs
    max_drafts: int = 0  # those that it uses, the first ones
    speculative: bool = True
    fixed: bool = True  # its drafts are given by the text; False where it draws them whatever its options
    heads: str = ""  # the kind of heads that it needs (see `HEADS`): also the field of ModelSpec that names them


HEADS: dict[str, str] = {
    "medusa": "Medusa heads",
    "eagle": "EAGLE heads",
    "eagle3": "EAGLE-3 heads",
    "mlp": "MLP speculator",
}
"""The kinds of heads that draft for a target, and what they are called."""

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("naive", "Naive", "One token a forward pass: the baseline of every comparison.", speculative=False),
        Method(
            "draft",
            "Draft model",
            "A small model of the same vocabulary drafts a chain; the target judges it in one pass.",
            (NUM_DRAFT_TOKENS, DRAFT_CONFIDENCE, DRAFT_TEMPERATURE, ADAPTIVE),
            min_drafts=1,
            max_drafts=1,
        ),
        Method(
            "sequential",
            "Several drafts",
            "Every draft model drafts a greedy chain; the chains merge into one tree for one masked pass.",
            (NUM_DRAFT_TOKENS, ADAPTIVE),
            min_drafts=1,
            max_drafts=8,
        ),
        Method(
            "tree",
            "Draft tree",
            "Every draft model grows branches; their nodes form one tree for one masked pass.",
            (BEAM_WIDTH, TREE_DEPTH, TREE_NODES, TREE_CHILDREN, ADAPTIVE),
            min_drafts=1,
            max_drafts=8,
        ),
        Method(
            "ngram",
            "N-gram",
            "Prompt lookup: drafts what followed the end of the text the last time; no draft model.",
            (NUM_DRAFT_TOKENS, NGRAM_MIN, NGRAM_MAX, TREE_WIDTH, DRAFT_MEMORY, ADAPTIVE),
        ),
        Method(
            "nasd",
            "N-gram assisted",
            "Drafts from counts of n-grams, learned from the text and from the target's likeliest tokens; no draft "
            "model.",
            (
                NUM_DRAFT_TOKENS,
                NGRAM_MIN,
                NGRAM_MAX,
                TREE_WIDTH,
                DRAFT_MEMORY,
                FILLER_TOP_K,
                NGRAM_CAPACITY,
                NGRAM_STORE,
                ADAPTIVE,
            ),
        ),
        Method(
            "suffix",
            "Suffix",
            "Drafts the most frequent continuation, the longer the match the further; no draft model.",
            (NUM_DRAFT_TOKENS, TREE_WIDTH, DRAFT_MEMORY, SUFFIX_FACTOR, SUFFIX_MIN_PROBABILITY, ADAPTIVE),
        ),
        Method(
            "medusa",
            "Medusa",
            "Heads on the target's last hidden state draft a tree; no draft model.",
            (HEAD_TREE, TREE_NODES, MEDUSA_CHOICES, ADAPTIVE),
            heads="medusa",
        ),
        Method(
            "eagle",
            "EAGLE",
            "A one-layer model continues the target's last hidden state and drafts a tree; no draft model.",
            (HEAD_TREE, BEAM_WIDTH, TREE_DEPTH, TREE_NODES, ADAPTIVE),
            heads="eagle",
        ),
        Method(
            "eagle3",
            "EAGLE-3",
            "A one-layer model that reads hidden states of three depths of the target drafts a tree; no draft model.",
            (HEAD_TREE, BEAM_WIDTH, TREE_DEPTH, TREE_NODES, ADAPTIVE),
            heads="eagle3",
        ),
        Method(
            "mlp",
            "MLP speculator",
            "A small recurrence on the target's last hidden state drafts a beam; no draft model.",
            (BEAM_WIDTH, TREE_DEPTH, TREE_NODES, ADAPTIVE),
            heads="mlp",
        ),
        Method(
            "early-exit",
            "Early exit",
            "The target's own first layers and its head draft, on its own cache; no draft model.",
            (EXIT_LAYER, NUM_DRAFT_TOKENS, DRAFT_TEMPERATURE, TREE_WIDTH, TREE_NODES, ADAPTIVE),
        ),
    )
}
