"""Chat templates: messages to the text that a chat model was trained on.

A template is Jinja and comes with a model, so it is code of somebody else's: it runs in Jinja's sandbox. The
environment is the one that templates are written for (transformers' `apply_chat_template`): blocks trimmed, loop
controls, `tojson`, `raise_exception`, `strftime_now`, and a `generation` block that means nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from specterm.config import Message
from specterm.errors import ConfigError, one_line

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment


def render(template: str, messages: Sequence[Message], variables: Mapping[str, Any], name: str) -> str:
    """The text of `messages`, up to where the model is to answer.

    variables: the special tokens that the template may use; name: whose template it is, for errors.

    Raises:
        ConfigError: the template is no valid one, or refuses these messages; the text says why.
    """
    from jinja2 import TemplateError, TemplateSyntaxError

    plain = [{"role": message.role, "content": message.content} for message in messages]
    try:
        compiled = _environment().from_string(template)
        text: str = compiled.render(messages=plain, add_generation_prompt=True, **variables)
    except TemplateSyntaxError as error:
        raise ConfigError(f"the chat template of {name} is wrong in line {error.lineno}: {one_line(error)}") from None
    except TemplateError as error:
        raise ConfigError(f"the chat template of {name} refuses this conversation: {one_line(error)}") from None
    except Exception as error:  # a template may do anything to the values that it is given
        raise ConfigError(f"the chat template of {name} fails: {type(error).__name__}: {one_line(error)}") from None
    return text


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what the model says, for training; its content stands as it is."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = to_json  # Jinja's own escapes for HTML
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made
