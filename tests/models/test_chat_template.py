"""Conversations to tokens: as transformers does it, but a message cannot smuggle in control tokens."""

from pathlib import Path

import pytest
from chat_models import TEMPLATE, chat_pair
from transformers import AutoTokenizer

from specterm.config import Message
from specterm.errors import ConfigError
from specterm.models.tokenizer import TextCodec, _Pretrained, load_codec

SAID = (
    Message("system", "  Be kind. "),
    Message("user", "Hello there\n"),
    Message("assistant", " Once upon a time"),
    Message("user", "More of {{ this }} <b>& that</b>"),
)
TEMPLATES = {
    "plain": TEMPLATE,
    "tojson": "{% for m in messages %}{{ m | tojson }}\n{% endfor %}",
    "loop controls": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}\n"
    "   {{ bos_token }}{{ m['content'] }}\n{% endfor %}",
    "tools": "{% if tools %}no{% endif %}{{ messages[-1].content.split('of')[1] }}{{ unk_token }}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_ids_are_those_of_transformers(name: str, tmp_path: Path):
    folder = Path(chat_pair(tmp_path, TEMPLATES[name]).target)
    plain = [{"role": message.role, "content": message.content} for message in SAID]
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        plain, add_generation_prompt=True, return_dict=False
    )
    assert len(theirs) > 5
    assert load_codec(folder).encode_chat(SAID, None, "it") == theirs


@pytest.mark.parametrize("backend", ["tokenizers", "transformers"])
def test_a_special_token_in_a_message_stays_text(backend: str, tmp_path: Path):
    folder = Path(chat_pair(tmp_path).target)
    codec = load_codec(folder)
    if backend == "transformers":
        codec = TextCodec(_Pretrained(AutoTokenizer.from_pretrained(folder)), codec.config)
    said = (Message("user", "What is <|endoftext|> for?"), Message("assistant", "It ends."), Message("user", "Thanks"))
    ids = codec.encode_chat(said, None, "it")
    assert ids.count(0) == 1  # the template's own, behind the answer
    assert "What is <|endoftext|> for?" in codec.decode(ids)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for m in %}", "is wrong in line 1"),
        ("{{ raise_exception('no system prompts here') }}", "refuses this conversation: no system prompts here"),
        ("{{ messages[9].content.strip() }}", "refuses this conversation"),
        ("{{ 1 // 0 }}", "fails: ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_what_is_wrong_with_a_template_is_one_line(template: str, why: str, tmp_path: Path):
    codec = load_codec(Path(chat_pair(tmp_path, template).target))
    with pytest.raises(ConfigError, match="the chat template of it") as error:
        codec.encode_chat(SAID, None, "it")
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_without_a_template_says_what_to_do():
    from specterm.models.folders import BUILTIN_FOLDER

    codec = load_codec(BUILTIN_FOLDER / "target")
    assert codec.template is None
    with pytest.raises(ConfigError, match="add --chat-template FILE"):
        codec.encode_chat(SAID, None, "builtin")
    assert codec.encode_chat(SAID, "{{ messages[0].content }}", "builtin") == codec.encode(SAID[0].content)


def test_of_several_templates_the_default_one_is_taken(tmp_path: Path):
    codec = load_codec(Path(chat_pair(tmp_path).target))
    codec.config["chat_template"] = [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]
    assert codec.template == "b"
    assert codec.end_ids() == {0}
