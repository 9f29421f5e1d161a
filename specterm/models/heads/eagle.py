"""EAGLE heads (Li et al. 2024, arXiv 2401.15077; EAGLE-2, arXiv 2406.16858, drafts with the same ones).

The feature is the target's last hidden state, behind its final norm. z = fc([embedding of the token; feature]) goes
through a layer without input norm; what comes out stands for the next feature, and the target's own head reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from specterm.decoding.ports import FINAL_NORM, Runner
from specterm.errors import ModelError
from specterm.models.compiled.matrix import CompiledMatrix, in_eight_bits
from specterm.models.heads.checkpoint import Checkpoint
from specterm.models.heads.feature_heads import FeatureHeads
from specterm.models.heads.head_config import HeadConfig
from specterm.models.heads.head_layer import read_layers
from specterm.models.norm import RmsNorm
from specterm.models.products import PackedLinear, unscaled
from specterm.models.row_layers import Through
from specterm.models.runners.compiled_passes import HeadFront

FILES = ("model.safetensors", "pytorch_model.bin")


class EagleHeads(FeatureHeads):
    """See `FeatureHeads`."""

    taps = (FINAL_NORM,)
    lm_head: Tensor | None

    def __init__(self, config: HeadConfig, file: Checkpoint, target: Runner) -> None:
        """Raises:
        ModelError: a tensor is missing or does not fit the target; the text names it and both sizes.
        """
        hidden, vocab = target.hidden_size, target.vocab_size
        weight = file.get("fc.weight", (hidden, 2 * hidden))
        own = "embed_tokens.weight" in file
        embedding = file.get("embed_tokens.weight", (vocab, hidden)) if own else target.embedding_weight()
        super().__init__(config, read_layers(file, config, hidden), embedding, None)
        self.fc = nn.Parameter(weight, requires_grad=False)
        bias = config.options.get("bias", "fc.bias" in file)
        self.fc_bias = nn.Parameter(file.get("fc.bias", (hidden,)), requires_grad=False) if bias else None
        self.register_buffer("lm_head", target.head_weight().detach(), persistent=False)
        self._through_head: Callable[[Tensor], Tensor] = target.through_head

    def pack(self, *, eight_bits: bool = False) -> None:
        """See `FeatureHeads`; the head stays the target's, as the target holds it, but for a copy in 8 bits."""
        super().pack(eight_bits=eight_bits)
        if self.packed_bytes:
            self.register_buffer("lm_head", None, persistent=False)

    def ends(self, packed: PackedLinear) -> tuple[HeadFront, RmsNorm | None, CompiledMatrix]:
        """See `FeatureHeads`."""
        product = unscaled(packed.product(self.fc), self.fc_bias)
        assert isinstance(product, CompiledMatrix)
        self._through_head = judge = in_eight_bits(self.get_buffer("lm_head").float())
        self.packed_bytes += judge.nbytes
        return HeadFront("joined", product), None, judge

    def fuse(self, taps: Tensor) -> Tensor:
        """The feature is the target's state itself."""
        return taps.to(self.dtype)

    def advance(self, ids: Tensor, features: Tensor, through: Through) -> Tensor:
        """See `FeatureHeads`."""
        x = self.linear(self.embed_beside(ids, features), self.fc, self.fc_bias)
        for index, layer in enumerate(self.layers):
            x = through(index, layer.normed(x), x)
        return x

    def logits(self, features: Tensor) -> Tensor:
        """See `FeatureHeads`."""
        return self._through_head(features) if self.lm_head is None else F.linear(features, self.lm_head)

    def published(self) -> dict[str, Tensor]:
        """The tensors under their published names, without the embeddings, which are the target's."""
        tensors: dict[str, Tensor] = {"fc.weight": self.fc}
        if self.fc_bias is not None:
            tensors["fc.bias"] = self.fc_bias
        for index, layer in enumerate(self.layers):
            tensors |= layer.published(f"layers.{index}.")
        return tensors


def read_eagle(folder: Path, target: Runner) -> EagleHeads:
    """The heads in `folder`, for `target`, on its device and in its number format.

    Raises:
        ModelError: the file is missing or broken, a tensor is missing or does not fit; the text names it.
    """
    file = Checkpoint.read(folder, FILES, "EAGLE heads").renamed(lambda name: name.removeprefix("model."))
    if "d2t" in file or "midlayer.hidden_norm.weight" in file or "layers.0.hidden_norm.weight" in file:
        raise ModelError(f"{file.path} holds EAGLE-3 heads; name them with --eagle3")
    return EagleHeads(HeadConfig.read(folder), file, target).to(target.device, target.dtype)
