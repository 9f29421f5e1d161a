"""Medusa heads (Cai et al. 2024, arXiv 2401.10774): the module, and the two layouts in which they are published.

Head i reads x, the target's hidden state at token t behind the final norm, and predicts token t + 2 + i (the target's
own head predicts t + 1): logits = lm_head_i(r(x)), where every layer of r is x + SiLU(W x + b).

Layouts: `medusa_lm_head.pt` or `.safetensors` with `{head}.{layer}.linear.weight` and `{head}.{layers}.weight`; and
the one converted for vLLM with `blocks.{head}.layers.{layer}.weight` and `lm_heads.{head}.weight`. How many heads and
layers there are is read from the tensors: published configs are wrong about it.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specterm.decoding.ports import Runner
from specterm.errors import ModelError, one_line

FILES = ("medusa_lm_head.safetensors", "medusa_lm_head.pt", "model.safetensors", "pytorch_model.bin")
_PREFIX = re.compile(r"^medusa_heads?\.")
_PUBLISHED = re.compile(r"(\d+)\.(\d+)\.linear\.weight")
_CONVERTED = re.compile(r"blocks\.(\d+)\.layers\.(\d+)\.weight")


class MedusaHeads(nn.Module):
    """All heads of one target, stacked, so that one batched product serves every head and row.

    weight: [layers, heads, hidden, hidden]; bias: [layers, heads, hidden]; lm_heads: [heads, W, hidden], where W is the
    size of the vocabulary or of `token_ids`, int64 [W], the target's ids of a truncated one.
    """

    token_ids: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor, lm_heads: Tensor, token_ids: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.lm_heads = nn.Parameter(lm_heads, requires_grad=False)
        self.register_buffer("token_ids", token_ids)

    @staticmethod
    def untrained(lm_head: Tensor, heads: int, layers: int = 1) -> MedusaHeads:
        """Heads that predict what the target's own head, [V, hidden], predicts for the next token: W and b are 0."""
        hidden = lm_head.shape[1]
        return MedusaHeads(
            lm_head.new_zeros((layers, heads, hidden, hidden)),
            lm_head.new_zeros((layers, heads, hidden)),
            lm_head.expand(heads, -1, -1).clone(),
        )

    @property
    def heads(self) -> int:
        """How many tokens ahead they see, beyond the target's own."""
        return self.lm_heads.shape[0]

    @property
    def hidden_size(self) -> int:
        """The width of the hidden states that they read."""
        return self.lm_heads.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return self.lm_heads.dtype

    def forward(self, states: Tensor) -> Tensor:
        """Logits [heads, N, W] from hidden states [N, hidden]."""
        x = states.expand(self.heads, -1, -1)
        for weight, bias in zip(self.weight, self.bias, strict=True):
            x = x + F.silu(torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2)))
        return torch.bmm(x, self.lm_heads.transpose(1, 2))

    def published(self) -> dict[str, Tensor]:
        """The tensors under their published names, in bfloat16."""
        tensors = {}
        layers = self.weight.shape[0]
        for head in range(self.heads):
            for layer in range(layers):
                tensors[f"{head}.{layer}.linear.weight"] = self.weight[layer, head]
                tensors[f"{head}.{layer}.linear.bias"] = self.bias[layer, head]
            tensors[f"{head}.{layers}.weight"] = self.lm_heads[head]
        return {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in tensors.items()}


def read_medusa(folder: Path, target: Runner) -> MedusaHeads:
    """The heads in `folder`, for `target`, on its device and in its number format.

    Raises:
        ModelError: the file is missing or broken, a tensor is missing or does not fit the target; the text names it.
    """
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise ModelError(f"the folder {folder} holds no Medusa heads: it has no {FILES[0]} and no {FILES[1]}")
    tensors = {_PREFIX.sub("", name): tensor for name, tensor in _read(path).items()}
    heads = _Checkpoint(path, tensors, target.hidden_size, target.vocab_size).heads()
    return heads.to(target.device, target.dtype)


