"""What the inspector says about a token: of a chain, a tree, a lookup, a naive step, and where little was recorded."""

import dataclasses

import pytest
from rich.style import Style
from tui.judged_rounds import (
    CHAIN,
    COUNTS,
    DRAFT_SPEC,
    GREEDY_SPEC,
    LOOKUP,
    NGRAM_SPEC,
    PLAIN,
    TREE,
    TREE_SPEC,
    in_round,
)

from specterm.config import RunSpec, to_data
from specterm.events import EmittedToken, Prefilled, RowRound
from specterm.tui.run_record import RunRecord
from specterm.tui.transcript import node_index
from specterm.tui.widgets.draft_tree import probability, tree_lines
from specterm.tui.widgets.inspector_text import Look, TokenReport
from specterm.tui.widgets.token_store import State

NONE = Style()
LOOK = Look(dict.fromkeys(State, NONE), NONE, NONE, NONE, NONE)
FIRST = EmittedToken(1, "Once", "plain", 0.5)


def report(spec: RunSpec, part: RowRound, index: int, width: int = 72) -> list[str]:
    record = RunRecord()
    record.start_run(to_data(spec))
    record.add_prefill(Prefilled(0.1, 0, 2, 0, 0.1, None, FIRST))
    number = record.add_round(in_round(0, part), part)
    return [line.plain.rstrip() for line in TokenReport(record, number, index, LOOK, width).lines]


def test_an_accepted_token_of_a_sampled_chain() -> None:
    lines = report(DRAFT_SPEC, CHAIN, 0)
    assert lines[0] == '" upon"' + "id 11".rjust(65)
    assert lines[1:8] == [
        "accepted: drafted, and kept by the target",
        "round       1 of 1  7.9 ms",
        "depth       1 of 3  in the draft",
        "drafted by  builtin",
        "p           0.5000  the target's",
        "q           0.4000  the drafter's; drawn from it",
        "kept with   1.0000  = min(1, p/q)",
    ]
    assert "Refused in this place" not in lines


def test_a_correction_says_what_was_refused_there() -> None:
    lines = report(DRAFT_SPEC, CHAIN, 1)
    assert "correction: the target's own token where the draft was refused" in lines
    assert "p           0.2500  the target's; drawn from max(p - q, 0)" in lines
    assert "depth       2 of 3  in the draft" in lines
    assert lines[lines.index("Refused in this place") + 1] == '✗ " a"  p 0.10  q 0.80'


def test_a_rejected_token_is_inspected_in_its_own_right() -> None:
    lines = report(DRAFT_SPEC, CHAIN, node_index(1))
    assert "rejected: drafted, and refused by the target" in lines
    assert "kept with   0.1250  = min(1, p/q)" in lines
    assert "Refused in this place" not in lines


def test_the_tree_of_a_chain_is_one_column_with_the_refused_branch_beside_it() -> None:
    lines = report(DRAFT_SPEC, CHAIN, 1)
    tree = lines[lines.index("Draft · 1 of 3 accepted") + 1 :]
    assert [line.split("  ")[0] for line in tree[:5]] == ['● "Once"', '✓ " upon"', '├─✗ " a"', '│ · " the"', '+ " one"']
    assert tree[2].endswith("p 0.10 q 0.80")


def test_a_tree_names_the_drafters_of_each_node() -> None:
    lines = report(TREE_SPEC, TREE, node_index(2))
    at = lines.index("drafted by  builtin")
    assert lines[at + 1] == "            builtin/draft-b"
    assert "q           1  a fixed child" in lines
    assert "confidence  0.5000  the drafter's own" in lines
    assert "kept with   0.7000  = min(1, p/1)" in lines
    assert lines[lines.index("Refused in this place") + 1] == '✗ " ran"  p <0.01  c 0.40'
    tree = lines[lines.index("Draft · 1 of 5 accepted") + 1 :]
    assert [(line.split("  ")[0], line.split()[-1]) for line in tree[1:6]] == [
        ('├─· " dog"', "B"),
        ('✓ " cat"', "A"),
        ('├─✗ " sat"', "AB"),
        ('├─✗ " ran"', "B"),
        ('│ · " off"', "B"),
    ]
    assert tree[6].startswith('+ " down"')
    assert tree[-2:] == ["A builtin", "B builtin/draft-b"]


def test_alternatives_are_those_of_the_place() -> None:
    lines = report(TREE_SPEC, TREE, 0)
    at = lines.index("target")
    cat, dog = lines[at + 1 : at + 3]
    assert cat.startswith('▸ " cat"')
    assert cat.endswith("0.600")
    assert dog.startswith('  " dog"')
    assert cat.count("█") == 2 * dog.count("█") + 1
    assert lines[at + 3] == "drafter"
    assert lines[at + 4].endswith("0.830")


def test_where_the_drafter_has_no_list_its_branches_are_told() -> None:
    lines = report(TREE_SPEC, TREE, 1)
    at = lines.index("drafter (branches)")
    assert [line.split()[-1] for line in lines[at + 1 : at + 3]] == ["0.500", "0.400"]
    bare = report(TREE_SPEC, dataclasses.replace(TREE, confidence=None), 1)
    assert "drafter     not recorded" in bare


