"""EAGLE-3 heads (Li et al. 2025, arXiv 2503.01840), as published by EAGLE, SpecForge and speculators.

The feature is g = fc(hidden states of several of the target's layers). With e, the token's embedding, the layer reads
[input norm of e; hidden norm of g] beside the residual stream g; what comes out, y, is the next feature as it is, and
behind a norm what the heads' own lm_head reads. Their vocabulary may be a part of the target's: draft token i is the
target's i + d2t[i].

Options: `norm_before_residual` makes the hidden norm of g the residual stream; `norm_before_fc` norms the joined states
and `fc_norm` each of them before fc; `norm_output` makes the normed y the next feature.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specterm.decoding.ports import FINAL_NORM, Runner
from specterm.errors import ModelError
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.heads.checkpoint import Checkpoint
from specterm.models.heads.eagle import FILES
from specterm.models.heads.feature_heads import FeatureHeads
from specterm.models.heads.head_config import HeadConfig
from specterm.models.heads.head_layer import read_layers
from specterm.models.norm import RmsNorm
from specterm.models.products import PackedLinear
from specterm.models.row_layers import Through
from specterm.models.runners.compiled_passes import HeadFront


class Eagle3Heads(FeatureHeads):
    """See `FeatureHeads`."""

    def __init__(self, config: HeadConfig, file: Checkpoint, target: Runner) -> None:
        """Raises:
        ModelError: a tensor is missing or does not fit the target; the text names it and both sizes.
        """
        hidden, states, options = config.hidden, target.hidden_size, config.options
        taps = _taps(config, target)
        fc = file.get("fc.weight", (hidden, len(taps) * states))
        layers, token_ids = read_layers(file, config, 2 * hidden), _token_ids(config, file, target)
        super().__init__(config, layers, _embedding(config, file, target), token_ids)
        self.taps = taps

        def weight(name: str, *shape: int) -> nn.Parameter:
            return nn.Parameter(file.get(name, shape, "the config says"), requires_grad=False)

        self.fc = nn.Parameter(fc, requires_grad=False)
        self.hidden_norm = weight("layers.0.hidden_norm.weight", hidden)
        self.norm = weight("norm.weight", hidden)
        shared = "lm_head.weight" not in file and self.token_ids is None and states == hidden
        vocab = target.vocab_size if self.token_ids is None else len(self.token_ids)
        self.lm_head = (
            nn.Parameter(target.head_weight().detach(), requires_grad=False)
            if shared
            else weight("lm_head.weight", vocab, hidden)
        )
        joined = options.get("norm_before_fc")
        self.input_norm = weight("input_norm.weight", len(taps) * states) if joined else None
        single = range(len(taps)) if options.get("fc_norm") else ()
        self.fc_norm = nn.ParameterList([weight(f"fc_norm.{i}.weight", states) for i in single])
        if options.get("norm_output"):
            self.following = FINAL_NORM

    def ends(self, packed: PackedLinear) -> tuple[HeadFront, RmsNorm | None, CompiledMatrix]:
        """See `FeatureHeads`."""
        judge, eps = packed.product(self.lm_head), self.config.eps
        assert isinstance(judge, CompiledMatrix)
        front = HeadFront(
            "beside",
            table_norm=self.layers[0].row_norm(),
            feature_norm=RmsNorm(self.hidden_norm, eps),
            residual_normed=bool(self.config.options.get("norm_before_residual")),
        )
        return front, RmsNorm(self.norm, eps), judge

    def fuse(self, taps: Tensor) -> Tensor:
        """See `FeatureHeads`."""
        states, size = taps.to(self.dtype), taps.shape[-1]
        if self.input_norm is not None:
            states = self._norm(states, self.input_norm)
        if len(self.fc_norm):
            parts = states.split(size // len(self.taps), dim=-1)
            states = torch.cat([self._norm(*part) for part in zip(parts, self.fc_norm, strict=True)], dim=-1)
        return self.linear(states, self.fc)

    def advance(self, ids: Tensor, features: Tensor, through: Through) -> Tensor:
        """See `FeatureHeads`."""
        first, *others = self.layers
        normed = self._norm(features, self.hidden_norm)
        residual = normed if self.config.options.get("norm_before_residual") else features
        y = through(0, torch.cat([first.normed(self.embed(ids)), normed], dim=-1), residual)
        for index, layer in enumerate(others, start=1):
            y = through(index, layer.normed(y), y)
        return self._norm(y, self.norm) if self.config.options.get("norm_output") else y

    def logits(self, features: Tensor) -> Tensor:
        """See `FeatureHeads`."""
        normed = features if self.config.options.get("norm_output") else self._norm(features, self.norm)
        return self.linear(normed, self.lm_head)

    def published(self) -> dict[str, Tensor]:
        """The tensors under their published names, without the embeddings, which are the target's."""
        tensors: dict[str, Tensor] = {
            "fc.weight": self.fc,
            "norm.weight": self.norm,
            "lm_head.weight": self.lm_head,
            "midlayer.hidden_norm.weight": self.hidden_norm,
        }
        for index, layer in enumerate(self.layers):
            tensors |= layer.published("midlayer." if index == 0 else f"layers.{index}.")
        if self.input_norm is not None:
            tensors["input_norm.weight"] = self.input_norm
        tensors |= {f"fc_norm.{i}.weight": norm for i, norm in enumerate(self.fc_norm)}
        if self.token_ids is not None:
            used = torch.zeros(self.get_buffer("embedding").shape[0], dtype=torch.bool)
            used[self.token_ids.cpu()] = True
            tensors |= {"d2t": self.token_ids - torch.arange(len(self.token_ids), device=self.device), "t2d": used}
        return tensors

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.config.eps)


