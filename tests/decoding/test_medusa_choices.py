"""Lists of choices: read, mended where parents are missing, refused where an entry is no node; and drafted from."""

import json

import pytest
from harness import decode

from specterm.bench.prompts import gather
from specterm.config import MethodSpec, ModelSpec
from specterm.decoding.drafters.medusa_choices import read_choices
from specterm.errors import ConfigError
from specterm.models.loading import load_models


def written(tmp_path, listed):
    file = tmp_path / "choices.json"
    file.write_text(listed if isinstance(listed, str) else json.dumps(listed))
    return file


def test_parents_come_first_and_missing_ones_are_added(tmp_path):
    file = written(tmp_path, [[2, 1, 0], [0], [0, 3], [0]])
    assert read_choices(file, heads=3, ranks=10) == [(0,), (2,), (0, 3), (2, 1), (2, 1, 0)]


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ("[[0], [0, 0]", "is not valid JSON"),
        ({"choices": [[0]]}, "is no list of paths"),
        ([], "is no list of paths"),
        ([[0], []], r"has the entry \[\]; an entry is a list of whole numbers"),
        ([[0], 3], "has the entry 3; an entry"),
        ([[0], [0, "1"]], r'has the entry \[0, "1"\]; an entry'),
        ([[0], [0, True]], r"has the entry \[0, true\]; an entry"),
        ([[0], [0, 10]], r"has the entry \[0, 10\] with the rank 10; ranks are 0 to 9"),
        ([[-1]], r"has the entry \[-1\] with the rank -1"),
        ([[0, 0, 0, 0]], r"has the entry \[0, 0, 0, 0\], which is 4 deep; there are 3 heads"),
        ([[a, b, c] for a in range(10) for b in range(10) for c in range(3)], "has 410 nodes; a tree has 256 at most"),
    ],
)
def test_a_bad_list_is_named(tmp_path, listed, says):
    with pytest.raises(ConfigError, match=says) as caught:
        read_choices(written(tmp_path, listed), heads=3, ranks=10)
    assert "choices.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json cannot be read: No such file"):
        read_choices(tmp_path / "none.json", heads=3, ranks=10)


def test_choices_need_a_static_tree():
    with pytest.raises(ConfigError, match="--medusa-choices needs --head-tree static; it is dynamic"):
        MethodSpec(name="medusa", parameters={"medusa_choices": "x.json"}).checked()


def test_the_listed_tree_is_drafted(tmp_path):
    models = load_models(ModelSpec(medusa="builtin", dtype="float64"))
    target = models.target.runner
    prompts = [models.codec.encode(request.prompt) for request in gather(("builtin",), 2)]
    file = written(tmp_path, [[0], [1], [0, 0], [0, 1], [0, 0, 0]])
    given = {"method": "medusa", "heads": models.heads, "medusa_choices": str(file), "head_tree": "static"}
    decoded = decode(target, prompts, max_tokens=24, **given)
    assert decoded.ids == decode(target, prompts, max_tokens=24).ids
    assert {"accepted", "rejected"} <= set(decoded.states)
    whole = [part for part in decoded.rounds if len(part.tokens) == 5]
    assert whole
    assert {part.parents for part in whole} == {(-1, -1, 0, 0, 2)}
    with pytest.raises(ConfigError, match="--tree-nodes does not go with --medusa-choices"):
        decode(target, prompts, tree_nodes=3, **given)
