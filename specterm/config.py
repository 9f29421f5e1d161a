"""What a person asks for, as validated data: models, method, sampling, a run, a batch plan. TOML in and out.

Every spec is a frozen msgspec struct; `checked()` returns it with the catalogue's defaults filled in, or raises a
`ConfigError` that names the bad value. Nothing here touches a model or a device.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from specterm import catalogue
from specterm.catalogue.models import BUILTIN, DRAFT_QUANTIZATIONS, DTYPES, QUANTIZATIONS
from specterm.errors import ConfigError

Trace: TypeAlias = Literal["counts", "probs", "alternatives"]
Dtype: TypeAlias = Literal["auto", "float32", "float64", "bfloat16", "float16"]
Quantization: TypeAlias = Literal["none", "8bit", "4bit"]

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "left out",
}
TRACES: tuple[str, ...] = ("counts", "probs", "alternatives")
FORMATS: tuple[str, ...] = ("json", "csv", "md", "html")


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which models to load and how. `target` and `drafts` are a built-in name, a folder or a hub id;
    the fields of `catalogue.HEADS` name heads of the target likewise."""

    target: str = BUILTIN
    drafts: tuple[str, ...] = ()
    medusa: str | None = None
    eagle: str | None = None
    eagle3: str | None = None
    mlp: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    quantize: str = "none"
    draft_quantize: str = "auto"
    max_model_len: int | None = None
    threads: int | None = None
    trust_remote_code: bool = False

    def checked(self) -> ModelSpec:
        """The spec itself; the built-in target without a draft gets the built-in draft, without heads the built-in
        ones.

        Raises:
            ConfigError: a value is bad.
        """
        _one_of("--dtype", self.dtype, DTYPES)
        _one_of("--quantize", self.quantize, QUANTIZATIONS)
        _one_of("--draft-quantize", self.draft_quantize, DRAFT_QUANTIZATIONS)
        if not self.target.strip():
            raise ConfigError("--target is empty; name a folder, a hub id or 'builtin'")
        if any(not draft.strip() for draft in self.drafts):
            raise ConfigError("--draft is empty; name a folder, a hub id or 'builtin'")
        for kind, name in self.heads().items():
            if not name.strip():
                raise ConfigError(f"--{kind} is empty; name a folder, a hub id or 'builtin'")
        if self.max_model_len is not None and self.max_model_len < 2:
            raise ConfigError(f"--max-model-len is {self.max_model_len}; it must be at least 2")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads is {self.threads}; it must be at least 1")
        if self.target != BUILTIN:
            return self
        heads = dict.fromkeys(catalogue.HEADS, BUILTIN) | self.heads()
        return msgspec.structs.replace(self, drafts=self.drafts or (BUILTIN,), **heads)

    def heads(self) -> dict[str, str]:
        """The heads that are named, by kind."""
        return {kind: name for kind in catalogue.HEADS if (name := getattr(self, kind)) is not None}


class MethodSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A method of the catalogue, by name or by a plug-in's reference, and its parameters."""

    name: str = "draft"
    parameters: dict[str, Any] = {}

    def checked(self) -> MethodSpec:
        """The spec with every parameter present and valid.

        Raises:
            ConfigError: the method or a parameter is unknown or bad.
        """
        found = catalogue.method(self.name)
        return MethodSpec(name=self.name, parameters=catalogue.check_parameters(found, self.parameters))

    @property
    def label(self) -> str:
        """A short name that tells two settings of one method apart: gamma, and what is not as by default."""
        short = {"num_draft_tokens": "gamma"}
        found = catalogue.METHODS.get(self.name)  # a stored run may be of a plug-in that is not here any more
        usual = {p.name: p.default for p in (found.parameters if found else ()) if p.name not in short}
        names = {k: short.get(k, k.replace("_", "-")) for k in self.parameters}
        told = [names[k] if v is True else f"{names[k]} {v}" for k, v in self.parameters.items() if v != usual.get(k)]
        return " ".join([found.name if found else self.name, *told])


class SamplingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How tokens are drawn: logit bias, penalties and least length first, then the warps in Hugging Face's order:
    temperature, top-k, top-p, min-p."""

    acceptance: str = "exact"
    temperature: float = 0.7
    top_k: int | None = None
    top_p: float = 0.9
    min_p: float | None = None
    filter_value: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[str, ...] = ()
    min_tokens: int = 0
    max_tokens: int = 100
    seed: int = 0
    stop: tuple[str, ...] = ()
    acceptance_temperature: float | None = None
    typical_epsilon: float | None = None
    typical_delta: float | None = None

    def checked(self) -> SamplingSpec:
        """The spec with every value in range, and with what the rule takes and settles.

        Raises:
            ConfigError: a value is bad, or does not go with the rule.
        """
        rule = catalogue.rule(self.acceptance)
        values = {p.name: p.check(getattr(self, p.name)) for p in catalogue.SAMPLING}
        for parameter in catalogue.SAMPLING:
            name, value = parameter.name, values[parameter.name]
            if value is None and name in rule.fills:
                values[name] = rule.fills[name]
            if name in rule.settles:
                if value not in (parameter.default, rule.settles[name]):
                    raise ConfigError(
                        f"{parameter.flag} is {value}; --acceptance {rule.name} does without it: leave it out, or "
                        "choose --acceptance exact"
                    )
                values[name] = rule.settles[name]
        for owner in catalogue.RULES.values():
            given = {p.name: v for p in owner.parameters if (v := getattr(self, p.name)) is not None}
            if owner is rule:
                values |= catalogue.check_parameters(rule, given)
            elif given:
                flag = next(p.flag for p in owner.parameters if p.name in given)
                raise ConfigError(f"{flag} does not go with --acceptance {rule.name}; it needs {owner.name}")
        if any(not text for text in self.stop):
            raise ConfigError("--stop is empty; give the text to stop at")
        if self.min_tokens > self.max_tokens:
            raise ConfigError(
                f"--min-tokens is {self.min_tokens}; it must be at most --max-tokens, which is {self.max_tokens}"
            )
        found = msgspec.structs.replace(self, **values)
        found.biases()
        return found

    def biases(self) -> tuple[tuple[int, float], ...]:
        """The tokens of `logit_bias` and what is added to their logits.

        Raises:
            ConfigError: one of them is not ID:BIAS.
        """
        return tuple(_bias(text) for text in self.logit_bias)

    @property
    def rule_parameters(self) -> dict[str, Any]:
        """The parameters of the rule, by name."""
        return {p.name: getattr(self, p.name) for p in catalogue.RULES[self.acceptance].parameters}

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0.0


class RunSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run: any number of prompts decoded with one method.

    `trace` is how much each round records: "counts" (tokens and states), "probs" (and text, p, q, confidence),
    "alternatives" (and the top k of target and drafter at every node). What a drafter learns goes into the `memory` of
    that name, for later runs to use; with `fresh_memory` the run begins with nothing learned, and where no `memory` is
    named it leaves nothing behind, as a timed trial must.

    With `reuse_prefix` the target keeps the beginning that a prompt shares with the run before it: the time of such a
    prefill is not that of the whole prompt.

    With `chat` a prompt is a turn of a conversation: it goes, with the `system` prompt and the turns before it, through
    `chat_template`, or else the model's own. A model without a template completes the prompt as it stands.
    """

    model: ModelSpec = ModelSpec()
    method: MethodSpec = MethodSpec()
    sampling: SamplingSpec = SamplingSpec()
    batch_size: int = 1
    trace: str = "counts"
    num_alternatives: int = 5
    ignore_eos: bool = False
    monitor: bool = True
    fresh_memory: bool = False
    memory: str = ""
    reuse_prefix: bool = False
    chat: bool = False
    chat_template: str | None = None
    system: str = ""

    def checked(self) -> RunSpec:
        """The spec with defaults filled in and everything checked together.

        Raises:
            ConfigError: a value is bad, or two do not go together.
        """
        model, method, sampling = self.model.checked(), self.method.checked(), self.sampling.checked()
        _one_of("--trace", self.trace, TRACES)
        if self.batch_size < 1:
            raise ConfigError(f"--batch-size is {self.batch_size}; it must be at least 1")
        entry = catalogue.method(method.name)
        catalogue.check_pair(catalogue.rule(sampling.acceptance), method.name, method.parameters)
        if len(model.drafts) < entry.min_drafts:
            raise ConfigError(
                f"--method {method.name} needs {entry.min_drafts} draft model{'s' * (entry.min_drafts > 1)} and "
                f"{len(model.drafts)} {'is' if len(model.drafts) == 1 else 'are'} named; add --draft, "
                "or choose --method naive"
            )
        if entry.heads and getattr(model, entry.heads) is None:
            raise ConfigError(
                f"--method {method.name} needs heads of the target and none are named; add --{entry.heads}"
            )
        return msgspec.structs.replace(self, model=model, method=method, sampling=sampling)


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a conversation; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt to decode. `seed` overrides the run's; `arrival_s` is when it may start, counted from the run's.

    turns: what was said before the prompt, where the run is a conversation.
    """

    prompt: str
    prompt_id: str = "prompt"
    domain: str | None = None
    repeat: int = 0
    seed: int | None = None
    turns: tuple[Message, ...] = ()
    arrival_s: float = 0.0


class PlanSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A batch: every method over every prompt, repeated and interleaved. `chat`, `chat_template` and `system` are those
    of every run, see `RunSpec`."""

    model: ModelSpec = ModelSpec()
    methods: tuple[MethodSpec, ...] = (MethodSpec(name="naive"), MethodSpec(name="draft"))
    sampling: SamplingSpec = SamplingSpec()
    prompts: tuple[str, ...] = (BUILTIN,)
    num_prompts: int | None = None
    repeats: int = 3
    warmup: int = 1
    batch_size: int = 1
    formats: tuple[str, ...] = FORMATS
    monitor: bool = True
    chat: bool = False
    chat_template: str | None = None
    system: str = ""

    def checked(self) -> PlanSpec:
        """The plan with every run of it checked.

        Raises:
            ConfigError: a value is bad.
        """
        for flag, value, least in (
            ("--repeats", self.repeats, 1),
            ("--warmup", self.warmup, 0),
            ("--num-prompts", 1 if self.num_prompts is None else self.num_prompts, 1),
        ):
            if value < least:
                raise ConfigError(f"{flag} is {value}; it must be at least {least}")
        if not self.methods:
            raise ConfigError("--method is empty; name at least one method")
        if not self.prompts:
            raise ConfigError("--prompts is empty; name a file or a built-in set")
        for name in self.formats:
            _one_of("--format", name, FORMATS)
        if (self.system or self.chat_template is not None) and not self.chat:
            raise ConfigError("chat is false, and the system prompt and the chat template need it; set chat = true")
        runs = [self.run_spec(method) for method in self.methods]
        return msgspec.structs.replace(
            self, model=runs[0].model, methods=tuple(run.method for run in runs), sampling=runs[0].sampling
        )

    def run_spec(self, method: MethodSpec) -> RunSpec:
        """The checked run of one method of this plan."""
        return RunSpec(
            model=self.model,
            method=method,
            sampling=self.sampling,
            batch_size=self.batch_size,
            monitor=self.monitor,
            chat=self.chat,
            chat_template=self.chat_template,
            system=self.system,
        ).checked()