def test_alternatives_that_were_not_recorded_say_how_to_record_them() -> None:
    told = " ".join(report(DRAFT_SPEC, CHAIN, 0))
    assert "not recorded; with a they are, from the next run on" in told


def test_a_lookup_has_no_confidence() -> None:
    lines = report(NGRAM_SPEC, LOOKUP, 1)
    assert "drafted by  N-gram" in lines
    assert "q           1  a fixed child" in lines
    assert "confidence  not recorded  the drafter's own" in lines
    bonus = report(NGRAM_SPEC, LOOKUP, 2)
    assert "bonus: the target's own token after a draft that was kept whole" in bonus
    assert "depth       3  behind the draft of 2" in bonus


def test_a_greedy_run_keeps_the_likeliest_or_nothing() -> None:
    part = dataclasses.replace(CHAIN, q=None, p=(1.0, 0.0, 0.0), confidence=(0.9, 0.8, 0.7))
    assert "kept with   1.00  greedy: the likeliest or none" in report(GREEDY_SPEC, part, 0)
    assert "kept with   0.00  greedy: the likeliest or none" in report(GREEDY_SPEC, part, node_index(1))


def test_the_chance_of_a_later_sampled_sibling_is_not_told() -> None:
    part = dataclasses.replace(TREE, q=(0.5,) * 5, confidence=None)
    assert "kept with   1.0000  = min(1, p/q)" in report(TREE_SPEC, part, 0)
    assert "kept with   not recorded  judged after its siblings" in report(TREE_SPEC, part, node_index(1))


def test_a_naive_step_has_no_draft() -> None:
    lines = report(DRAFT_SPEC, PLAIN, 0)
    assert "plain: this round had no draft" in lines
    assert "p           0.3300  the target's" in lines
    assert not any(line.startswith(("Draft", "depth", "drafted")) for line in lines)


def test_bare_counts_are_not_recorded_and_never_zero() -> None:
    lines = report(DRAFT_SPEC, COUNTS, node_index(1))
    assert lines[0].startswith("token 42")
    for label in ("drafted by", "p", "q"):
        assert f"{label.ljust(12)}not recorded" in " ".join(lines), label
    assert not any(line.startswith(("kept", "confidence")) for line in lines)
    assert "p, q and texts not recorded at trace level counts" in lines
    assert not any("0.0" in line for line in lines)
    assert "✗ token 42  p not recorded" in report(DRAFT_SPEC, COUNTS, 1)


def test_the_first_token_belongs_to_no_round() -> None:
    record = RunRecord()
    number = record.add_prefill(Prefilled(0.1, 0, 2, 0, 0.1, None, FIRST))
    lines = [line.plain for line in TokenReport(record, number, 0, LOOK, 80).lines]
    assert lines[1] == "plain: the first token, drawn by the prefill; it belongs to no round"
    assert lines[2].startswith("p           0.5000")


def test_a_round_whose_detail_was_dropped_says_so() -> None:
    record = RunRecord(max_detail_bytes=0)
    number = record.add_round(in_round(0, CHAIN), CHAIN)
    told = " ".join(line.plain for line in TokenReport(record, number, 0, LOOK, 80).lines)
    assert told.startswith("round 1: 1 of 3 accepted, +1 correction, 7.9 ms The detail is gone: the last 64 MiB")


@pytest.mark.parametrize("width", [20, 29, 40, 80])
def test_no_line_is_wider_than_the_pane(width: int) -> None:
    wild = dataclasses.replace(TREE, texts=(" \x1b[2J的的的的的的的的的的", "\n", "", "\u202e", "e\u0301" * 40))
    for part in (CHAIN, wild, LOOKUP, COUNTS, PLAIN):
        for index in (*range(len(part.emitted)), *(node_index(node) for node in range(len(part.tokens)))):
            record = RunRecord()
            record.start_run(to_data(TREE_SPEC))
            number = record.add_round(in_round(0, part), part)
            for line in TokenReport(record, number, index, LOOK, width).lines:
                assert line.cell_len <= width, line.plain
                assert not any(ord(character) < 32 for character in line.plain)


def test_a_chain_of_64_is_as_narrow_as_one_of_4_and_a_comb_stays_whole() -> None:
    states = ("accepted",) * 64
    chain = RowRound(0, tuple(range(64)), tuple(range(-1, 63)), states, (FIRST,), texts=("t",) * 64)
    lines = tree_lines(chain, None, 0, LOOK.states, NONE, 30, None)
    assert [line.plain for line in lines[1:65]] == ['✓ "t"'] * 64
    parents = (-1, -1, *(n - 2 for n in range(2, 64)))
    comb = dataclasses.replace(chain, parents=parents, states=("unused",) * 64, emitted=())
    drawn = [line.plain for line in tree_lines(comb, None, 0, LOOK.states, NONE, 30, None)]
    assert len(drawn) == 65
    assert drawn[1:3] == ['├─· "t"', '│ · "t"']
    assert drawn[-1] == '  · "t"'


def test_a_probability_that_is_not_zero_does_not_read_as_zero() -> None:
    assert probability(0.004) == "<0.01"
    assert probability(0.0) == "0.00"
    assert probability(None) == "not recorded"
    assert probability(0.00004, 4) == "<0.0001"
