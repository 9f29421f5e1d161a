"""EAGLE and EAGLE-3 heads: every layout gives the same logits as the papers' formulas, whole, cached and as a tree."""

import pytest
import torch
from head_folders import (
    CONFIG,
    HIDDEN,
    LAYERS,
    VOCAB,
    eagle3_forward,
    eagle3_fuse,
    eagle3_tensors,
    eagle_forward,
    eagle_tensors,
    target,
    write,
)

from specterm.decoding.ports import FINAL_NORM, Block
from specterm.decoding.tree import Topology
from specterm.models.heads.eagle import read_eagle
from specterm.models.heads.eagle3 import default_taps, read_eagle3

TARGET = target()
MAKE = torch.Generator().manual_seed(3)
IDS = torch.randint(VOCAB, (2, 7), generator=MAKE)
PARENTS = torch.tensor([[-1, -1, 0, 1, 1]])  # below the root, pair 6: two, one below the first, two below the second
DEPTHS = [0, 1, 1, 2, 2, 2]


def states(taps, rows=2, length=7, hidden=HIDDEN):
    return torch.randn(rows, length, taps * hidden, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def agrees(heads, features, formula):
    """Whether whole sequences, continued ones and a tree come out as `formula(ids, features, positions, sees)`."""
    features = heads.fuse(features)
    heads.allocate(2, 32)
    chain = list(range(7))
    causal = [list(range(i + 1)) for i in chain]
    wanted = [formula(IDS[row], features[row], chain, causal) for row in range(2)]
    logits, following = heads(Block((0, 1), (0, 0), IDS, Topology.of_chain(6, heads.device)), features)
    torch.testing.assert_close(logits, torch.stack([w[0] for w in wanted]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(following, torch.stack([w[1] for w in wanted]), rtol=1e-6, atol=1e-6)

    # Row 1 up to pair 3, then the rest behind it with the logits of one pair; row 0 goes on from pair 5, in one batch.
    heads(Block((1,), (0,), IDS[1:, :4], Topology.of_chain(3, heads.device)), features[1:, :4])
    ids = torch.stack([IDS[0, 4:7], IDS[1, 4:7]])
    block = Block((0, 1), (4, 4), ids, Topology.of_chain(2, heads.device))
    logits, following = heads(block, features[:, 4:], last=[2, 1])
    torch.testing.assert_close(logits[0, 0], wanted[0][0][6], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits[1, 0], wanted[1][0][5], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(following[1], wanted[1][1][4:], rtol=1e-6, atol=1e-6)

    # The root at slot 6 and a tree below it: siblings share a position and see their own branch alone.
    topology = Topology.of_parents(PARENTS, 2)
    nodes = torch.tensor([[int(IDS[0, 6]), 3, 8, 13, 21, 34]])
    given = torch.cat([features[:1, 6:], torch.randn(1, 5, HIDDEN, generator=MAKE, dtype=torch.float64)], dim=1)
    root, _ = heads(Block((0,), (6,), nodes[:, :1], topology), given[:, :1])
    level, _ = heads(Block((0,), (6,), nodes[:, 1:3], topology, first=1), given[:, 1:3])
    deepest, _ = heads(Block((0,), (6,), nodes[:, 3:], topology, first=3), given[:, 3:])
    branch = {0: [6], 1: [6, 7], 2: [6, 8], 3: [6, 7, 9], 4: [6, 8, 10], 5: [6, 8, 11]}
    tree = formula(
        torch.cat([IDS[0, :6], nodes[0]]),
        torch.cat([features[0, :6], given[0]]),
        [*range(6), *(6 + depth for depth in DEPTHS)],
        [*causal[:6], *([*range(6), *branch[node]] for node in range(6))],
    )[0]
    torch.testing.assert_close(torch.cat([root, level, deepest], dim=1)[0], tree[6:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    "made",
    [{}, {"bias": True, "embeddings": True}, {"biased": True, "input_norm": True}],
    ids=["plain", "bias and embeddings", "qkv bias and input norm"],
)
def test_eagle(tmp_path, name, made):
    tensors = eagle_tensors(**made)
    heads = read_eagle(write(tmp_path, tensors, CONFIG, name), TARGET)
    assert (heads.taps, heads.hidden_size, heads.token_ids) == ((FINAL_NORM,), HIDDEN, None)
    assert (heads.dtype, heads.max_positions) == (torch.float64, 64)
    agrees(heads, states(1), lambda *pairs: eagle_forward(tensors, TARGET, *pairs))


def test_eagle_as_vllm_wraps_it(tmp_path):
    tensors = eagle_tensors()
    named = {name if name == "fc.weight" else f"model.{name}": tensor for name, tensor in tensors.items()}
    config = {"model_type": "eagle", "architectures": ["EagleLlamaForCausalLM"], "model": CONFIG}
    heads = read_eagle(write(tmp_path, named, config), TARGET)
    agrees(heads, states(1), lambda *pairs: eagle_forward(tensors, TARGET, *pairs))


DRAFT_IDS = [0, 2, 3, 11, 19, 30, 49]


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("at", ["midlayer.", "layers.0.", "model.layers.0."])
@pytest.mark.parametrize("embeddings", [False, True], ids=["target's embeddings", "own embeddings"])
@pytest.mark.parametrize("norms", [(), ("norm_before_residual",)], ids=["residual", "normed residual"])
def test_eagle3(tmp_path, name, at, embeddings, norms):
    tensors = eagle3_tensors(at=at, embeddings=embeddings, draft_ids=DRAFT_IDS)
    config = CONFIG | {"draft_vocab_size": len(DRAFT_IDS)} | dict.fromkeys(norms, True)
    heads = read_eagle3(write(tmp_path, tensors, config, name), TARGET)
    assert heads.taps == (2, LAYERS // 2, LAYERS - 3)
    assert heads.token_ids.tolist() == DRAFT_IDS
    agrees(heads, states(3), lambda *pairs: eagle3_forward(tensors, TARGET, *pairs, at=at, norms=norms))


def test_eagle3_as_speculators_wraps_it(tmp_path):
    norms = ("norm_before_residual", "norm_before_fc", "norm_output")
    tensors = eagle3_tensors(at="layers.0.", draft_ids=DRAFT_IDS, norms=norms, taps=2)
    config = {
        "model_type": "speculators", "speculators_model_type": "eagle3", "draft_vocab_size": len(DRAFT_IDS),
        "eagle_aux_hidden_state_layer_ids": [1, 9], "target_hidden_size": None, "transformer_layer_config": CONFIG,
        **dict.fromkeys(norms, True),
    }  # fmt: skip
    heads = read_eagle3(write(tmp_path, tensors, config), TARGET)
    assert heads.taps == (1, 9)
    fused = torch.stack([eagle3_fuse(tensors, state, 2, norms) for state in states(2)[0]])
    torch.testing.assert_close(heads.fuse(states(2))[0], fused)
    agrees(heads, states(2), lambda *pairs: eagle3_forward(tensors, TARGET, *pairs, at="layers.0.", norms=norms))


def test_eagle3_of_a_wider_target_with_the_whole_vocabulary(tmp_path):
    """Own embeddings of the heads' size, each state normed, no d2t: draft ids are the target's."""
    wider, norms = target(hidden=36), ("fc_norm",)
    tensors = eagle3_tensors(embeddings=True, hidden=36, norms=norms)
    eagle_config = {"eagle_aux_hidden_state_layer_ids": [0, 4, 11], "use_aux_hidden_state": True}
    config = CONFIG | {"fc_norm": True, "target_hidden_size": 36, "eagle_config": eagle_config}
    heads = read_eagle3(write(tmp_path, tensors, config), wider)
    assert heads.taps == (0, 4, 11)
    assert heads.token_ids is None
    given = states(3, hidden=36)
    fused = torch.stack([eagle3_fuse(tensors, state, 3, norms) for state in given[0]])
    torch.testing.assert_close(heads.fuse(given)[0], fused)
    agrees(heads, given, lambda *pairs: eagle3_forward(tensors, wider, *pairs))


@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
def test_what_is_published_can_be_read(tmp_path, kind):
    draft = {"draft_vocab_size": len(DRAFT_IDS)} if kind == "eagle3" else {}
    tensors = eagle_tensors(bias=True) if kind == "eagle" else eagle3_tensors(draft_ids=DRAFT_IDS)
    read = read_eagle if kind == "eagle" else read_eagle3
    published = read(write(tmp_path / "one", tensors, CONFIG | draft), TARGET).published()
    assert published.keys() == tensors.keys()
    assert all(torch.equal(published[name], tensor) for name, tensor in tensors.items())


def test_default_taps_are_distinct_and_ascend():
    assert default_taps(32) == (2, 16, 29)
    assert default_taps(6) == (2, 4, 5)
    for layers in range(1, 100):
        taps = default_taps(layers)
        assert list(taps) == sorted(set(taps))
        assert set(taps) <= set(range(layers))
        assert len(taps) == 3 or layers <= 3


def test_more_layers_than_one(tmp_path):
    """A second layer whose output projections are 0 changes nothing; it has a cache of its own."""
    tensors = eagle_tensors()
    second = {
        name.replace("layers.0.", "layers.1."): torch.zeros_like(t) if "o_proj" in name or "down_proj" in name else t
        for name, t in tensors.items()
        if name.startswith("layers.0.")
    }
    second["layers.1.input_layernorm.weight"] = torch.ones(HIDDEN, dtype=torch.float64)
    heads = read_eagle(write(tmp_path, tensors | second, CONFIG), TARGET)
    agrees(heads, states(1), lambda *pairs: eagle_forward(tensors, TARGET, *pairs))
    assert heads.cache.layers() == [0, 1]
