"""MLP speculators: the published layout gives the logits of the paper's formula; what does not fit is named."""

import json
from math import erf, sqrt
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from specterm.errors import ModelError
from specterm.models.heads.mlp import MLPSpeculator, read_mlp

HIDDEN, INNER, VOCAB, LEVELS = 16, 12, 40, 3
CONFIG = {"emb_dim": HIDDEN, "inner_dim": INNER, "n_predict": LEVELS, "vocab_size": VOCAB}
STATES = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(7)).double()
IDS = torch.tensor([[3, 9, 0], [1, 1, 39], [20, 8, 2], [7, 30, 4], [5, 6, 11]])


def published(tied, inner=INNER, levels=LEVELS):
    make = torch.Generator().manual_seed(1)
    tensors = {}
    for level in range(levels):
        width = inner if level else HIDDEN
        shapes = {"emb": (VOCAB, inner), "proj": (inner, width), "ln": (inner,), "head": (VOCAB, inner)}
        for kind, shape in shapes.items():
            if not tied or level <= (kind == "proj"):
                tensors[f"speculator.{kind}.{level}.weight"] = torch.randn(shape, generator=make)
        if not tied or level == 0:
            tensors[f"speculator.ln.{level}.bias"] = torch.randn(inner, generator=make)
    return tensors


def expected(tensors, tied, scaled, inner=INNER, levels=LEVELS):
    """One state at a time, number by number, as the reference implementation says it: [5, levels, VOCAB]."""

    def weight(kind, level, what="weight"):
        kept = min(level, 1 if kind == "proj" else 0) if tied else level
        return tensors[f"speculator.{kind}.{kept}.{what}"].double()

    def normalised(x):
        return x / sqrt(sum(float(v) ** 2 for v in x) / len(x) + 1e-6)

    state_weight = 0.5 ** (0.5 / levels)
    token_weight = sqrt((1 - state_weight**2) * inner / 2)
    rows = []
    for state, ids in zip(STATES, IDS):
        state, found = normalised(state) / sqrt(2) if scaled else state, []
        for level in range(levels):
            mixed = weight("proj", level) @ state * state_weight + weight("emb", level)[ids[level]] * token_weight
            mixed = weight("ln", level) * normalised(mixed) + weight("ln", level, "bias")
            state = torch.tensor([float(v) * (1 + erf(float(v) / sqrt(2))) / 2 for v in mixed]).double()
            found.append(weight("head", level) @ state)
        rows.append(torch.stack(found))
    return torch.stack(rows)


def write(folder, tensors, name="model.safetensors", **config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    if name.endswith(".safetensors"):
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name)
    else:
        torch.save(tensors, folder / name)
    return folder


def read(folder, hidden=HIDDEN, vocab=VOCAB):
    target = SimpleNamespace(hidden_size=hidden, vocab_size=vocab, device=torch.device("cpu"), dtype=torch.float64)
    return read_mlp(folder, target)


def logits(speculator):
    states, found = speculator.begin(STATES), []
    for level in range(speculator.levels):
        said, states = speculator(states, IDS[:, level], level)
        found.append(said)
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("scaled", [False, True], ids=["as it is", "scaled"])
def test_published_layout(tmp_path, name, tied, scaled):
    tensors = published(tied)
    speculator = read(write(tmp_path, tensors, name, tie_weights=tied, scale_input=scaled))
    assert speculator.levels == LEVELS
    torch.testing.assert_close(logits(speculator), expected(tensors, tied, scaled), rtol=1e-6, atol=1e-6)


def test_tied_weights_may_be_stored_for_every_level(tmp_path):
    tensors = published(True)
    repeated = tensors | {
        f"speculator.{kind}.{level}.{what}": tensors[f"speculator.{kind}.{int(kind == 'proj')}.{what}"].clone()
        for level in (1, 2)
        for kind, what in (("emb", "weight"), ("proj", "weight"), ("ln", "weight"), ("ln", "bias"), ("head", "weight"))
    }
    speculator = read(write(tmp_path, repeated, tie_weights=True))
    torch.testing.assert_close(logits(speculator), expected(tensors, True, False), rtol=1e-6, atol=1e-6)


def test_an_inner_size_of_zero_is_the_targets(tmp_path):
    tensors = published(False, inner=HIDDEN)
    speculator = read(write(tmp_path, tensors, inner_dim=0))
    wanted = expected(tensors, False, False, inner=HIDDEN)
    torch.testing.assert_close(logits(speculator), wanted, rtol=1e-6, atol=1e-6)


def test_shards(tmp_path):
    """As the largest are published."""
    tensors = published(False)
    shards = {name: f"model-0000{1 + ('head' in name)}-of-00002.safetensors" for name in tensors}
    for shard in set(shards.values()):
        write(tmp_path, {name: tensor for name, tensor in tensors.items() if shards[name] == shard}, shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    torch.testing.assert_close(logits(read(tmp_path)), expected(tensors, False, False), rtol=1e-6, atol=1e-6)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        read(tmp_path)


def test_what_is_written_can_be_read(tmp_path):
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(2, VOCAB, HIDDEN, generator=generator)
    made = MLPSpeculator.untrained(*weights, INNER, LEVELS)
    speculator = read(write(tmp_path, made.published(), tie_weights=True, scale_input=True))
    torch.testing.assert_close(logits(speculator), logits(made.double()), rtol=5e-2, atol=5e-2)


def test_what_does_not_fit_is_named(tmp_path):
    folder = write(tmp_path / "whole", published(False))
    with pytest.raises(ModelError, match=r"emb_dim of the MLP speculator in .* is 16; the target's is 32"):
        read(folder, hidden=32)
    with pytest.raises(ModelError, match=r"vocab_size of the MLP speculator in .* is 40; the target's is 41"):
        read(folder, vocab=41)
    write(folder, published(False), inner_dim=13)
    with pytest.raises(ModelError, match=r"emb\.0\.weight in .* has shape \(40, 12\); .* need \(40, 13\)"):
        read(folder)
    write(folder, published(False), n_predict=4)
    with pytest.raises(ModelError, match=r"no tensor emb\.3\.weight"):
        read(folder)
    write(folder, published(False), n_predict="three")
    with pytest.raises(ModelError, match=r"config\.json in .* says that n_predict is 'three'; it must be a number"):
        read(folder)
    for missing in ("emb.1.weight", "proj.2.weight", "ln.0.weight", "ln.2.bias", "head.1.weight"):
        partial = {name: tensor for name, tensor in published(False).items() if name != f"speculator.{missing}"}
        with pytest.raises(ModelError, match=f"no tensor {missing}"):
            read(write(tmp_path / missing, partial))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no MLP speculator: it has no model\.safetensors"):
        read(tmp_path / "empty")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kept", [0, 9, 2000])
def test_a_cut_file(tmp_path, name, kept):
    path = write(tmp_path, published(False), name) / name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=f"{name} cannot be read: .+; fetch them again"):
        read(tmp_path)
