"""The index finds exactly what a search through the whole text finds, and stays within its bound."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specterm.catalogue.method_parameters import TREE_WIDTH
from specterm.decoding.drafters.ngram_index import RANKED, NgramIndex
from specterm.decoding.drafters.suffix import ORDERS

UNBOUNDED = 10**9
RANKINGS = ["recency", "frequency"]

texts = st.integers(1, 12).flatmap(lambda size: st.lists(st.integers(0, size), min_size=1, max_size=60))
orders = st.sampled_from([range(1, 5), range(2, 4), range(3, 4), ORDERS])


def learned(text, orders, ranking, capacity=UNBOUNDED) -> NgramIndex:
    index = NgramIndex(orders, ranking, capacity)
    for place, token in enumerate(text):
        index.learn(text[:place], token)
    return index


def searched(text, end, orders, ranking):
    """What stands after every earlier occurrence of the end, by order, longest first: ranked tokens and counts."""
    found = []
    for order in sorted(orders, reverse=True):
        if order > len(end):
            continue
        tail = end[len(end) - order :]
        after = [text[i] for i in range(order, len(text)) if text[i - order : i] == tail]
        if after:
            counts = Counter(after)
            last = {token: place for place, token in enumerate(after)}
            best = sorted(counts, key=lambda t: (counts[t] if ranking == "frequency" else 0, last[t]), reverse=True)
            found.append((order, best[:RANKED], dict(counts)))
    return found


def known(index, end):
    return [(order, followers.ranked, followers.counts) for order, followers in index.matches(end)]


@pytest.mark.parametrize("ranking", RANKINGS)
@given(text=texts, orders=orders)
def test_matches_are_those_of_a_search(ranking, text, orders):
    index = learned(text, orders, ranking)
    assert known(index, text) == searched(text, text, orders, ranking)


@pytest.mark.parametrize("ranking", RANKINGS)
@given(text=texts, orders=orders, end=st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_any_other_end_is_found_too(ranking, text, orders, end):
    index = learned(text, orders, ranking)
    assert known(index, end) == searched(text, end, orders, ranking)
    found = searched(text, end, orders, ranking)
    shares = [(token, found[0][2][token] / sum(found[0][2].values())) for token in found[0][1]] if found else []
    assert index.likeliest(end) == shares


@given(text=texts, capacity=st.integers(13, 40))  # no context has more followers than there are tokens
def test_the_bound_holds_and_the_latest_stays(text, capacity):
    index = NgramIndex(range(1, 3), "frequency", capacity)
    for place, token in enumerate(text):
        index.learn(text[:place], token)
        assert len(index) <= capacity
        assert len(index) == sum(len(followers.counts) for _, followers in index.items())
        tail = tuple(text[max(0, place - 2) : place])
        if tail:
            assert token in next(index.matches(tail))[1].counts


def test_what_was_learned_from_longest_ago_is_forgotten():
    index = NgramIndex([1], "recency", 3)
    for context, token in ((1, 10), (2, 20), (3, 30), (1, 10), (4, 40)):
        index.add((context,), token)
    assert [context for context, _ in index.items()] == [(3,), (1,), (4,)]


def test_no_tree_is_wider_than_what_is_ranked():
    assert TREE_WIDTH.maximum == RANKED
    index = learned([9, *(token for follower in range(20) for token in (follower + 10, 9))], [1], "recency")
    assert [followers.ranked for _, followers in index.matches([9])] == [[29, 28, 27, 26, 25, 24, 23, 22]]
