"""Names of models where there is little room."""

import pytest

from specterm.tui.model_names import short


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("/somewhere/far/models/target", "…/target"),
        ("loading ~/models/a/draft", "loading …/draft"),
        ("../models/a (11M)", "…/a (11M)"),
        ("/one/two + ./three/four", "…/two + …/four"),
        ("builtin/draft", "builtin/draft"),
        ("org/model", "org/model"),
        ("./model", "./model"),
        ("70 kB/token", "70 kB/token"),
        ("none", "none"),
    ],
)
def test_a_path_is_told_by_its_last_part(name: str, told: str) -> None:
    assert short(name) == told
