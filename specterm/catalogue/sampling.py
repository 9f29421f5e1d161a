"""How tokens are drawn: the parameters that every method and rule shares, those changed most often first."""

from __future__ import annotations

from specterm.catalogue.parameter import Parameter

SAMPLING: tuple[Parameter, ...] = (
    Parameter("temperature", "float", 0.7, "Sampling temperature; 0 is greedy.", minimum=0.0, maximum=100.0),
    Parameter("max_tokens", "int", 100, "Tokens to generate at most; 0 generates none.", minimum=0, label="max tokens"),
    Parameter("seed", "int", 0, "Seed of every random number.", minimum=0, maximum=2**63 - 1),
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
    Parameter(
        "repetition_penalty",
        "float",
        1.0,
        "Divides the positive logits of tokens that occurred, in the prompt too, and multiplies the negative ones; 1 "
        "does nothing.",
        minimum=0.01,
        maximum=100.0,
        label="repetition",
    ),
    Parameter(
        "presence_penalty",
        "float",
        0.0,
        "Taken off the logit of every token that the output has.",
        minimum=-100.0,
        maximum=100.0,
        label="presence",
    ),
    Parameter(
        "frequency_penalty",
        "float",
        0.0,
        "Taken off the logit of a token for each time that the output has it.",
        minimum=-100.0,
        maximum=100.0,
        label="frequency",
    ),
    Parameter(
        "logit_bias",
        "texts",
        (),
        "Add to the logit of a token, as ID:BIAS (repeatable): 13:-100 forbids token 13.",
        none_means="none; ID:BIAS",
        label="logit bias",
    ),
    Parameter("min_tokens", "int", 0, "Do not end before this many tokens.", minimum=0, label="min tokens"),
    Parameter("stop", "texts", (), "Stop at this text (repeatable); it is left out of the output."),
    Parameter(
        "filter_value",
        "float",
        None,
        "Logit that tokens get that top-k, top-p or min-p cut off (after temperature); at -inf they are never drawn.",
        maximum=0.0,
        optional=True,
        none_means="-inf",
        label="filter value",
    ),
)
