"""What EAGLE proposes and what its cache holds, against a plain model that computes everything from scratch."""

from math import prod

import pytest
import torch
from feature_models import Pair, PlainEagle

from specterm.decoding.drafters import DRAFTERS
from specterm.decoding.drafters.eagle import Eagle
from specterm.decoding.drafters.memory import DraftMemory
from specterm.decoding.drafters.rank_paths import static_paths
from specterm.decoding.drafters.setup import DraftSetup
from specterm.decoding.ports import Admission, Feedback, ProposeRow, Recording
from specterm.decoding.sampling import Warps
from specterm.events import Calibration

VOCAB, TARGET = 50, 7


class Target:
    vocab_size = VOCAB


class Text:
    """A text that goes on as the test wants, with made-up hidden states of a target."""

    def __init__(self, row: int, length: int, random: torch.Generator) -> None:
        self.row, self._random = row, random
        self.tokens = torch.randint(0, VOCAB, (length + 1,), generator=random).tolist()  # the last one is the root
        self.states = self._new(length)

    def _new(self, count: int) -> torch.Tensor:
        return torch.randn((count, 2 * TARGET), generator=self._random, dtype=torch.float64)

    def admit(self, drafter: Eagle) -> None:
        drafter.admit(Admission(self.row, torch.tensor(self.tokens[:-1]), self.tokens[-1], self.states))

    def go_on(self, accepted: list[int]) -> Feedback:
        """`accepted` and a token of the target's own are emitted."""
        emitted = [*accepted, int(torch.randint(0, VOCAB, (1,), generator=self._random))]
        states = self._new(len(emitted))
        self.tokens += emitted
        self.states = torch.cat([self.states, states])
        return Feedback(self.row, tuple(emitted), len(accepted), taps=states)

    def pairs(self, model: PlainEagle) -> list[Pair]:
        features = model.fuse(self.states)
        return [
            Pair(token, feature, i) for i, (token, feature) in enumerate(zip(self.tokens[1:], features, strict=True))
        ]


def build(model: PlainEagle, costs=None, shown=0, **parameters) -> Eagle:
    usual = {"head_tree": "dynamic", "tree_width": 3, "tree_depth": 3, "tree_nodes": 10, "adaptive": False}
    parameters = usual | parameters
    setup = DraftSetup(
        Target(), (), Warps(0.0), Recording(probs=True, alternatives=shown), parameters, DraftMemory(), costs,
        {"eagle3": model},
    )  # fmt: skip
    return DRAFTERS["eagle3"](setup)


def continuations(model: PlainEagle, pairs: list[Pair]) -> tuple[list[tuple[int, float]], torch.Tensor]:
    """Every token after `pairs`, the likeliest first, with its probability; and the feature."""
    logits, feature = model.after(pairs)
    ids = range(VOCAB) if model.token_ids is None else model.token_ids.tolist()
    chances = torch.softmax(logits.float(), dim=0).tolist()
    return sorted(zip(ids, chances, strict=True), key=lambda said: -said[1]), feature


def beam(model: PlainEagle, text: Text, width: int, depth: int) -> dict[tuple[int, ...], float]:
    """Every candidate of a beam and its score, path by path, with no cache and no tree."""
    scores: dict[tuple[int, ...], float] = {}
    going = [((), 1.0, text.pairs(model))]
    for _ in range(depth):
        level = []
        for path, score, pairs in going:
            said, feature = continuations(model, pairs)
            for token, chance in said[:width]:
                child = Pair(token, feature, pairs[-1].position + 1)
                level.append(((*path, token), score * chance, [*pairs, child]))
        scores |= {path: score for path, score, _ in level}
        going = sorted(level, key=lambda end: -end[1])[:width]
    return scores


def proposed(tree, place: int) -> dict[tuple[int, ...], float]:
    """The nodes of one row by their paths, and the products of their confidences."""
    paths: list[tuple[int, ...]] = [()]
    chances: list[tuple[float, ...]] = [()]
    own = place if tree.topology.parents.shape[0] > 1 else 0
    for node in range(tree.counts[place]):
        parent = int(tree.topology.parents[own, node + 1])
        paths.append((*paths[parent], int(tree.tokens[place, node])))
        chances.append((*chances[parent], float(tree.confidence[place, node])))
    assert len(set(paths)) == len(paths)
    return {path: prod(own) for path, own in zip(paths[1:], chances[1:], strict=True)}