def default_taps(layers: int) -> tuple[int, ...]:
    """The states that heads read of a target of `layers` layers unless their config says otherwise: those that enter
    layers 2, L // 2 and L - 3. Where these are not three, as in small targets, spread over it instead."""
    usual = (2, layers // 2, layers - 3)
    return usual if 2 < usual[1] < usual[2] else tuple(sorted({layers // 3, 2 * layers // 3, layers - 1}))


def read_eagle3(folder: Path, target: Runner) -> Eagle3Heads:
    """The heads in `folder`, for `target`, on its device and in its number format.

    Raises:
        ModelError: the file is missing or broken, a tensor is missing or does not fit; the text names it.
    """
    file = Checkpoint.read(folder, FILES, "EAGLE-3 heads").renamed(plain_name)
    if "d2t" not in file and "layers.0.hidden_norm.weight" not in file and "layers.0.mlp.down_proj.weight" in file:
        raise ModelError(f"{file.path} holds EAGLE heads; name them with --eagle")
    return Eagle3Heads(HeadConfig.read(folder), file, target).to(target.device, target.dtype)


def plain_name(name: str) -> str:
    """The name of a tensor, whoever published it: the first layer is `layers.0`."""
    name = name.removeprefix("model.")
    return f"layers.0.{name.removeprefix('midlayer.')}" if name.startswith("midlayer.") else name


def _taps(config: HeadConfig, target: Runner) -> tuple[int, ...]:
    """Id i names the state behind i layers, which enters layer i (numbered from 0)."""
    if config.options.get("use_aux_hidden_state") is False:
        raise ModelError(
            f"the heads in {config.folder} want use_aux_hidden_state False, which specterm does not know; use other "
            "heads"
        )
    ids = config.options.get("eagle_aux_hidden_state_layer_ids") or default_taps(target.layers)
    if not isinstance(ids, list | tuple) or not all(isinstance(i, int) and 0 <= i < target.layers for i in ids):
        raise ModelError(
            f"eagle_aux_hidden_state_layer_ids in {config.folder} are {ids}; the target has {target.layers} layers to "
            "read from"
        )
    return tuple(ids)


def _embedding(config: HeadConfig, file: Checkpoint, target: Runner) -> Tensor:
    if "embed_tokens.weight" not in file and target.hidden_size == config.hidden:
        return target.embedding_weight()
    return file.get("embed_tokens.weight", (target.vocab_size, config.hidden))


def _token_ids(config: HeadConfig, file: Checkpoint, target: Runner) -> Tensor | None:
    """The target's ids of the draft vocabulary; None where the two are the same."""
    vocab = target.vocab_size
    size = config.options.get("draft_vocab_size") or config.options.get("vocab_size") or vocab
    if size == vocab:
        return None
    offsets = file.integers("d2t")
    if offsets.shape != (size,):
        raise ModelError(f"d2t in {file.path} has shape {tuple(offsets.shape)}; the config says ({size},)")
    if "t2d" in file and file.shape("t2d") != (vocab,):
        raise ModelError(f"t2d in {file.path} has shape {file.shape('t2d')}; the target needs ({vocab},)")
    ids = offsets + torch.arange(size)
    if int(ids.min()) < 0 or int(ids.max()) >= vocab or len(ids.unique()) < size:
        raise ModelError(
            f"d2t in {file.path} leads to {len(ids.unique())} ids from {int(ids.min())} to {int(ids.max())}; they must "
            f"be {size} of the target's {vocab} tokens"
        )
    return ids
