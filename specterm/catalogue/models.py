"""Which models to load and how, as data: the fields of `config.ModelSpec`."""

from __future__ import annotations

from specterm.catalogue.methods import HEADS
from specterm.catalogue.parameter import Parameter

DTYPES: tuple[str, ...] = ("auto", "float32", "float64", "bfloat16", "float16")
QUANTIZATIONS: tuple[str, ...] = ("none", "8bit", "4bit")
DRAFT_QUANTIZATIONS = ("auto", *QUANTIZATIONS)
BUILTIN = "builtin"
BUILTIN_NAMES = ("builtin/target", "builtin/draft", "builtin/draft-b")

_NAMED = "a built-in name, a folder or a hub id"

NAMES: tuple[Parameter, ...] = (
    Parameter("target", "text", BUILTIN, f"The target model: {_NAMED}."),
    Parameter("drafts", "texts", (), f"A draft model (repeatable): {_NAMED}.", label="draft"),
    *(Parameter(kind, "text", None, f"{noun} of the target: {_NAMED}.", optional=True) for kind, noun in HEADS.items()),
)
"""The fields that name models and heads."""

LOADING: tuple[Parameter, ...] = (
    Parameter("dtype", "text", "auto", f"{', '.join(DTYPES)}.", choices=DTYPES),
    Parameter("device", "text", "auto", "auto, cpu, cuda or cuda:N."),
    Parameter(
        "quantize", "text", "none", f"Weights of the target: {', '.join(QUANTIZATIONS)}.", choices=QUANTIZATIONS
    ),
    Parameter(
        "draft_quantize", "text", "auto",
        f"Weights of drafts: {', '.join(DRAFT_QUANTIZATIONS)}; auto is 8 bits on processors with fast products for "
        "them, unless --dtype says something. Heads are in 8 bits where drafts would be.",
        label="draft quant.", choices=DRAFT_QUANTIZATIONS,
    ),
    Parameter(
        "max_model_len", "int", None, "Longest context to make room for, in tokens.", minimum=2, optional=True,
        none_means="the model's own", label="max length",
    ),
    Parameter(
        "threads", "int", None, "Processor threads that models compute with.", minimum=1, optional=True,
        none_means="as torch does",
    ),
    Parameter("trust_remote_code", "bool", False, "Run code that comes with a model.", label="remote code"),
)  # fmt: skip
"""The fields that say how they are loaded."""
