"""The built-in pair with a chat template."""

import shutil
from pathlib import Path

from specterm.config import ModelSpec
from specterm.models.folders import BUILTIN_FOLDER

TEMPLATE = """\
{%- for message in messages %}
{%- if message.role == "system" %}
{%- if loop.index > 1 %}{{ raise_exception("the system prompt comes first") }}{% endif %}
{{ message.content | trim }}

{% elif message.role == "user" %}
User: {{ message.content | trim }}
{% else %}
Story:{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}

{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}Story:{% endif %}
"""


def chat_pair(folder: Path, template: str = TEMPLATE) -> ModelSpec:
    """Copies of the built-in target and draft in `folder`, the target with `template`, in float32."""
    for role in ("target", "draft"):
        shutil.copytree(BUILTIN_FOLDER / role, folder / role)
    (folder / "target" / "chat_template.jinja").write_text(template, encoding="utf-8")
    return ModelSpec(target=str(folder / "target"), drafts=(str(folder / "draft"),), dtype="float32")
