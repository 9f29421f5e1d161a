"""How tokens are drawn: the parameters that every method and rule shares."""

from __future__ import annotations

from specterm.catalogue.parameter import Parameter

SAMPLING: tuple[Parameter, ...] = (
    Parameter("temperature", "float", 0.7, "Sampling temperature; 0 is greedy.", minimum=0.0, maximum=100.0),
    Parameter(
        "top_k",
        "int",
        None,
        "Keep the k most likely tokens.",
        minimum=1,
        optional=True,
        none_means="all",
        label="top-k",
    ),
    Parameter(
        "top_p",
        "float",
        0.9,
        "Keep the smallest set of tokens with at least this mass; 1 keeps all.",
        minimum=0.0,
        maximum=1.0,
        label="top-p",
    ),
    Parameter(
        "min_p",
        "float",
        None,
        "Keep tokens at least this likely relative to the likeliest.",
        minimum=0.0,
        maximum=1.0,
        optional=True,
        none_means="off",
        label="min-p",
    ),
    Parameter("max_tokens", "int", 100, "Tokens to generate at most; 0 generates none.", minimum=0, label="max tokens"),
    Parameter("seed", "int", 0, "Seed of every random number.", minimum=0, maximum=2**63 - 1),
    Parameter("stop", "texts", (), "Stop at this text (repeatable); it is left out of the output."),
)