def _read(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        raise ModelError(f"the heads {path} cannot be read: {one_line(error)}; fetch them again") from None
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise ModelError(f"{path} holds no dictionary of tensors")
    return loaded


class _Checkpoint:
    """The tensors of one file, with every shape checked against the target."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor], hidden: int, vocab: int) -> None:
        self._path, self._tensors = path, tensors
        self._hidden, self._vocab = hidden, vocab

    def heads(self) -> MedusaHeads:
        """The heads, whichever the layout."""
        if found := self._numbered(_PUBLISHED):
            heads, layers = found
            names = [[f"{head}.{layer}.linear" for head in range(heads)] for layer in range(layers)]
            return MedusaHeads(
                torch.stack([torch.stack([self._square(f"{name}.weight") for name in row]) for row in names]),
                torch.stack([torch.stack([self._get(f"{n}.bias", (self._hidden,)) for n in row]) for row in names]),
                torch.stack([self._lm_head(f"{head}.{layers}.weight", None) for head in range(heads)]),
            )
        if found := self._numbered(_CONVERTED):
            heads, layers = found
            names = [[f"blocks.{head}.layers.{layer}" for head in range(heads)] for layer in range(layers)]
            token_ids = self._token_map()
            return MedusaHeads(
                torch.stack([torch.stack([self._square(f"{name}.weight") for name in row]) for row in names]),
                torch.stack([torch.stack([self._bias(f"{name}.bias") for name in row]) for row in names]),
                torch.stack([self._lm_head(self._lm_name(head), token_ids) for head in range(heads)]),
                token_ids,
            )
        raise ModelError(
            f"{self._path} holds no Medusa heads: it has neither 0.0.linear.weight nor blocks.0.layers.0.weight"
        )

    def _numbered(self, pattern: re.Pattern[str]) -> tuple[int, int] | None:
        """Heads and layers, from the highest numbers of the names that match; a gap shows as a missing tensor."""
        found = [match for name in self._tensors if (match := pattern.fullmatch(name))]
        if not found:
            return None
        return 1 + max(int(match[1]) for match in found), 1 + max(int(match[2]) for match in found)

    def _lm_name(self, head: int) -> str:
        """The name of a head's projection in the converted layout; where there is but one, it serves all heads."""
        found = [name for name in self._tensors if name.startswith(("lm_heads.", "lm_head."))]
        return found[0] if found in (["lm_head.weight"], ["lm_heads.0.weight"]) else f"lm_heads.{head}.weight"

    def _lm_head(self, name: str, token_ids: Tensor | None) -> Tensor:
        full = (self._vocab, self._hidden)
        if token_ids is None:
            return self._get(name, full)
        whole = name in self._tensors and self._tensors[name].shape[0] != len(token_ids)
        return self._get(name, full)[token_ids] if whole else self._get(name, (len(token_ids), self._hidden))

    def _token_map(self) -> Tensor | None:
        if "token_map" not in self._tensors:
            return None
        ids = self._tensors["token_map"].long()
        if ids.ndim != 1 or not len(ids) or int(ids.min()) < 0 or int(ids.max()) >= self._vocab:
            raise ModelError(
                f"token_map in {self._path} has shape {tuple(ids.shape)} and ids up to "
                f"{int(ids.max()) if ids.numel() else 'none'}; the target has {self._vocab} tokens"
            )
        return ids

    def _square(self, name: str) -> Tensor:
        return self._get(name, (self._hidden, self._hidden))

    def _bias(self, name: str) -> Tensor:
        """The converted layout leaves out biases of 0."""
        return self._get(name, (self._hidden,)) if name in self._tensors else torch.zeros(self._hidden)

    def _get(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in self._tensors:
            raise ModelError(f"the heads in {self._path} have no tensor {name}")
        tensor = self._tensors[name]
        if tuple(tensor.shape) != shape:
            raise ModelError(f"{name} in {self._path} has shape {tuple(tensor.shape)}; the target needs {shape}")
        return tensor.float() if tensor.dtype != torch.float64 else tensor
