"""Every method, rule and option of decoding as data: the command line, the plan files, the panels of the screen and
the axes of a sweep are generated from here, so none of them knows a method by name. No torch.

A method is an entry in `METHODS` and one file in `decoding/drafters/`; a rule is an entry in `RULES` and one file in
`decoding/acceptance/`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from specterm.errors import ConfigError

Value: TypeAlias = int | float | bool | str | tuple[str, ...] | None
Kind: TypeAlias = Literal["int", "float", "bool", "text", "texts"]

_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option: its name in files and JSON, its flag, its range and what it means."""

    name: str
    kind: Kind
    default: Value
    help: str
    minimum: float | None = None
    maximum: float | None = None
    optional: bool = False  # None is allowed, and means what `none_means` says
    none_means: str = ""
    label: str = ""  # short name for panels
    choices: tuple[str, ...] = ()  # of a text: what it may be; none given means anything
    at_most: str = ""  # the parameter of the same method that it may not exceed
    needs: tuple[str, Value] | None = None  # where it has a value, another parameter of the method must have this one

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    @property
    def title(self) -> str:
        """The short name that panels show."""
        return self.label or self.name.replace("_", " ")

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        noun = {"int": "a whole number", "float": "a number", "bool": "true or false", "text": "text"}.get(
            self.kind, "a list of texts"
        )
        if self.minimum is not None and self.maximum is not None:
            noun += f" from {self.minimum:g} to {self.maximum:g}"
        elif self.minimum is not None:
            noun += f" of at least {self.minimum:g}"
        return noun

    def check(self, value: Any) -> Value:
        """`value` as this parameter's type; text is parsed.

        Raises:
            ConfigError: the value is not of the type, not finite or out of range; the text names flag, value and range.
        """
        empty = ("",) if self.kind == "text" else ("", "none")
        if value is None or (isinstance(value, str) and value.strip().lower() in empty):
            if self.optional:
                return None
            raise ConfigError(f"{self.flag} is empty; it must be {self.allowed}")
        try:
            checked = self._convert(value)
        except (TypeError, ValueError, KeyError, OverflowError):
            raise ConfigError(f"{self.flag} is {value!r}; it must be {self.allowed}") from None
        if isinstance(checked, (int, float)) and not isinstance(checked, bool):
            too_low = self.minimum is not None and checked < self.minimum
            too_high = self.maximum is not None and checked > self.maximum
            if not math.isfinite(checked) or too_low or too_high:
                raise ConfigError(f"{self.flag} is {value}; it must be {self.allowed}")
        return checked

    def _convert(self, value: Any) -> Value:
        match self.kind:
            case "int":
                if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
                    raise ValueError
                return int(value)
            case "float":
                if isinstance(value, bool):
                    raise ValueError
                return float(value)
            case "bool":
                return value if isinstance(value, bool) else _SWITCH[str(value).strip().lower()]
            case "text":
                if self.choices and value not in self.choices:
                    raise ValueError
                return str(value)
            case "texts":
                return (value,) if isinstance(value, str) else tuple(str(v) for v in value)


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
    heads: str = ""  # the kind of heads that it needs: the field of ModelSpec that names them


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to decide what is accepted."""

    name: str
    title: str
    summary: str
    lossless: bool
    why: str
    methods: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()


NUM_DRAFT_TOKENS = Parameter(
    "num_draft_tokens", "int", 4, "Draft tokens a round (gamma).", minimum=1, maximum=64, label="gamma"
)
DRAFT_TEMPERATURE = Parameter(
    "draft_temperature",
    "float",
    None,
    "The drafter's own temperature; 0 drafts greedily. The output's law does not change, only how much is accepted.",
    minimum=0.0,
    maximum=100.0,
    optional=True,
    none_means="the target's temperature",
    label="draft temp",
)

NGRAM_MAX = Parameter(
    "ngram_max", "int", 4, "Longest context that is looked up, in tokens.", minimum=1, maximum=16, label="n-gram max"
)
NGRAM_MIN = Parameter(
    "ngram_min",
    "int",
    1,
    "Shortest context that is looked up, in tokens.",
    minimum=1,
    maximum=16,
    label="n-gram min",
    at_most=NGRAM_MAX.name,
)
TREE_WIDTH = Parameter("tree_width", "int", 1, "Branches of the draft; 1 is a chain.", minimum=1, maximum=8)
BEAM_WIDTH = Parameter("tree_width", "int", 3, "Paths that each drafter follows at a time.", minimum=1, maximum=16)
TREE_DEPTH = Parameter("tree_depth", "int", 4, "Depth of the draft tree, in tokens.", minimum=1, maximum=32)
TREE_NODES = Parameter(
    "tree_nodes",
    "int",
    None,
    "Nodes of the draft tree that the target verifies, the likeliest first.",
    minimum=1,
    maximum=256,
    optional=True,
    none_means="chosen each round from measured costs",
)
DRAFT_MEMORY = Parameter(
    "draft_memory",
    "text",
    "prompt",
    "What drafts are looked up in: none, the row's own output; prompt, also its prompt; session, also the prompts and "
    "outputs of all rows since the models were loaded.",
    choices=("none", "prompt", "session"),
    label="memory",
)
MEDUSA_TREE = Parameter(
    "medusa_tree",
    "text",
    "dynamic",
    "How candidates are chosen: dynamic, by the heads' probabilities in each round; static, by the same ranks always.",
    choices=("dynamic", "static"),
    label="medusa tree",
)
SUFFIX_FACTOR = Parameter(
    "suffix_factor", "float", 1.0, "Draft tokens for each matched token, at most.", minimum=0.1, maximum=64.0
)
SUFFIX_MIN_PROBABILITY = Parameter(
    "suffix_min_probability",
    "float",
    0.1,
    "A branch ends where its estimated probability falls below this.",
    minimum=0.0,
    maximum=1.0,
    label="suffix min p",
)
FILLER_TOP_K = Parameter(
    "filler_top_k",
    "int",
    3,
    "How many of the target's likeliest tokens are learned at every verified position; 0 learns from text alone.",
    minimum=0,
    maximum=64,
    label="filler top-k",
)
NGRAM_CAPACITY = Parameter(
    "ngram_capacity",
    "int",
    1_000_000,
    "Pairs of a context and a follower that the store holds; the longest unused contexts go first.",
    minimum=1,
    maximum=100_000_000,
    label="store size",
)
NGRAM_STORE = Parameter(
    "ngram_store",
    "text",
    None,
    "A file to read the store from, if it exists, and to write it to at the end; needs --draft-memory session.",
    optional=True,
    none_means="no file",
    label="store file",
    needs=(DRAFT_MEMORY.name, "session"),
)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("naive", "Naive", "One token a forward pass: the baseline of every comparison.", speculative=False),
        Method(
            "draft",
            "Draft model",
            "A small model of the same vocabulary drafts a chain; the target judges it in one pass.",
            (NUM_DRAFT_TOKENS, DRAFT_TEMPERATURE),
            min_drafts=1,
            max_drafts=1,
        ),
        Method(
            "sequential",
            "Several drafts",
            "Every draft model drafts a greedy chain; the chains merge into one tree for one masked pass.",
            (NUM_DRAFT_TOKENS,),
            min_drafts=1,
            max_drafts=8,
        ),
        Method(
            "tree",
            "Draft tree",
            "Every draft model grows a beam; the likeliest nodes merge into one tree for one masked pass.",
            (BEAM_WIDTH, TREE_DEPTH, TREE_NODES),
            min_drafts=1,
            max_drafts=8,
        ),
        Method(
            "ngram",
            "N-gram",
            "Prompt lookup: drafts what followed the end of the text the last time; no draft model.",
            (NUM_DRAFT_TOKENS, NGRAM_MIN, NGRAM_MAX, TREE_WIDTH, DRAFT_MEMORY),
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
            ),
        ),
        Method(
            "suffix",
            "Suffix",
            "Drafts the most frequent continuation, the longer the match the further; no draft model.",
            (NUM_DRAFT_TOKENS, TREE_WIDTH, DRAFT_MEMORY, SUFFIX_FACTOR, SUFFIX_MIN_PROBABILITY),
        ),
        Method(
            "medusa",
            "Medusa",
            "Heads on the target's last hidden state draft a tree; no draft model.",
            (MEDUSA_TREE, TREE_NODES),
            heads="medusa",
        ),
    )
}

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(
            "exact",
            "Exact",
            "Rejection sampling: accept with min(1, p/q), correct from the residual.",
            lossless=True,
            why="The output follows the target's own (warped) distribution exactly (Leviathan et al. 2023, theorem 1).",
            methods=("naive", "draft", "sequential", "tree", "ngram", "nasd", "suffix", "medusa"),
        ),
    )
}

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


def method(name: str) -> Method:
    """The method called `name`.

    Raises:
        ConfigError: there is none; the text lists those that exist.
    """
    if name not in METHODS:
        raise ConfigError(f"--method is {name!r}; it must be one of {', '.join(METHODS)}")
    return METHODS[name]


def rule(name: str, for_method: str) -> Rule:
    """The rule called `name`, checked to go with the method `for_method`.

    Raises:
        ConfigError: there is no such rule, or it does not go with the method.
    """
    if name not in RULES:
        raise ConfigError(f"--acceptance is {name!r}; it must be one of {', '.join(RULES)}")
    found = RULES[name]
    if for_method not in found.methods:
        raise ConfigError(
            f"--acceptance {name} does not go with --method {for_method}; it goes with {', '.join(found.methods)}"
        )
    return found


def check_parameters(owner: Method | Rule, given: Mapping[str, Any]) -> dict[str, Value]:
    """The parameters of `owner` with defaults filled in and each value checked.

    Raises:
        ConfigError: a value is bad, a name is unknown, or two values do not go together.
    """
    known = {parameter.name: parameter for parameter in owner.parameters}
    for name in given:
        if name not in known:
            takes = ", ".join(known) or "no parameters"
            raise ConfigError(f"{owner.name} has no parameter {name!r}; it takes {takes}")
    values = {name: parameter.check(given.get(name, parameter.default)) for name, parameter in known.items()}
    for name, parameter in known.items():
        _check_relations(parameter, values[name], known, values)
    return values


def _check_relations(
    parameter: Parameter, value: Any, known: Mapping[str, Parameter], values: Mapping[str, Any]
) -> None:
    if value is None:
        return
    if parameter.at_most and value > values[parameter.at_most]:
        bound = known[parameter.at_most].flag
        limit = values[parameter.at_most]
        raise ConfigError(f"{parameter.flag} is {value}; it must be at most {bound}, which is {limit}")
    if parameter.needs is not None and values[parameter.needs[0]] != parameter.needs[1]:
        name, needed = parameter.needs
        raise ConfigError(f"{parameter.flag} needs {known[name].flag} {needed}; it is {values[name]}")
