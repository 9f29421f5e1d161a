"""Our codec against AutoTokenizer."""

import json
import shutil

import pytest
from transformers import AutoTokenizer

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.errors import ModelError
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.loading import load_models
from specterm.models.tokenizer import load_codec

FOLDER = BUILTIN_FOLDER / "target"
TEXTS = [
    "Hello, world!", "  two  spaces ", "tab\tand\nlines\n\n", "naïve café – “quotes”", "日本語 and 🙂👩‍👩‍👧", "x", " ",
    "def f(x):\n    return x ** 2\n", "<|endoftext|>", "\ufffd",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(FOLDER / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", ["target", "draft", "draft-b"])
def test_the_builtin_tokenizers_are_auto_tokenizers(name):
    ours, theirs = load_codec(BUILTIN_FOLDER / name), AutoTokenizer.from_pretrained(BUILTIN_FOLDER / name)
    for text in (*TEXTS, *(request.prompt for request in gather(("builtin",)))):
        ids = theirs(text)["input_ids"]
        assert ours.encode(text) == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert ours.vocabulary() == theirs.get_vocab()


def test_a_beginning_that_the_config_asks_for(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    token = next(iter(json.loads((folder / "tokenizer.json").read_text())["added_tokens"]))["content"]
    config |= {"add_bos_token": True, "bos_token": token, "tokenizer_class": "LlamaTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    ours, theirs = load_codec(folder), AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"]
        assert ours.decode(ours.encode(text)) == theirs.decode(theirs(text)["input_ids"], skip_special_tokens=True)


def test_chat_templates(folder):
    assert not load_codec(folder).template
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert load_codec(folder).template
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ messages }}"}))
    assert load_codec(folder).template


def test_the_model_says_whether_it_chats(saved_pair, spoiled):
    assert not load_models(ModelSpec(target=str(saved_pair("llama")[0]))).target.info.chat_template
    folder = spoiled("llama")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert load_models(ModelSpec(target=str(folder))).target.info.chat_template


def test_a_vocabulary_of_other_files(folder):
    """vocab.json and merges.txt, as GPT-2 and Qwen have them, without a tokenizer.json."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = (" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    codec = load_codec(folder)
    assert codec.decode(codec.encode("Hello, world!")) == "Hello, world!"
    assert len(codec.encode("Hello, world!")) > 1


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("tokenizer.json", "{}", "tokenizer.json"),
        ("tokenizer.json", "not json", "tokenizer.json"),
        ("tokenizer.json", None, "it holds no tokenizer.json"),
        ("tokenizer_config.json", "{", "tokenizer_config.json"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json"),
    ],
)
def test_broken_tokenizers(folder, name, text, told):
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(ModelError, match=told) as caught:
        load_codec(folder)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_vocabulary_that_is_no_vocabulary(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"garbage")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    with pytest.raises(ModelError) as caught:
        load_codec(folder)
    assert len(str(caught.value).splitlines()) == 1
