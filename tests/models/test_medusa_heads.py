"""Medusa heads: every layout gives the same logits as the formula of the paper; what does not fit is named."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from specterm.errors import ModelError
from specterm.models.heads.medusa import MedusaHeads, read_medusa

HIDDEN, VOCAB, HEADS = 16, 40, 3


def published(layers=1, seed=0):
    make = torch.Generator().manual_seed(seed)
    tensors = {}
    for head in range(HEADS):
        for layer in range(layers):
            tensors[f"{head}.{layer}.linear.weight"] = torch.randn(HIDDEN, HIDDEN, generator=make)
            tensors[f"{head}.{layer}.linear.bias"] = torch.randn(HIDDEN, generator=make)
        tensors[f"{head}.{layers}.weight"] = torch.randn(VOCAB, HIDDEN, generator=make)
    return tensors


def converted(tensors):
    renamed = {}
    for name, tensor in tensors.items():
        head, layer, *rest = name.split(".")
        own = f"blocks.{head}.layers.{layer}.{rest[-1]}" if rest[0] == "linear" else f"lm_heads.{head}.weight"
        renamed[own] = tensor
    return renamed


def expected(tensors, states, layers=1):
    """One head, one state at a time, as the reference implementation says it."""
    rows = []
    for head in range(HEADS):
        found = []
        for x in states:
            for layer in range(layers):
                y = tensors[f"{head}.{layer}.linear.weight"] @ x + tensors[f"{head}.{layer}.linear.bias"]
                x = x + y / (1 + torch.exp(-y))
            found.append(tensors[f"{head}.{layers}.weight"] @ x)
        rows.append(torch.stack(found))
    return torch.stack(rows)


def write(folder, tensors, name="medusa_lm_head.safetensors"):
    folder.mkdir(exist_ok=True)
    if name.endswith(".safetensors"):
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name)
    else:
        torch.save(tensors, folder / name)
    return folder


def read(folder, hidden=HIDDEN, vocab=VOCAB):
    target = SimpleNamespace(hidden_size=hidden, vocab_size=vocab, device=torch.device("cpu"), dtype=torch.float32)
    return read_medusa(folder, target)


STATES = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("name", ["medusa_lm_head.pt", "medusa_lm_head.safetensors"])
@pytest.mark.parametrize("layers", [1, 2])
def test_published_layout(tmp_path, name, layers):
    heads = read(write(tmp_path, published(layers), name))
    assert heads.heads == HEADS
    torch.testing.assert_close(heads(STATES), expected(published(layers), STATES, layers), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "medusa_heads."])
def test_converted_layout(tmp_path, prefix):
    tensors = {prefix + name: tensor for name, tensor in converted(published()).items()}
    heads = read(write(tmp_path, tensors, "model.safetensors"))
    torch.testing.assert_close(heads(STATES), expected(published(), STATES), rtol=1e-4, atol=1e-4)


def test_converted_layout_without_biases_and_with_one_projection(tmp_path):
    tensors = converted(published())
    kept = {name: t for name, t in tensors.items() if not name.endswith("bias") and name[:10] != "lm_heads.1"}
    del kept["lm_heads.2.weight"]
    same = published()
    for head in range(HEADS):
        same[f"{head}.0.linear.bias"] = torch.zeros(HIDDEN)
        same[f"{head}.1.weight"] = same["0.1.weight"]
    heads = read(write(tmp_path, kept, "model.safetensors"))
    torch.testing.assert_close(heads(STATES), expected(same, STATES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cut", [False, True], ids=["whole projection", "cut projection"])
def test_truncated_vocabulary(tmp_path, cut):
    ids = torch.tensor([3, 1, 20, 39])
    tensors = converted(published()) | {"token_map": ids}
    if cut:
        for head in range(HEADS):
            tensors[f"lm_heads.{head}.weight"] = tensors[f"lm_heads.{head}.weight"][ids]
    heads = read(write(tmp_path, tensors, "model.safetensors"))
    assert heads.token_ids.tolist() == ids.tolist()
    torch.testing.assert_close(heads(STATES), expected(published(), STATES)[..., ids], rtol=1e-4, atol=1e-4)


def test_what_is_written_can_be_read(tmp_path):
    lm_head = torch.randn(VOCAB, HIDDEN)
    made = MedusaHeads.untrained(lm_head, HEADS)
    heads = read(write(tmp_path, made.published()))
    torch.testing.assert_close(heads(STATES), (STATES @ lm_head.T).expand(HEADS, -1, -1), rtol=2e-2, atol=5e-2)


def test_what_does_not_fit_is_named(tmp_path):
    folder = write(tmp_path / "heads", published())
    with pytest.raises(ModelError, match=r"0\.0\.linear\.weight in .* \(16, 16\); the target needs \(32, 32\)"):
        read(folder, hidden=32)
    with pytest.raises(ModelError, match=r"0\.1\.weight in .* \(40, 16\); the target needs \(41, 16\)"):
        read(folder, vocab=41)
    for missing in ("1.0.linear.weight", "2.0.linear.bias", "1.1.weight"):
        partial = {name: t for name, t in published().items() if name != missing}
        with pytest.raises(ModelError, match=f"no tensor {missing}"):
            read(write(tmp_path / missing, partial))
    with pytest.raises(ModelError, match=r"token_map .* ids up to 40; the target has 40 tokens"):
        read(write(tmp_path / "map", converted(published()) | {"token_map": torch.tensor([0, 40])}))
    with pytest.raises(ModelError, match=r"neither 0\.0\.linear\.weight nor blocks\.0\.layers\.0\.weight"):
        read(write(tmp_path / "other", {"weight": torch.zeros(2)}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no Medusa heads: it has no medusa_lm_head\.safetensors"):
        read(tmp_path / "empty")


@pytest.mark.parametrize("name", ["medusa_lm_head.pt", "medusa_lm_head.safetensors"])
@pytest.mark.parametrize("kept", [0, 9, 2000])
def test_a_truncated_file(tmp_path, name, kept):
    path = write(tmp_path, published(), name) / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=f"{name} cannot be read: .+; fetch them again"):
        read(tmp_path)


def test_a_pickle_that_is_no_dictionary_of_tensors(tmp_path):
    torch.save([1, 2], tmp_path / "medusa_lm_head.pt")
    with pytest.raises(ModelError, match="holds no dictionary of tensors"):
        read(tmp_path)
