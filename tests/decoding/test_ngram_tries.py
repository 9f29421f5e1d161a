"""Drafts from an index: the chain is what copying by hand gives, and wider tries keep their form."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from specterm.config import MethodSpec
from specterm.decoding.drafters import DRAFTERS
from specterm.decoding.drafters.draft_trie import grow, to_draft_tree
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, Feedback, ProposeRow, Recording
from specterm.decoding.sampling import Warps

METHODS = ["ngram", "nasd", "suffix"]
texts = st.lists(st.integers(0, 4), min_size=2, max_size=60)


class Target:
    """What these drafters ask of a target."""

    device = torch.device("cpu")
    vocab_size = 50


def drafter(method, record=Recording(), **parameters):
    spec = MethodSpec(name=method, parameters=parameters).checked()
    made = DRAFTERS[method](DraftSetup(Target(), (), Warps(0.0), record, spec.parameters, DraftMemory()))
    made.open(4, 200)
    return made


def proposed(made, text, limit=64, row=0):
    made.admit(Admission(row, torch.tensor(text[:-1]), text[-1]))
    return made.propose([ProposeRow(row, limit, 1, 0)])


def parents(tree):
    return (tree.topology.parents[0, 1:] - 1).tolist()


def copied(text, depth, smallest, largest):
    """Prompt lookup by hand: the token after the latest earlier occurrence of the longest end, again and again."""
    draft = []
    for _ in range(depth):
        end = [*text, *draft]
        places = (
            place
            for order in range(largest, smallest - 1, -1)
            for place in range(len(text) - 1, order - 1, -1)
            if text[place - order : place] == end[-order:]
        )
        place = next(places, None)
        if place is None:
            break
        draft.append(text[place])
    return draft


@given(text=texts, gamma=st.integers(1, 12), bounds=st.sampled_from([(1, 4), (2, 3), (3, 3)]))
def test_the_ngram_chain_is_prompt_lookup(text, gamma, bounds):
    made = drafter("ngram", num_draft_tokens=gamma, ngram_min=bounds[0], ngram_max=bounds[1])
    tree = proposed(made, text)
    assert tree.tokens[0].tolist() == copied(text, gamma, *bounds)
    assert tree.topology.chain
    assert tree.children == "fixed"
    assert tree.confidence is None


def test_a_loop_is_drafted_to_any_length():
    assert proposed(drafter("ngram", num_draft_tokens=7), [1, 2, 3, 1]).tokens.tolist() == [[2, 3, 1, 2, 3, 1, 2]]


@pytest.mark.parametrize("method", METHODS)
@given(text=texts, width=st.integers(1, 8), gamma=st.integers(1, 6), limit=st.integers(0, 8))
def test_a_trie_keeps_its_form(method, text, width, gamma, limit):
    made = drafter(method, num_draft_tokens=gamma, tree_width=width)
    tree = proposed(made, text, limit)
    tokens, above = tree.tokens[0].tolist(), parents(tree)
    assert all(parent < node for node, parent in enumerate(above))
    assert len({(parent, token) for parent, token in zip(above, tokens)}) == len(tokens)
    assert len(tokens) <= made.max_nodes == width * gamma
    assert len(set(range(len(tokens))) - set(above)) <= width
    assert tree.topology.max_depth <= min(gamma, limit)
    assert int(tree.topology.depth.max()) == tree.topology.max_depth
    chain = proposed(drafter(method, num_draft_tokens=gamma), text, limit).tokens[0].tolist()
    walked = -1
    for token in chain:  # the narrow draft is the first branch of the wide one
        walked = next(node for node, parent in enumerate(above) if parent == walked and tokens[node] == token)


def test_ngram_branches_are_the_latest_first_then_those_of_shorter_matches():
    text = [7, 1, 2, 20, 7, 1, 2, 21, 8, 2, 22, 7, 1, 2]
    expected = {1: [21], 2: [21, 20], 3: [21, 20, 22]}
    for width, tokens in expected.items():
        tree = proposed(drafter("ngram", num_draft_tokens=1, tree_width=width), text)
        assert tree.tokens[0].tolist() == tokens


def test_suffix_follows_frequency_and_says_how_sure_it_is():
    text = [1, 2, 8, 1, 2, 8, 1, 3, 9, 1]
    tree = proposed(drafter("suffix", Recording(probs=True), num_draft_tokens=2, tree_width=2), text)
    assert (tree.tokens[0].tolist(), parents(tree)) == ([2, 3], [-1, -1])  # a match of one: one token deep
    assert tree.confidence[0].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert proposed(drafter("suffix"), text).confidence is None


def test_suffix_drafts_as_far_as_the_match_deserves():
    long = [*range(10, 30), 40, *range(10, 22)]  # a match of twelve
    short = [*range(10, 30), 40, 21]  # a match of one
    made = drafter("suffix", num_draft_tokens=16)
    assert proposed(made, long, row=0).tokens[0].tolist() == [22, 23, 24, 25, 26, 27, 28, 29, 40, 10, 11, 12]
    assert proposed(made, short, row=1).tokens[0].tolist() == [22]
    doubled = drafter("suffix", num_draft_tokens=16, suffix_factor=3.0)
    assert proposed(doubled, short).tokens[0].tolist() == [22, 23, 24]


def test_suffix_stops_where_it_is_no_longer_likely():
    text = [5, 1, 5, 2, 5, 3, 5, 4, 5]
    for floor, nodes in ((0.2, 1), (0.3, 0)):
        made = drafter("suffix", num_draft_tokens=1, suffix_min_probability=floor)
        made.admit(Admission(0, torch.tensor([0, *text[:-1]]), text[-1]))
        # The longest match of the end is of one token: 4 5 has not come before.
        assert made.propose([ProposeRow(0, 4, 1, 0)]).counts == (nodes,)


def test_nasd_learns_what_the_target_held_likely():
    made = drafter("nasd", Recording(probs=True), num_draft_tokens=1, tree_width=3, ngram_max=1, filler_top_k=3)
    assert made.needs.top_k == 3
    made.admit(Admission(0, torch.tensor([1]), 2))
    made.catch_up([Feedback(0, (30, 2), 1, ((30, 31, 32), (2, 3, 4)))])
    tree = made.propose([ProposeRow(0, 4, 1, 1)])
    assert tree.tokens[0].tolist() == [30, 31, 32]
    assert tree.confidence[0].tolist() == pytest.approx([0.5, 0.25, 0.25])
    alone = drafter("nasd", num_draft_tokens=1, tree_width=3, ngram_max=1, filler_top_k=0)
    assert alone.needs.top_k == 0
    alone.admit(Admission(0, torch.tensor([1]), 2))
    alone.catch_up([Feedback(0, (30, 2), 1, None)])
    assert alone.propose([ProposeRow(0, 4, 1, 1)]).tokens[0].tolist() == [30]


@pytest.mark.parametrize("method", METHODS)
def test_only_nasd_learns_what_stood_in_the_place_of_the_first_token(method):
    made = drafter(method, num_draft_tokens=1, tree_width=3, **({"ngram_max": 1} if method != "suffix" else {}))
    for row, top_ids in ((0, (9, 8, 7)), (1, None)):
        made.admit(Admission(row, torch.tensor([5]), 9, None, top_ids))
        made.catch_up([Feedback(row, (5,), 0, ((5,),) if made.needs.top_k else None)])
        tree = made.propose([ProposeRow(row, 4, 1, 1)])
        assert tree.tokens[0].tolist() == ([9, 8, 7] if method == "nasd" and top_ids else [9])


@pytest.mark.parametrize("method", METHODS)
def test_scope_none_looks_at_the_output_only(method):
    text = [1, 2, 3, 1]
    assert proposed(drafter(method, draft_memory="none"), text).nodes == 0
    assert proposed(drafter(method, draft_memory="prompt"), text).nodes > 0


def test_ragged_rows_are_padded_and_a_row_without_a_draft_has_no_nodes():
    made = drafter("ngram", num_draft_tokens=3, tree_width=2)
    for row, text in enumerate(([1, 2, 1, 3, 1], [1, 2, 3], [4, 5, 4])):
        made.admit(Admission(row, torch.tensor(text[:-1]), text[-1]))
    tree = made.propose([ProposeRow(row, limit, 1, 0) for row, limit in ((0, 3), (1, 3), (2, 2))])
    assert tree.counts == (6, 0, 2)
    assert tree.valid().tolist() == [[node < count for node in range(6)] for count in tree.counts]
    assert not tree.topology.chain
    assert tree.tokens[2].tolist() == [5, 4, 0, 0, 0, 0]


def test_paths_below_the_floor_are_left_out():
    shares = {(): [(1, 0.6), (2, 0.4)], (1,): [(3, 0.9)], (2,): [(4, 0.5)]}
    trie = grow((), lambda text: shares.get(text, []), depth=3, width=2, floor=0.3)
    assert (trie.tokens, trie.parents, trie.weights) == ([1, 3, 2], [-1, 0, -1], [0.6, 0.9, 0.4])
    tree = to_draft_tree([trie], torch.device("cpu"), confidence=True)
    assert tree.topology.max_depth == 2
