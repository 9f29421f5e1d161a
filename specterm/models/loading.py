"""Loading models: name to runner and tokenizer, with every check that can be made before the first token."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from specterm.catalogue import HEADS
from specterm.config import ModelSpec
from specterm.decoding.ports import Runner
from specterm.errors import Cancelled, ConfigError, DeviceError, ModelError, one_line
from specterm.events import ModelInfo
from specterm.kernels.machine import this_machine
from specterm.models import devices
from specterm.models.faults import is_device_failure, is_out_of_memory
from specterm.models.folders import eos_ids, find_folder, find_heads, read_config
from specterm.models.formats import quickest_format
from specterm.models.heads import READERS
from specterm.models.products import DRAFT_WIDTHS, TARGET_WIDTHS
from specterm.models.progress import LoadMeter, Report, unreported
from specterm.models.runners.llama import LlamaRunner, fits
from specterm.models.tokenizer import TextCodec, has_tokenizer, load_codec
from specterm.models.weights import open_weights, tensor_reader, weight_file_bytes

_PACKED_ROWS, _BLOCK = 32, 64
"""bitsandbytes packs so many rows together, and scales so many 4-bit weights of a row together."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run."""

    runner: Runner
    codec: TextCodec | None  # a draft may come without a tokenizer
    info: ModelInfo
    eos: frozenset[int]


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """A target, its draft models and its heads by kind, checked to fit one another."""

    target: LoadedModel
    drafts: tuple[LoadedModel, ...]
    heads: Mapping[str, Any] = field(default_factory=dict)

    @property
    def codec(self) -> TextCodec:
        """The tokenizer of the pair."""
        assert self.target.codec is not None
        return self.target.codec


