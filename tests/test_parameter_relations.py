"""Parameters that are one of a few words, bounded by one another, or of use only together."""

import pytest

from specterm.catalogue.method_parameters import DRAFT_MEMORY, NGRAM_STORE
from specterm.config import MethodSpec
from specterm.errors import ConfigError
from specterm.options import options


def test_a_choice_is_one_of_its_words():
    assert [DRAFT_MEMORY.check(word) for word in ("none", "prompt", "session")] == ["none", "prompt", "session"]
    for bad in ("forever", "None", 3):
        with pytest.raises(ConfigError, match=f"--draft-memory is {bad!r}; it must be one of none, prompt, session"):
            DRAFT_MEMORY.check(bad)
    for empty in ("", None):
        with pytest.raises(ConfigError, match="--draft-memory is empty; it must be one of none, prompt, session"):
            DRAFT_MEMORY.check(empty)
    assert options()["draft_memory"].metavar == "none|prompt|session"


def test_an_optional_text_may_be_left_empty():
    assert NGRAM_STORE.check("") is None
    assert NGRAM_STORE.check(None) is None
    assert NGRAM_STORE.check("none") == "none"  # a file may be called that


@pytest.mark.parametrize("method", ["ngram", "nasd"])
def test_the_shortest_context_is_not_longer_than_the_longest(method):
    with pytest.raises(ConfigError, match="--ngram-min is 5; it must be at most --ngram-max, which is 4"):
        MethodSpec(name=method, parameters={"ngram_min": 5}).checked()
    assert MethodSpec(name=method, parameters={"ngram_min": 5, "ngram_max": 5}).checked().parameters["ngram_min"] == 5


@pytest.mark.parametrize("scope", ["none", "prompt"])
def test_a_store_needs_a_session(scope):
    with pytest.raises(ConfigError, match=f"--ngram-store needs --draft-memory session; it is {scope}"):
        MethodSpec(name="nasd", parameters={"ngram_store": "store", "draft_memory": scope}).checked()


def test_a_label_says_gamma_and_what_is_unusual():
    assert MethodSpec(name="ngram").checked().label == "ngram gamma 4"
    given = {"num_draft_tokens": 7, "tree_width": 3, "draft_memory": "session"}
    assert (
        MethodSpec(name="ngram", parameters=given).checked().label == "ngram gamma 7 tree-width 3 draft-memory session"
    )