def likeliest(scores: dict[tuple[int, ...], float], count: int) -> dict[tuple[int, ...], float]:
    return dict(sorted(scores.items(), key=lambda node: -node[1])[:count])


def check(model: PlainEagle, drafter: Eagle, texts: list[Text], limits: list[int], width=3, depth=3, nodes=10) -> list:
    tree = drafter.propose([ProposeRow(t.row, limit, 0, 0) for t, limit in zip(texts, limits, strict=True)])
    found = [proposed(tree, place) for place in range(len(texts))]
    for text, limit, own in zip(texts, limits, found, strict=True):
        assert own == pytest.approx(likeliest(beam(model, text, width, min(limit, depth)), nodes))
        for i, pair in enumerate(text.pairs(model)):  # the cache holds the text with the target's features
            kept = model.pairs[text.row, i]
            assert (kept.token, kept.position) == (pair.token, i)
            torch.testing.assert_close(kept.feature, pair.feature)
    return found


def path_of(own: dict[tuple[int, ...], float], depth: int) -> list[int]:
    """A proposed path of that depth."""
    return list(next(path for path in own if len(path) == depth))


@pytest.mark.parametrize("token_ids", [None, torch.arange(VOCAB - 1, 0, -3)], ids=["whole", "truncated"])
@pytest.mark.parametrize(("width", "depth", "nodes"), [(3, 3, 10), (1, 4, 4), (4, 2, 20)])
def test_trees_are_beams_of_the_true_text(width, depth, nodes, token_ids):
    """Round after round, with ragged rows, refusals, full acceptance, and a row that is replaced."""
    random = torch.Generator().manual_seed(5)
    model = PlainEagle(VOCAB, TARGET, token_ids=token_ids)
    drafter = build(model, tree_width=width, tree_depth=depth, tree_nodes=nodes)
    drafter.open(3, 60)
    texts = [Text(row, length, random) for row, length in enumerate((1, 9, 4))]
    for text in texts:
        text.admit(drafter)
    for accepted in ([0, 0, 0], [1, 0, 2], [2, 2, 2], [depth, 1, depth]):
        found = check(model, drafter, texts, [9] * 3, width, depth, nodes)
        assert all(max(map(len, own)) == depth for own in found)
        kept = [path_of(own, count) if count else [] for own, count in zip(found, accepted, strict=True)]
        drafter.catch_up([text.go_on(path[:count]) for text, path, count in zip(texts, kept, accepted, strict=True)])
    drafter.release(1)
    texts[1] = Text(1, 5, random)
    texts[1].admit(drafter)
    check(model, drafter, texts, [9, 9, 9], width, depth, nodes)
    drafter.catch_up([text.go_on([]) for text in texts])
    check(model, drafter, [texts[2], texts[0]], [1, 2], width, depth, nodes)


def test_rows_without_use_for_a_draft_have_none():
    random = torch.Generator().manual_seed(6)
    model = PlainEagle(VOCAB, TARGET)
    drafter = build(model)
    drafter.open(3, 60)
    texts = [Text(row, 4 + row, random) for row in range(3)]
    for text in texts:
        text.admit(drafter)
    tree = drafter.propose([ProposeRow(t.row, limit, 0, 0) for t, limit in zip(texts, (0, 3, 1), strict=True)])
    assert tree.counts == (0, 10, 3)
    drafter.catch_up([text.go_on([]) for text in texts])
    check(model, drafter, texts, [3, 3, 3])


def test_after_a_pause_the_buffered_features_are_forwarded(monkeypatch):
    """While nothing is proposed nothing is forwarded; then all of it is, in chunks."""
    monkeypatch.setattr("specterm.decoding.prefill.CHUNK_TOKENS", {"cpu": 3})
    random = torch.Generator().manual_seed(7)
    model = PlainEagle(VOCAB, TARGET)
    drafter = build(model)
    drafter.open(2, 60)
    texts = [Text(0, 4, random), Text(1, 8, random)]
    for text in texts:
        text.admit(drafter)
    check(model, drafter, texts, [3, 3])
    for pause in range(7):
        drafter.catch_up([text.go_on([1] * (pause % 3)) for text in texts])
        drafter.catch_up([texts[0].go_on([])])
    check(model, drafter, texts, [3, 3])


