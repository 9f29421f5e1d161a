"""Heads that do not fit, or are broken: the error names the tensor and the two sizes."""

import json

import pytest
import torch
from head_folders import CONFIG, HIDDEN, VOCAB, eagle3_tensors, eagle_tensors, target, write

from specterm.errors import ExitCode, ModelError
from specterm.models.heads.eagle import read_eagle
from specterm.models.heads.eagle3 import read_eagle3

DRAFT_IDS = [1, 4, 9, 16, 25]
CONFIG3 = CONFIG | {"draft_vocab_size": 5}


def folder(tmp_path, kind, changes=None, config=None):
    """A folder of either kind with tensors added, or left out where a change is None."""
    tensors = eagle_tensors(embeddings=True) if kind == "eagle" else eagle3_tensors(draft_ids=DRAFT_IDS)
    tensors = {name: t for name, t in (tensors | (changes or {})).items() if t is not None}
    return write(tmp_path, tensors, (CONFIG if kind == "eagle" else CONFIG3) | (config or {}))


def refused(kind, path, said, **of):
    with pytest.raises(ModelError, match=said) as caught:
        (read_eagle if kind == "eagle" else read_eagle3)(path, target(**of))
    assert caught.value.exit_code == ExitCode.UNAVAILABLE
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "of", "said"),
    [
        ("eagle", {"hidden": 32}, r"fc\.weight in .* has shape \(24, 48\); the target needs \(32, 64\)"),
        ("eagle3", {"hidden": 32}, r"fc\.weight in .* has shape \(24, 72\); the target needs \(24, 96\)"),
        ("eagle", {"vocab": 51}, r"embed_tokens\.weight in .* has shape \(50, 24\); the target needs \(51, 24\)"),
        ("eagle3", {"vocab": 51}, r"t2d in .* has shape \(50,\); the target needs \(51,\)"),
    ],
)
def test_a_target_of_another_size(tmp_path, kind, of, said):
    refused(kind, folder(tmp_path, kind), said, **of)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("eagle", "fc.weight"),
        ("eagle", "layers.0.self_attn.k_proj.weight"),
        ("eagle", "layers.0.post_attention_layernorm.weight"),
        ("eagle3", "fc.weight"),
        ("eagle3", "d2t"),
        ("eagle3", "lm_head.weight"),
        ("eagle3", "norm.weight"),
        ("eagle3", "midlayer.hidden_norm.weight"),
    ],
)
def test_a_missing_tensor(tmp_path, kind, name):
    path = folder(tmp_path, kind, {name: None})
    refused(kind, path, f"have no tensor {name.replace('midlayer', 'layers.0')}$")


def test_embeddings_are_missing_where_the_targets_are_of_another_size(tmp_path):
    wide = torch.zeros(HIDDEN, 3 * 32, dtype=torch.float64)
    refused("eagle3", folder(tmp_path, "eagle3", {"fc.weight": wide}), "no tensor embed_tokens.weight", hidden=32)


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ([1, 3, 7, 13, 46], r"d2t in .* leads to 5 ids from 1 to 50; they must be 5 of the target's 50 tokens"),
        ([1, 0, 7, 13, 21], r"d2t in .* leads to 4 ids from 1 to 25; they must be 5 of the target's 50 tokens"),
        ([1, 3, 7], r"d2t in .* has shape \(3,\); the config says \(5,\)"),
    ],
    ids=["out of range", "twice the same", "too few"],
)
def test_a_draft_vocabulary_that_is_not_the_targets(tmp_path, offsets, said):
    refused("eagle3", folder(tmp_path, "eagle3", {"d2t": torch.tensor(offsets)}), said)


def test_layers_that_are_not_as_the_config_says(tmp_path):
    wrong = {"num_key_value_heads": 4}
    said = r"layers\.0\.self_attn\.k_proj\.weight in .* has shape \(12, 24\); the config says \(24, 24\)"
    refused("eagle", folder(tmp_path / "one", "eagle", config=wrong), said)
    said = r"lm_head\.weight in .* has shape \(5, 24\); the config says \(50, 24\)"
    refused("eagle3", folder(tmp_path / "two", "eagle3", config={"draft_vocab_size": VOCAB}), said)
    said = r"layer_ids in .* are \[1, 12\]; the target has 12 layers"
    taps = {"eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 12]}}
    refused("eagle3", folder(tmp_path / "three", "eagle3", config=taps), said)


def test_the_other_kind_names_the_right_flag(tmp_path):
    refused("eagle", folder(tmp_path / "three", "eagle3"), "holds EAGLE-3 heads; name them with --eagle3")
    refused("eagle3", folder(tmp_path / "one", "eagle"), "holds EAGLE heads; name them with --eagle")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"hidden_act": "gelu"}, "want hidden_act 'gelu', which specterm does not know"),
        ({"layer_types": ["sliding_attention"]}, "want layer_types 'sliding_attention'"),
        ({"num_attention_heads": None}, "num_attention_heads None; the heads need a whole number"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rotary embeddings of a kind not known here: .*yarn"),
        ({"use_aux_hidden_state": False}, "want use_aux_hidden_state False"),
    ],
)
def test_a_config_that_is_not_known(tmp_path, config, said):
    refused("eagle3", folder(tmp_path, "eagle3", config=config), said)


@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
@pytest.mark.parametrize("kept", [0, 9, 2000])
def test_a_truncated_file(tmp_path, kind, kept):
    path = folder(tmp_path, kind)
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    refused(kind, path, r"model\.safetensors cannot be read: .+; fetch them again")


def test_folders_without_heads_or_config(tmp_path):
    path = folder(tmp_path / "bare", "eagle")
    (path / "config.json").unlink()
    refused("eagle", path, "config.json cannot be read")
    (tmp_path / "empty").mkdir()
    refused("eagle3", tmp_path / "empty", r"holds no EAGLE-3 heads: it has no model\.safetensors and no pytorch_model")
    (tmp_path / "empty" / "config.json").write_text(json.dumps(CONFIG3))
    torch.save([1, 2], tmp_path / "empty" / "pytorch_model.bin")
    refused("eagle3", tmp_path / "empty", "holds no dictionary of tensors")
