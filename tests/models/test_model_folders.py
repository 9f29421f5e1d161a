"""From a name to a folder, and the ways in which a folder can be no model: one line, exit code 3, the culprit named."""

import json

import pytest
import torch
from feeding import chain
from safetensors.torch import load_file, save_file

from specterm.config import ModelSpec
from specterm.errors import ConfigError, ExitCode, ModelError
from specterm.models.folders import BUILTIN_FOLDER, eos_ids, find_folder, find_heads, read_config
from specterm.models.loading import load_models

KINDS = ["llama", "gpt2"]  # one for each runner


def load(folder, **options):
    return load_models(ModelSpec(target=str(folder), dtype="float32", **options))


def refusal(name, **options) -> str:
    with pytest.raises(ModelError) as caught:
        load(name, **options)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE == 3
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


def test_builtin_names():
    assert find_folder("builtin", "target") == BUILTIN_FOLDER / "target"
    assert find_folder("builtin", "draft") == BUILTIN_FOLDER / "draft"
    assert find_folder("builtin/draft-b", "target") == BUILTIN_FOLDER / "draft-b"
    assert "'builtin/other'" in refusal("builtin/other")
    assert find_heads("builtin", "medusa") == BUILTIN_FOLDER / "medusa"
    with pytest.raises(ModelError, match="no built-in heads 'builtin/medusa'; 'builtin' names those"):
        find_heads("builtin/medusa", "medusa")  # and no hub is asked


def test_names_that_are_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (str(tmp_path / "none"), "./none", "not an id", "a/b/c", "gpt3"):
        assert f"no model folder {name}" in refusal(name)
    (tmp_path / "weights.bin").write_text("")
    assert "is a file" in refusal(tmp_path / "weights.bin")
    assert "no config.json" in refusal(tmp_path)


def test_the_hub_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "owner/model" in refusal("owner/model")
    assert "cannot be reached" in refusal("owner/model")
    assert "no--such..id" in refusal("owner/no--such..id")


def test_a_misspelt_draft_is_told_before_the_target_is_loaded(monkeypatch):
    monkeypatch.setattr("specterm.models.loading._load", lambda *args: pytest.fail("the target was loaded"))
    assert "./nowhere" in refusal(BUILTIN_FOLDER / "target", drafts=("./nowhere",))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_cut_short_or_missing(kind, spoiled):
    folder = spoiled(kind)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for kept in (len(whole) // 2, 100, 0):
        weights.write_bytes(whole[:kept])
        assert str(weights) in refusal(folder)
    weights.unlink()
    assert "model.safetensors" in refusal(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_tensor_is_named(kind, spoiled):
    folder = spoiled(kind)
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in sorted(tensors) if ".1." in name)
    del tensors[gone]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert gone in refusal(folder)


@pytest.mark.parametrize(("kind", "entry"), [("llama", "intermediate_size"), ("gpt2", "n_inner")])
def test_a_tensor_of_another_shape_is_named(kind, entry, spoiled):
    text = refusal(spoiled(kind, **{entry: 48}))
    assert "48" in text
    assert "mlp" in text


@pytest.mark.parametrize("kind", KINDS)
def test_shards(kind, saved_pair, spoiled):
    """Weights in three files with an index are the same weights."""
    folder = spoiled(kind)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(sorted(tensors))}
    for shard in set(where.values()):
        part = {name: tensors[name] for name in tensors if where[name] == shard}
        save_file(part, folder / shard, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    ids = [[3, 1, 4, 1, 5]]
    logits = []
    for source in (saved_pair(kind)[0], folder):
        runner = load(source).target.runner
        runner.allocate(1, 64)
        logits.append(chain(runner, (0,), (0,), ids))
    assert torch.equal(*logits)

    (folder / "model-1.safetensors").unlink()
    assert "model-1.safetensors" in refusal(folder)
    for broken in ("{", "[]", "{}", '{"weight_map": {"a": 1}}'):
        index.write_text(broken)
        assert str(index) in refusal(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_configs_that_cannot_be_read(kind, spoiled):
    folder = spoiled(kind)
    for text in ("{", "[1]", "", "\x00"):
        (folder / "config.json").write_text(text)
        assert str(folder / "config.json") in refusal(folder)


@pytest.mark.parametrize(
    "entries",
    [
        {"vocab_size": None}, {"hidden_size": None}, {"num_attention_heads": None}, {"vocab_size": "many"},
        {"model_type": None, "architectures": None}, {"max_position_embeddings": "long"}, {"num_hidden_layers": 7},
    ],
    ids=str,
)  # fmt: skip
def test_configs_that_do_not_fit(entries, spoiled):
    refusal(spoiled("llama", **entries))


def test_what_an_old_config_leaves_out_has_defaults(spoiled):
    assert load(spoiled("llama", rms_norm_eps=None)).target.info.runner == "transformers"


def test_code_of_its_own_is_not_run(spoiled):
    folder = spoiled("llama", model_type="custom", auto_map={"AutoConfig": "x.Y", "AutoModelForCausalLM": "x.Z"})
    (folder / "x.py").write_text("raise SystemExit('ran')")
    assert "--trust-remote-code" in refusal(folder)


def test_max_model_len(saved_pair):
    target, draft = saved_pair("llama")
    models = load(target, drafts=(str(draft),), max_model_len=100)
    assert models.target.info.max_positions == models.target.runner.max_positions == 100
    assert models.drafts[0].runner.max_positions == 100
    with pytest.raises(ConfigError, match=r"257.*256"):
        load(target, max_model_len=257)


def test_end_of_sequence_ids(spoiled):
    folder = spoiled("llama", eos_token_id=[7, 9])
    (folder / "generation_config.json").write_text('{"eos_token_id": 4}')
    assert load(folder).target.eos == {4}
    (folder / "generation_config.json").write_text("{}")
    assert eos_ids(folder, read_config(folder)) == {7, 9}
    (folder / "generation_config.json").unlink()
    assert eos_ids(folder, {}) == frozenset()
