"""The runner of any decoder-only transformers model: its own modules and weights, our slot cache and masks.

A custom `Cache` hands each attention layer the slots it may read; explicit 4-D masks and position ids say who sees
what, so that a tree of draft tokens goes through in one pass. Models with recurrent or convolutional state cannot be
rolled back this way and are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from specterm.decoding.ports import Block
from specterm.errors import ModelError
from specterm.models.cache import SlotCache, positions_of, visibility
from specterm.models.cached import Cached
from specterm.models.runners.early_exit import EarlyExit

_LAYER_TYPES = {"full_attention", "sliding_attention"}


class _AttentionCache(Cache):
    """What transformers' attention layers see of a SlotCache. The masks are ours, so the sizes are never asked for."""

    def __init__(self, slots: SlotCache) -> None:
        self.slots = slots
        self.layers: list[Any] = []
        self.layer_class_to_replicate = None
        self.offloading = False

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write and read the layer's slots."""
        return self.slots.update(layer_idx, key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Unused: positions are explicit."""
        return 0


class CausalLMRunner(Cached):
    """See `Runner`."""

    def __init__(self, model: PreTrainedModel, device: torch.device, max_positions: int) -> None:
        """`model` is loaded, on its device(s) and in evaluation mode; `device` takes ids and gives logits.

        Raises:
            ModelError: its architecture keeps a state that cannot be rolled back, or takes no position ids.
        """
        config = model.config.get_text_config()
        self._model = model
        if getattr(model, "_is_stateful", False):
            raise ModelError(
                f"{config.model_type} keeps a recurrent state, which cannot be rolled back; speculative decoding needs "
                "a model of attention layers only"
            )
        self._kinds = _layer_kinds(config)
        self._window: int | None = getattr(config, "sliding_window", None)
        parameters = inspect.signature(model.forward).parameters
        if "position_ids" not in parameters or getattr(config, "is_encoder_decoder", False):
            raise ModelError(f"{type(model).__name__} takes no position ids; specterm runs decoder-only models that do")
        self._keeps_logits = "logits_to_keep" in parameters
        self.vocab_size = int(config.vocab_size)
        self.hidden_size = int(config.hidden_size)
        self.layers = int(config.num_hidden_layers)
        self.max_positions = max_positions
        self.device = device
        self.dtype: torch.dtype = model.dtype
        self.cache: SlotCache | None = None

    def head_weight(self) -> Tensor:
        """See `Runner`."""
        weight: Tensor = self._model.get_output_embeddings().weight
        return weight

    def through_head(self, states: Tensor) -> Tensor:
        """See `Runner`."""
        return F.linear(states, self.head_weight().detach())

    def embedding_weight(self) -> Tensor:
        """See `Runner`."""
        weight: Tensor = self._model.get_input_embeddings().weight
        return weight

    def forward(self, block: Block, last: Sequence[int] | None = None) -> Tensor:
        """See `Runner`."""
        return self.forward_tapped(block, (), last)[0]

    @torch.inference_mode()
    def forward_tapped(
        self, block: Block, taps: Sequence[int], last: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Runner`."""
        assert self.cache is not None, "allocate() comes first"
        self.cache.begin(block)
        keep: dict[str, Any] = {}
        index = None if last is None else torch.tensor(last, device=self.device)
        if index is not None and self._keeps_logits and len(set(last or ())) == 1:
            keep, index = {"logits_to_keep": index[:1]}, None
        output = self._model(
            input_ids=block.ids,
            attention_mask=self._masks(block),
            position_ids=positions_of(block, self.max_positions),
            past_key_values=_AttentionCache(self.cache),
            use_cache=True,
            output_hidden_states=bool(taps),
            **keep,
        )
        logits: Tensor = output.logits
        if index is not None:
            logits = logits[torch.arange(logits.shape[0], device=logits.device), index].unsqueeze(1)
        # The last of transformers' hidden states has gone through the final norm, so FINAL_NORM (-1) names it as it is.
        states = [output.hidden_states[tap].to(self.device) for tap in taps]
        return logits, torch.cat(states, dim=-1) if taps else logits[..., :0]

    def early_exit(self, layers: int) -> EarlyExit:
        """See `Runner`."""
        found = _layer_list(self._model, self.layers)
        if found is None:
            raise ModelError(
                f"early-exit is not available for {type(self._model).__name__}: it has no list of {self.layers} layers"
            )
        owner, name = found
        first = nn.ModuleList(list(getattr(owner, name))[:layers])

        def forward(block: Block, last: Sequence[int] | None) -> Tensor:
            with _replaced(owner, name, first):
                return self.forward(block, last)

        return EarlyExit(self, forward)

    def compact(self, rows: Sequence[int], starts: Sequence[int], path: Tensor) -> None:
        """See `Runner`."""
        assert self.cache is not None
        self.cache.compact(rows, starts, path)

    def _masks(self, block: Block) -> Tensor | dict[str, Tensor]:
        masks = {
            kind: self._additive(block, self._window if kind == "sliding_attention" else None) for kind in self._kinds
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _additive(self, block: Block, window: int | None) -> Tensor:
        """The mask to add to attention scores, [B, 1, T, end]: eager and fused attention both take it."""
        seen = visibility(block, window)
        shape = (len(block.rows), 1, block.width, block.end)
        mask = torch.zeros(shape, dtype=self.dtype, device=self.device)
        return mask if seen is None else mask.masked_fill(~seen.unsqueeze(1), torch.finfo(self.dtype).min)


def _layer_list(model: PreTrainedModel, layers: int) -> tuple[nn.Module, str] | None:
    """The module that goes through the list of the decoder's layers, and the list's name there."""
    for module in model.get_decoder().modules():  # from the outside in: lists within a layer come later
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == layers:
                return module, name
    return None


@contextmanager
def _replaced(owner: nn.Module, name: str, module: nn.Module) -> Iterator[None]:
    """`module` in place of the one that `owner` has under `name`, for as long as this lasts."""
    kept = getattr(owner, name)
    setattr(owner, name, module)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def _layer_kinds(config: Any) -> tuple[str, ...]:
    """The kinds of attention of a model's layers."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        if unknown := sorted(set(kinds) - _LAYER_TYPES):
            raise ModelError(
                f"{config.model_type} has {', '.join(unknown)} layers; speculative decoding needs layers of full or "
                "sliding-window attention, whose state can be rolled back"
            )
        # Models of one kind take one mask; those that can have two take a dictionary.
        return tuple(sorted(_LAYER_TYPES)) if "sliding_attention" in kinds and len(set(kinds)) > 1 else (kinds[0],)
    sliding = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return ("sliding_attention",) if sliding else ("full_attention",)
