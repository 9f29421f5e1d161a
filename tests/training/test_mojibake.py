"""Scrambled characters are put right, and nothing else is touched."""

import pytest

from specterm.training.corpus import read_documents
from specterm.training.mojibake import unscrambled


@pytest.mark.parametrize(
    ("scrambled", "whole"),
    [
        ("she said, â€œwhat is that?â€ and", 'she said, "what is that?" and'),
        ("â€œIâ€™mâ€\x9d", '"I\'m"'),
        ("oneâ€”two â€“ threeâ€¦", "one—two – three…"),
        ("MamÃ¡, ã©l", "Mamá, él"),
        ("3 Ã— 4", "3 × 4"),
    ],
)
def test_what_is_scrambled_is_put_right(scrambled, whole):
    assert unscrambled(scrambled) == whole


@pytest.mark.parametrize("text", ["“Quite—so,” said René.", "château, Â, 5 €, naïve", "x = {'a': 1}\n"])
def test_what_is_whole_stays_as_it_is(text):
    assert unscrambled(text) == text


def test_documents_are_read_unscrambled(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("â€œHi!â€<|endoftext|>Bye.", encoding="utf-8")
    assert read_documents(path) == ['"Hi!"', "Bye."]