def test_a_prompt_beyond_the_models_context():
    random = torch.Generator().manual_seed(8)
    model = PlainEagle(VOCAB, TARGET, max_positions=10)
    drafter = build(model, tree_depth=4)
    drafter.open(3, 60)
    texts = [Text(0, 11, random), Text(1, 10, random), Text(2, 8, random)]
    for text in texts:
        text.admit(drafter)
    rows = [ProposeRow(text.row, 9, 0, 0) for text in texts]
    tree = drafter.propose(rows)
    assert [max(map(len, proposed(tree, place)), default=0) for place in range(3)] == [0, 1, 3]
    drafter.catch_up([text.go_on([]) for text in texts])
    assert drafter.propose(rows).counts == (0, 0, 10)


@pytest.mark.parametrize("limit", [4, 2])
def test_static_trees_have_the_same_ranks_in_every_round(limit):
    random = torch.Generator().manual_seed(9)
    model = PlainEagle(VOCAB, TARGET)
    drafter = build(model, head_tree="static", tree_width=3, tree_depth=4, tree_nodes=11)
    paths = static_paths(4, 3, 11, fading=1.0)
    assert max(map(len, paths)) == 4
    assert any(path.count(0) < len(path) > 1 for path in paths)
    drafter.open(2, 60)
    texts = [Text(0, 3, random), Text(1, 6, random)]
    for text in texts:
        text.admit(drafter)
    for _ in range(2):
        tree = drafter.propose([ProposeRow(text.row, limit, 0, 0) for text in texts])
        for place, text in enumerate(texts):
            expected = {}
            for path in paths:
                if len(path) <= limit:
                    pairs, score = text.pairs(model), 1.0
                    for rank in path:
                        said, feature = continuations(model, pairs)
                        pairs.append(Pair(said[rank][0], feature, pairs[-1].position + 1))
                        score *= said[rank][1]
                    expected[tuple(pair.token for pair in pairs[len(text.pairs(model)) :])] = score
            assert proposed(tree, place) == pytest.approx(expected)
        drafter.catch_up([text.go_on([1]) for text in texts])


def test_alternatives_are_what_the_model_says_there():
    random = torch.Generator().manual_seed(10)
    model = PlainEagle(VOCAB, TARGET, token_ids=torch.arange(VOCAB - 1, 0, -3))
    text = Text(0, 5, random)
    for parameters in ({}, {"head_tree": "static"}):
        drafter = build(model, shown=6, **parameters)
        drafter.open(1, 60)
        text.admit(drafter)
        tree = drafter.propose([ProposeRow(0, 9, 0, 0)])
        ids, chances = tree.alternatives
        paths = [(), *proposed(tree, 0)]
        expanded = 0
        for node, path in enumerate(paths):
            if not chances[0, node].any():
                assert not any(other[:-1] == path for other in paths[1:])
                continue
            pairs = text.pairs(model)
            for token in path:
                pairs.append(Pair(token, model.after(pairs)[1], pairs[-1].position + 1))
            said, _ = continuations(model, pairs)
            assert ids[0, node].tolist() == [token for token, _ in said[:6]]
            assert chances[0, node].tolist() == pytest.approx([chance for _, chance in said[:6]])
            expanded += 1
        assert 3 < expanded < len(paths)


def test_calibrated_costs_choose_the_nodes():
    def nodes(per_token: float) -> int:
        costs = Calibration({width: 1.0 + per_token * width for width in (1, 5, 17)}, (), 64)
        model = PlainEagle(VOCAB, TARGET)
        drafter = build(model, costs, tree_nodes=None, tree_depth=4)
        assert drafter.max_nodes == 3 + 3 * 9
        drafter.open(1, 60)
        text = Text(0, 5, torch.Generator().manual_seed(1))
        text.admit(drafter)
        return drafter.propose([ProposeRow(0, 9, 0, 0)]).counts[0]

    assert nodes(1e-9) == 30
    assert 1 <= nodes(10.0) < 8