@dataclass(frozen=True, slots=True)
class FoundModels:
    """Where the models of a spec lie: it is known that they are there, not yet that they can be loaded."""

    spec: ModelSpec
    device: torch.device
    target: Path
    drafts: tuple[Path, ...]
    heads: Mapping[str, Path]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all their weights as they are stored.

        Raises:
            ModelError: the index of a sharded model is unreadable, or a shard is missing.
        """
        return sum(weight_file_bytes(folder) for folder in (self.target, *self.drafts, *self.heads.values()))


def load_models(spec: ModelSpec, report: Report = unreported) -> LoadedModels:
    """Find and load the models of `spec`. For the errors see `find_models` and `read_models`."""
    return read_models(find_models(spec, report), report)


def find_models(spec: ModelSpec, report: Report = unreported) -> FoundModels:
    """Find the models of `spec`, which fetches those that only the hub has: a misspelt draft should not cost the
    loading of a target.

    Raises:
        ModelError: a model is missing.
        DeviceError: the device is missing.
        ConfigError: there is no such device.
    """
    report("looking for the models", None)
    return FoundModels(
        spec,
        devices.choose_device(spec.device),
        find_folder(spec.target, "target", report),
        tuple(find_folder(name, "draft", report) for name in spec.drafts),
        {kind: find_heads(name, kind, report) for kind, name in spec.heads().items()},
    )


def read_models(found: FoundModels, report: Report = unreported) -> LoadedModels:
    """Load what was found; `report` is told each stage and the share of the weights that is read.

    Raises:
        ModelError: a model is unreadable, or target and draft do not fit.
        DeviceError: the device is too small.
        ConfigError: device, dtype or quantization cannot be had together.
    """
    spec, device = found.spec, found.device
    meter = LoadMeter(report, found.weight_bytes)
    meter.begin(f"loading {spec.target}", weight_file_bytes(found.target))
    target = _load(spec, spec.target, found.target, "target", device, spec.quantize, meter)
    drafts = []
    for name, folder in zip(spec.drafts, found.drafts, strict=True):
        meter.begin(f"loading draft {name}", weight_file_bytes(folder))
        draft = _load(spec, name, folder, "draft", device, spec.draft_quantize, meter)
        check_vocabularies(target, draft)
        drafts.append(draft)
    heads: dict[str, Any] = {}
    for kind, folder in found.heads.items():
        meter.begin(f"loading {HEADS[kind]}", weight_file_bytes(folder))
        heads[kind] = made = READERS[kind](folder, target.runner)
        made.pack(eight_bits=_in_eight_bits(spec, device))
    return LoadedModels(target, tuple(drafts), heads)


def check_vocabularies(target: LoadedModel, draft: LoadedModel) -> None:
    """Drafting needs one vocabulary. Embeddings may be padded to different sizes, the tokens must be the same.

    Raises:
        ModelError: they differ; the text gives both sizes and what to do.
    """
    ours = target.codec.vocabulary() if target.codec else {}
    theirs = draft.codec.vocabulary() if draft.codec else None
    sizes = f"{len(ours)} and {draft.runner.vocab_size if theirs is None else len(theirs)} tokens"
    if theirs is None:
        if target.runner.vocab_size != draft.runner.vocab_size:
            raise ModelError(
                f"{target.info.name} and {draft.info.name} have different vocabularies ({target.runner.vocab_size} and "
                f"{draft.runner.vocab_size} tokens); choose a draft of the target's family"
            )
        return
    if ours != theirs:
        differ = sum(1 for token, index in theirs.items() if ours.get(token) != index)
        raise ModelError(
            f"{target.info.name} and {draft.info.name} have different vocabularies ({sizes}, {differ} of the draft's "
            "not the target's); choose a draft of the target's family"
        )


def _load(
    spec: ModelSpec,
    name: str,
    folder: Path,
    role: Literal["target", "draft"],
    device: torch.device,
    quantize: str,
    meter: LoadMeter,
) -> LoadedModel:
    config = read_config(folder)
    _refuse_what_is_no_decoder(name, config)
    text_config = config.get("text_config") or config
    stored = devices.stored_dtype(config.get("dtype") or config.get("torch_dtype") or text_config.get("dtype"))
    dtype = devices.choose_dtype(spec.dtype, device, stored)
    context = text_config.get("max_position_embeddings") or text_config.get("n_positions") or 2048
    if not isinstance(context, int):
        raise ModelError(f"config.json of {name} says that its context is {context!r}; that must be a whole number")
    max_positions = min(context, spec.max_model_len or context)
    if role == "target" and spec.max_model_len is not None and spec.max_model_len > context:
        raise ConfigError(
            f"--max-model-len is {spec.max_model_len}; {name} was made for {context} tokens: give at most so many"
        )
    codec = _codec(folder, role, spec.trust_remote_code)
    format_s = None
    eight_bits = role == "draft" and _in_eight_bits(spec, device) and fits(config, folder)
    if eight_bits:
        quantize, dtype = "8bit", torch.float32
    elif quantize == "auto":
        quantize = "none"
    try:
        if eight_bits or (quantize == "none" and fits(config, folder)):
            widths = TARGET_WIDTHS if role == "target" else DRAFT_WIDTHS
            if spec.dtype == "auto" and device.type == "cpu" and dtype == torch.bfloat16:  # so not in 8 bits
                dtype, format_s = quickest_format(folder, config, widths)
            read = tensor_reader(folder, device, dtype, meter.advance)
            fused = LlamaRunner(read, config, device, dtype, max_positions, widths, eight_bits=eight_bits)
            (parameters, held), kind, runner = fused.size(), "fused llama", fused
        else:
            causal, parameters, held = _load_transformers(
                spec, name, folder, device, dtype, quantize, max_positions, meter
            )
            kind, runner = "transformers", causal  # type: ignore[assignment]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        advice = "try --quantize 4bit, a smaller model" + (" or --device cpu" if device.type != "cpu" else "")
        raise DeviceError(f"{name} does not fit into the memory of {device}; {advice}") from error
    info = ModelInfo(
        name=name,
        path=str(folder) if not name.startswith("builtin") else name,
        architecture=(config.get("architectures") or [config.get("model_type", "unknown")])[0],
        runner=kind,
        device=str(device),
        device_name=devices.device_name(device),
        dtype=str(dtype).removeprefix("torch."),
        quantization=None if quantize == "none" else quantize,
        parameters=parameters,
        weight_bytes=held,
        vocab_size=runner.vocab_size,
        max_positions=max_positions,
        chat_template=codec is not None and codec.template is not None,
        format_s=format_s,
    )
    return LoadedModel(runner, codec, info, eos_ids(folder, config))


def _in_eight_bits(spec: ModelSpec, device: torch.device) -> bool:
    """Whether drafters are held in 8 bits, as far as they can be; the target judges what they draft in any case."""
    wanted = spec.draft_quantize == "8bit" or (spec.draft_quantize == "auto" and spec.dtype == "auto")
    return wanted and device.type == "cpu" and this_machine() is not None


def _refuse_what_is_no_decoder(name: str, config: dict[str, Any]) -> None:
    architecture = str((config.get("architectures") or [""])[0])
    if config.get("is_encoder_decoder"):
        kind = "an encoder-decoder"
    elif architecture.endswith("ForMaskedLM"):
        kind = "an encoder"
    else:
        return
    raise ModelError(f"{name} is {kind} model ({config.get('model_type')}); specterm runs decoder-only language models")


def _codec(folder: Path, role: str, trust_remote_code: bool) -> TextCodec | None:
    if role == "draft" and not has_tokenizer(folder):
        return None
    return load_codec(folder, trust_remote_code)


def _load_transformers(
    spec: ModelSpec,
    name: str,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    quantize: str,
    max_positions: int,
    meter: LoadMeter,
) -> tuple[Runner, int, int]:
    """The runner, how many parameters its model has and the bytes that they take."""
    open_weights(folder, torch.device("cpu"))  # names the file that is broken, which transformers does not
    import transformers

    from specterm.models.runners.causal_lm import CausalLMRunner

    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": spec.trust_remote_code}
    if quantize != "none":
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_8bit=quantize == "8bit", load_in_4bit=quantize == "4bit", bnb_4bit_compute_dtype=dtype
        )
        options["device_map"] = {"": device}
        # It warns, product after product, of conversions that are meant, and of faster kernels that others have.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    try:
        # Mismatches are let through to be told below by name; left alone, transformers would fill gaps at random.
        with meter.watching_transformers():
            model, found = transformers.AutoModelForCausalLM.from_pretrained(
                folder, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
    except Cancelled:
        raise
    except Exception as error:  # configs, weights and remote code fail in every way there is
        if is_out_of_memory(error) or is_device_failure(error):
            raise
        raise ModelError(_loading_failure(name, error)) from None
    if found["mismatched_keys"]:
        tensor, stored, wanted = min(found["mismatched_keys"])
        raise ModelError(f"{tensor} in {folder} has shape {tuple(stored)}; the config says {tuple(wanted)}")
    if found["missing_keys"]:
        raise ModelError(f"the weights in {folder} have no tensor {min(found['missing_keys'])}")
    if quantize == "none":
        model.to(device)
    if quantize == "4bit" and device.type == "cpu":
        _leave_odd_shapes_unpacked(model)
    model.eval()
    held = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    # 4-bit weights lie two in an element, which its own count knows.
    return CausalLMRunner(model, device, max_positions), model.num_parameters(), held


def _leave_odd_shapes_unpacked(model: Any) -> None:
    """On CPUs with AVX-512 BF16 bitsandbytes lays 4-bit matrices out anew when they are first used, and fails at those
    that its blocks do not divide; its general products take them as they are."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            rows, columns = module.out_features, module.in_features
            module.support_avx512bf16_for_cpu &= rows % _PACKED_ROWS == 0 and columns % _BLOCK == 0


def _loading_failure(name: str, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return f"{name} runs code of its own; read it, and allow it with --trust-remote-code if you trust it"
    if "Unrecognized configuration class" in str(error):
        return f"{name} is a kind of model that transformers has no causal language model for"
    return f"{name} cannot be loaded: {one_line(error)}"
