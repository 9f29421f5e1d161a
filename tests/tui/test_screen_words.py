"""Advice on the screen names fields and where they are, not flags."""

import re

import pytest

from specterm.catalogue import METHODS, RULES, SAMPLING
from specterm.catalogue.models import LOADING, NAMES
from specterm.tui.lanes import WORKLOAD
from specterm.tui.screen_words import SETTINGS, advised, on_screen


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("try gamma 3, or --adaptive, or naive", "try gamma 3, or adaptive, or naive (Settings, F4)"),
        ("give a larger --max-model-len", "give a larger max length (Models, F12)"),
        ("--max-tokens or --max-model-len", "max tokens or max length (Settings, F4; Models, F12)"),
        ("run it with --no-history", "run it with --no-history"),
        ("drafting goes on", "drafting goes on"),
        ("", ""),
    ],
)
def test_advice(said: str, shown: str) -> None:
    assert advised(said) == shown


def test_advice_without_a_field_is_followed_where_it_is_said() -> None:
    assert advised("try naive", SETTINGS) == "try naive (Settings, F4)"
    assert advised("--method mlp: add --mlp", here=SETTINGS) == "method mlp: add mlp (Models, F12)"


def test_every_field_is_called_by_its_title() -> None:
    owners = (*METHODS.values(), *RULES.values())
    fields = [*SAMPLING, *NAMES, *LOADING, *(parameter for owner in owners for parameter in owner.parameters)]
    for parameter in fields:
        assert on_screen(f"{parameter.flag} is 7") == f"{parameter.title} is 7"
    told = " ".join(parameter.flag for parameter in WORKLOAD)
    assert re.findall("--", on_screen(told, WORKLOAD)) == []
    assert on_screen("--prompts") == "--prompts"
