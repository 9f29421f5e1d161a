"""Folders of EAGLE and EAGLE-3 heads with random weights, in the layouts in which they are published; and what they
compute, said straightforwardly: no cache, one pair and one head at a time, in float64."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file

HIDDEN, VOCAB, HEADS, KV_HEADS, HEAD_DIM, INNER, EPS, LAYERS = 24, 50, 4, 2, 6, 40, 1e-5, 12
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "vocab_size": VOCAB,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "intermediate_size": INNER, "rms_norm_eps": EPS,
    "num_hidden_layers": 1, "max_position_embeddings": 64, "rope_theta": 5000.0, "hidden_act": "silu",
}  # fmt: skip


def randoms(shapes, seed=0):
    make = torch.Generator().manual_seed(seed)
    scale = {name: 1.0 if len(shape) == 1 else shape[-1] ** -0.5 for name, shape in shapes.items()}
    return {
        name: torch.randn(shape, generator=make, dtype=torch.float64) * scale[name] for name, shape in shapes.items()
    }


def target(hidden=HIDDEN, vocab=VOCAB, layers=LAYERS, dtype=torch.float64):
    """What heads need of a target."""
    made = randoms({"embedding": (vocab, hidden), "head": (vocab, hidden)}, seed=9)
    weights = {f"{name}_weight": (lambda tensor=tensor: tensor.to(dtype)) for name, tensor in made.items()}
    return SimpleNamespace(
        hidden_size=hidden,
        vocab_size=vocab,
        layers=layers,
        dtype=dtype,
        device=torch.device("cpu"),
        through_head=lambda states: states @ weights["head_weight"]().T,
        **weights,
    )


def layer_shapes(at, width, *, biased=False):
    shapes = {f"{at}self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM)}
    for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
        shapes[f"{at}self_attn.{name}_proj.weight"] = (heads * HEAD_DIM, width)
        if biased:
            shapes[f"{at}self_attn.{name}_proj.bias"] = (heads * HEAD_DIM,)
    shapes |= {f"{at}mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
    return shapes | {f"{at}mlp.down_proj.weight": (HIDDEN, INNER), f"{at}post_attention_layernorm.weight": (HIDDEN,)}


def eagle_tensors(*, bias=False, biased=False, input_norm=False, embeddings=False):
    shapes = {"fc.weight": (HIDDEN, 2 * HIDDEN), **layer_shapes("layers.0.", HIDDEN, biased=biased)}
    shapes |= {"fc.bias": (HIDDEN,)} if bias else {}
    shapes |= {"layers.0.input_layernorm.weight": (HIDDEN,)} if input_norm else {}
    return randoms(shapes | ({"embed_tokens.weight": (VOCAB, HIDDEN)} if embeddings else {}))


def eagle3_tensors(*, at="midlayer.", taps=3, hidden=HIDDEN, embeddings=False, draft_ids=None, norms=()):
    shapes = {"fc.weight": (HIDDEN, taps * hidden), **layer_shapes(at, 2 * HIDDEN)}
    shapes |= {f"{at}{name}.weight": (HIDDEN,) for name in ("hidden_norm", "input_layernorm")}
    shapes |= {"norm.weight": (HIDDEN,)}
    shapes |= {"lm_head.weight": (VOCAB if draft_ids is None else len(draft_ids), HIDDEN)}
    shapes |= {"embed_tokens.weight": (VOCAB, HIDDEN)} if embeddings else {}
    shapes |= {"input_norm.weight": (taps * hidden,)} if "norm_before_fc" in norms else {}
    shapes |= {f"fc_norm.{i}.weight": (hidden,) for i in range(taps)} if "fc_norm" in norms else {}
    tensors = randoms(shapes)
    if draft_ids is not None:
        ids = torch.tensor(draft_ids)
        used = torch.zeros(VOCAB, dtype=torch.bool)
        used[ids] = True
        tensors |= {"d2t": ids - torch.arange(len(ids)), "t2d": used}
    return tensors


def write(folder: Path, tensors, config, name="model.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".bin"):
        torch.save(tensors, folder / name)
    else:
        save_file({key: tensor.clone() for key, tensor in tensors.items()}, folder / name)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def norm(x, weight):
    return x / torch.sqrt((x * x).mean() + EPS) * weight


def _turned(x, position):
    """A query or key at its position: each pair (i, i + D / 2) is a complex number that is turned."""
    half = HEAD_DIM // 2
    turned = x.clone()
    for i in range(half):
        angle = torch.tensor(position * 5000.0 ** (-2 * i / HEAD_DIM), dtype=torch.float64)
        turned[i] = x[i] * angle.cos() - x[i + half] * angle.sin()
        turned[i + half] = x[i + half] * angle.cos() + x[i] * angle.sin()
    return turned


def _layer(tensors, at, inputs, residuals, positions, sees):
    """The layer for all pairs: pair i attends to the pairs sees[i]."""

    def project(name, x):
        bias = tensors.get(f"{at}self_attn.{name}_proj.bias", 0.0)
        return (tensors[f"{at}self_attn.{name}_proj.weight"] @ x + bias).view(-1, HEAD_DIM)

    keys = [[_turned(k, p) for k in project("k", x)] for x, p in zip(inputs, positions, strict=True)]
    values = [project("v", x) for x in inputs]
    found = []
    for i, x in enumerate(inputs):
        heads = []
        for h, q in enumerate(project("q", x)):
            own = h // (HEADS // KV_HEADS)
            query = _turned(q, positions[i])
            shares = torch.stack([query @ keys[j][own] / HEAD_DIM**0.5 for j in sees[i]]).softmax(0)
            heads.append(sum(share * values[j][own] for share, j in zip(shares, sees[i], strict=True)))
        y = residuals[i] + tensors[f"{at}self_attn.o_proj.weight"] @ torch.cat(heads)
        z = norm(y, tensors[f"{at}post_attention_layernorm.weight"])
        gate = tensors[f"{at}mlp.gate_proj.weight"] @ z
        inner = gate / (1 + torch.exp(-gate)) * (tensors[f"{at}mlp.up_proj.weight"] @ z)
        found.append(y + tensors[f"{at}mlp.down_proj.weight"] @ inner)
    return found


def eagle_forward(tensors, of, ids, features, positions, sees):
    """Logits and next features of EAGLE for pairs (ids[i], features[i])."""
    table = tensors.get("embed_tokens.weight", of.embedding_weight())
    streams = [
        tensors["fc.weight"] @ torch.cat([table[token], feature]) + tensors.get("fc.bias", 0.0)
        for token, feature in zip(ids, features, strict=True)
    ]
    before = tensors.get("layers.0.input_layernorm.weight")
    inputs = streams if before is None else [norm(x, before) for x in streams]
    found = _layer(tensors, "layers.0.", inputs, streams, positions, sees)
    return torch.stack([of.head_weight() @ f for f in found]), torch.stack(found)


def eagle3_fuse(tensors, states, taps, norms=()):
    """One feature, from the joined states of one token."""
    if "norm_before_fc" in norms:
        states = norm(states, tensors["input_norm.weight"])
    if "fc_norm" in norms:
        parts = states.split(len(states) // taps)
        states = torch.cat([norm(part, tensors[f"fc_norm.{i}.weight"]) for i, part in enumerate(parts)])
    return tensors["fc.weight"] @ states


def eagle3_forward(tensors, of, ids, features, positions, sees, *, at="midlayer.", norms=()):
    """Logits and next features of EAGLE-3 for pairs (ids[i], features[i])."""
    table = tensors["embed_tokens.weight"] if "embed_tokens.weight" in tensors else of.embedding_weight()
    normed = [norm(feature, tensors[f"{at}hidden_norm.weight"]) for feature in features]
    inputs = [
        torch.cat([norm(table[token], tensors[f"{at}input_layernorm.weight"]), state])
        for token, state in zip(ids, normed, strict=True)
    ]
    residuals = normed if "norm_before_residual" in norms else list(features)
    found = _layer(tensors, at, inputs, residuals, positions, sees)
    behind = [norm(y, tensors["norm.weight"]) for y in found]
    logits = torch.stack([tensors["lm_head.weight"] @ y for y in behind])
    return logits, torch.stack(behind if "norm_output" in norms else found)
