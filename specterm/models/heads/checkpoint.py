"""Reading the checkpoint of heads: tensors of one file or of the shards of one, every shape checked, and errors that
name tensor and sizes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from specterm.errors import ModelError, one_line
from specterm.models.weights import weight_files


class Checkpoint:
    """The tensors of the heads in one file, under the names that it gives them."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """`path` is what errors say that the tensors come from."""
        self.path, self._tensors = path, tensors

    @staticmethod
    def read(folder: Path, names: Sequence[str], noun: str) -> Checkpoint:
        """The first of the files `names` that `folder` has: safetensors, or a pickle of tensors alone; where it has
        none, the shards that its model.safetensors.index.json names.

        Raises:
            ModelError: there is none ("the folder holds no `noun`"), or it cannot be read.
        """
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is not None:
            return Checkpoint(path, _read(path))
        if shards := weight_files(folder):
            return Checkpoint(folder, {name: tensor for shard in shards for name, tensor in _read(shard).items()})
        raise ModelError(f"the folder {folder} holds no {noun}: it has no {names[0]} and no {names[1]}")

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def names(self) -> Iterable[str]:
        """The names of all tensors."""
        return self._tensors.keys()

    def renamed(self, rename: Callable[[str], str]) -> Checkpoint:
        """The same tensors under the names that `rename` gives them."""
        return Checkpoint(self.path, {rename(name): tensor for name, tensor in self._tensors.items()})

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor that is there."""
        return tuple(self._tensors[name].shape)

    def integers(self, name: str) -> Tensor:
        """A tensor of whole numbers, int64.

        Raises:
            ModelError: it is not there.
        """
        return self._named(name).long()

    def get(self, name: str, shape: tuple[int, ...], wanted_by: str = "the target needs") -> Tensor:
        """A weight of exactly `shape`, float32 (float64 stays).

        Raises:
            ModelError: it is not there or has another shape; the text names it and both sizes.
        """
        tensor = self._named(name)
        if tuple(tensor.shape) != shape:
            raise ModelError(f"{name} in {self.path} has shape {tuple(tensor.shape)}; {wanted_by} {shape}")
        return tensor if tensor.dtype == torch.float64 else tensor.float()

    def _named(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise ModelError(f"the heads in {self.path} have no tensor {name}")
        return self._tensors[name]


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
