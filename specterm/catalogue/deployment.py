"""How other programs come nearest to a method, as data: their arguments, and what is not as it was measured.

Seen in vLLM 0.33 (`SpeculativeConfig`; chains only) and transformers 5.23 (`GenerationConfig`; the number of assistant
tokens is read from the assistant's own generation config). A method without a recipe has no counterpart there.

Values are named as parameters of methods are; beside them there are `draft` (the name of the first draft model),
`drafts` (how many are named), `heads` (the name of the method's heads), `acceptance`, `sampled` (whether the
temperature is above 0), `batch_size` and `builtin` (whether a built-in model takes part).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of another program that takes the value called `value`, as it is or translated; it is left out
    where the value is None or has no translation."""

    name: str
    value: str
    translations: Mapping[Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """What is said where the value called `value` is none of `same`: `{value}` stands for it in the text."""

    value: str
    same: tuple[Any, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """The nearest setting of another program. `line`, where it is not the program's own: how the arguments are given,
    with their names in braces."""

    arguments: tuple[Argument, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    line: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that people deploy. `line` is as in `Recipe`, with `{target}` and `{arguments}` (JSON); `quoting` says
    what its values are written for. `plain` is how it serves without speculation."""

    name: str
    line: str
    plain: str
    quoting: Literal["shell", "python"]
    recipes: Mapping[str, Recipe]
    differences: tuple[Difference, ...] = ()


_CHAIN = Difference("tree_width", (1,), "{program} drafts a chain: width {value} is not available")
_FIXED_LENGTH = Difference("adaptive", (False,), "{program} does not choose the draft length from round to round")
_ONE_DRAFT = Difference("drafts", (1,), "{program} takes one draft model: the other ones of {value} are left out")
_HEAD_TREE = Difference(
    "head_tree", (), "{program} drafts a chain of the likeliest tokens: a {value} tree is not available"
)
_DRAFT_TEMPERATURE = Difference("draft_temperature", (None,), "a draft temperature of {value} is not available")
_WHOLE_DRAFT = Difference(
    "draft_confidence", (0.0,), "{program} drafts the full length: an end at a confidence of {value} is not available"
)
_TOKEN_CONFIDENCE = Difference(
    "draft_confidence", (0.0,), "{program} ends a draft at a token that is itself below {value}, not the whole draft"
)
_GREEDY_DRAFT = Difference(
    "sampled",
    (False,),
    "its draft model takes the likeliest tokens and does not draw them, unless draft_sample_method is probabilistic",
)
_REQUEST_MEMORY = Difference(
    "draft_memory",
    ("prompt",),
    "{program} looks up the request's own prompt and output: memory {value} is not available",
)

_LENGTH = Argument("num_speculative_tokens", "num_draft_tokens")
_DEPTH = Argument("num_speculative_tokens", "tree_depth")
_BLOCK = Argument("rejection_sample_method", "acceptance", {"block": "block"})


def _vllm_heads(method: str) -> Recipe:
    return Recipe(
        (Argument("model", "heads"), _DEPTH),
        {"method": method},
        (_HEAD_TREE, _FIXED_LENGTH),
    )


VLLM = Program(
    name="vLLM",
    line="vllm serve {target} --speculative-config {arguments}",
    plain="vllm serve {target}",
    quoting="shell",
    recipes={
        "draft": Recipe(
            (Argument("model", "draft"), _LENGTH, _BLOCK),
            {"method": "draft_model"},
            (_DRAFT_TEMPERATURE, _GREEDY_DRAFT, _FIXED_LENGTH, _WHOLE_DRAFT),
        ),
        "sequential": Recipe(
            (Argument("model", "draft"), _LENGTH), {"method": "draft_model"}, (_ONE_DRAFT, _FIXED_LENGTH)
        ),
        "tree": Recipe(
            (Argument("model", "draft"), _DEPTH),
            {"method": "draft_model"},
            (_CHAIN, _ONE_DRAFT, _FIXED_LENGTH),
        ),
        "ngram": Recipe(
            (
                _LENGTH,
                Argument("prompt_lookup_min", "ngram_min"),
                Argument("prompt_lookup_max", "ngram_max"),
                _BLOCK,
            ),
            {"method": "ngram"},
            (_CHAIN, _REQUEST_MEMORY, _FIXED_LENGTH),
        ),
        "suffix": Recipe(
            (
                _LENGTH,
                Argument("suffix_decoding_max_spec_factor", "suffix_factor"),
                Argument("suffix_decoding_min_token_prob", "suffix_min_probability"),
                Argument("suffix_decoding_max_cached_requests", "draft_memory", {"prompt": 0}),
                _BLOCK,
            ),
            {"method": "suffix"},
            (
                _CHAIN,
                Difference("draft_memory", ("prompt", "session"), "{program} looks up the request's prompt too"),
                _FIXED_LENGTH,
            ),
            ("it needs the package arctic-inference",),
        ),
        "eagle": _vllm_heads("eagle"),
        "eagle3": _vllm_heads("eagle3"),
    },
    differences=(
        Difference(
            "acceptance", ("exact", "block"), "{program} verifies by rejection sampling: {value} is not available"
        ),
        Difference(
            "builtin", (False,), "the built-in models are there for trying out; name folders or hub ids instead"
        ),
    ),
)

_ASSISTED = (
    "assistant = AutoModelForCausalLM.from_pretrained({assistant_model}); "
    "assistant.generation_config.update(num_assistant_tokens={num_assistant_tokens}, "
    "assistant_confidence_threshold={assistant_confidence_threshold}); "
    "model.generate(**inputs, assistant_model=assistant)"
)
_ASSISTANT = Argument("assistant_model", "draft")
_CONSTANT_LENGTH = {"assistant_confidence_threshold": 0.0}

TRANSFORMERS = Program(
    name="transformers",
    line="",
    plain="model.generate(**inputs)",
    quoting="python",
    recipes={
        "draft": Recipe(
            (
                _ASSISTANT,
                Argument("num_assistant_tokens", "num_draft_tokens"),
                Argument("assistant_confidence_threshold", "draft_confidence"),
            ),
            differences=(_DRAFT_TEMPERATURE, _FIXED_LENGTH, _TOKEN_CONFIDENCE),
            line=_ASSISTED,
        ),
        "sequential": Recipe(
            (_ASSISTANT, Argument("num_assistant_tokens", "num_draft_tokens")),
            _CONSTANT_LENGTH,
            (_ONE_DRAFT, _FIXED_LENGTH),
            line=_ASSISTED,
        ),
        "tree": Recipe(
            (_ASSISTANT, Argument("num_assistant_tokens", "tree_depth")),
            _CONSTANT_LENGTH,
            (_CHAIN, _ONE_DRAFT, _FIXED_LENGTH),
            line=_ASSISTED,
        ),
        "ngram": Recipe(
            (
                Argument("prompt_lookup_num_tokens", "num_draft_tokens"),
                Argument("max_matching_ngram_size", "ngram_max"),
            ),
            differences=(
                _CHAIN,
                Difference("ngram_min", (1,), "{program} looks contexts of one token up too, not from {value} on"),
                _REQUEST_MEMORY,
                _FIXED_LENGTH,
            ),
            line="model.generate(**inputs, prompt_lookup_num_tokens={prompt_lookup_num_tokens}, "
            "max_matching_ngram_size={max_matching_ngram_size})",
        ),
    },
    differences=(
        Difference("acceptance", ("exact",), "{program} verifies by speculative sampling: {value} is not available"),
        Difference("batch_size", (1,), "{program} speculates for one prompt at a time, not for {value}"),
        Difference(
            "builtin", (False,), "the built-in models are there for trying out; name folders or hub ids instead"
        ),
    ),
)

PROGRAMS = (VLLM, TRANSFORMERS)
