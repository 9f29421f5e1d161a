"""The weight files of a model folder: safetensors, in one piece or in shards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from specterm.errors import ModelError
from specterm.models.folders import read_json

ReadTensor: TypeAlias = Callable[[str, tuple[int, ...]], Tensor]
_SUFFIXES = (".safetensors", ".bin", ".pt")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the model in `folder`; none where its weights have another format.

    Raises:
        ModelError: the index of a sharded model is unreadable, or a shard is missing.
    """
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(shard, str) for shard in where.values()):
        raise ModelError(f"{index} has no weight_map of tensors and files")
    files = [folder / shard for shard in sorted(set(where.values()))]
    for path in files:
        if not path.is_file():
            raise ModelError(f"{path} is missing, and {index.name} names it; fetch the model again")
    return files


def weight_file_bytes(folder: Path) -> int:
    """Bytes of the weights in `folder` as they are stored, whatever their format.

    Raises:
        ModelError: see `weight_files`.
    """
    files = weight_files(folder) or [path for path in folder.iterdir() if path.suffix in _SUFFIXES]
    return sum(path.stat().st_size for path in files)


def open_weights(folder: Path, device: torch.device) -> list[Any]:
    """The weight files of `folder`, opened: what is read of them goes to `device`.

    Raises:
        ModelError: a file is missing, cut short or no safetensors; the text names it.
    """
    from safetensors import SafetensorError, safe_open

    files = []
    for path in weight_files(folder):
        try:
            files.append(safe_open(path, framework="pt", device=str(device)))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"the weights {path} cannot be read: {error}; fetch the model again") from None
    return files


def tensor_reader(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    read_bytes: Callable[[int], None] = lambda count: None,
    first_rows: Mapping[str, int] | None = None,
) -> ReadTensor:
    """A function that reads one tensor by name and checks its shape; a tensor is never held twice. `read_bytes` is told
    the size of each as it is stored. first_rows: tensors of which only so many rows are read.

    Raises:
        ModelError: see `open_weights`; from the function, when the tensor is missing or has another shape.
    """
    where = {name: file for file in open_weights(folder, device) for name in file.keys()}  # noqa: SIM118  (no mapping)

    def read(name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in where:
            raise ModelError(f"the weights in {folder} have no tensor {name}")
        rows = None if first_rows is None else first_rows.get(name)
        tensor: Tensor = where[name].get_tensor(name) if rows is None else where[name].get_slice(name)[:rows]
        if tuple(tensor.shape) != shape:
            raise ModelError(f"{name} in {folder} has shape {tuple(tensor.shape)}; the config says {shape}")
        read_bytes(tensor.numel() * tensor.element_size())
        return tensor.to(dtype)

    return read