def read_plan(path: Path) -> PlanSpec:
    """The plan in a TOML file, checked.

    Raises:
        ConfigError: the file cannot be read or parsed, or a value in it is bad; the text names the file and the key.
    """
    return plan_from(plan_data(path), str(path)).checked()


def plan_data(path: Path) -> dict[str, Any]:
    """What a TOML plan says, as plain data and not yet checked: only the keys that stand in it. Files of prompts are
    found from the plan's folder.

    Raises:
        ConfigError: the file cannot be read or parsed.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the plan {path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the plan {path} is not valid TOML: {error}") from None
    sources = data.get("prompts")
    if isinstance(sources, list):
        data["prompts"] = [_from_folder(source, path.parent) for source in sources]
    return data


def _from_folder(source: Any, folder: Path) -> Any:
    """A file of prompts as seen from the folder of the plan that names it; the built-in sets have no suffix."""
    return str(folder / source) if isinstance(source, str) and Path(source).suffix else source


def plan_from(data: Mapping[str, Any], source: str) -> PlanSpec:
    """A plan from plain data; a method may be a bare name.

    Raises:
        ConfigError: a key is unknown or of the wrong type; the text names `source` and the key.
    """
    methods = data.get("methods")
    if isinstance(methods, list):
        data = {**data, "methods": [{"name": m} if isinstance(m, str) else m for m in methods]}
    try:
        return msgspec.convert(dict(data), PlanSpec)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the plan {source}: {_mended(str(error))}") from None


def _mended(told: str) -> str:
    """What msgspec says about a value, as key, fault and mend."""
    place = re.search(r" - at `\$\.?(.*)`$", told)
    key = place.group(1) if place and place.group(1) else ""
    wrong = re.match(r"Expected `(.*?)`, got `(.*?)`", told)
    if wrong is not None:
        wanted, got = (" or ".join(_KINDS.get(kind, kind) for kind in kinds.split(" | ")) for kinds in wrong.groups())
        return f"{key} is {got}; it must be {wanted}"
    unknown = re.match(r"Object contains unknown field `(.*?)`", told)
    if unknown is not None:
        where = re.sub(r"\[.*?\]", "", key)
        struct = {"": PlanSpec, "model": ModelSpec, "sampling": SamplingSpec, "methods": MethodSpec}[where]
        known = ", ".join(struct.__struct_fields__)
        return f"unknown field `{unknown.group(1)}`{f' in {where}' if where else ''}; known are {known}"
    return told


def to_data(spec: msgspec.Struct) -> dict[str, Any]:
    """A spec as plain data that JSON and TOML can hold."""
    data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(spec))
    return data


def _bias(text: str) -> tuple[int, float]:
    token, _, value = text.partition(":")
    try:
        found = int(token), float(value)
    except ValueError:
        found = -1, 0.0
    if found[0] < 0 or not math.isfinite(found[1]):
        raise ConfigError(f"--logit-bias is {text!r}; it must be ID:BIAS, a token's id and a number, as in 13:-100")
    return found


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{flag} is {value!r}; it must be one of {', '.join(allowed)}")
