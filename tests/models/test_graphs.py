"""Passes of settled shapes are those of no settled shape; and on a GPU, so are their graphs."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from feeding import chain, random_ids, slots
from harness import decode

from specterm.config import ModelSpec
from specterm.decoding.ports import FINAL_NORM, Block, Recording
from specterm.decoding.prefill import prefill
from specterm.decoding.tree import Topology
from specterm.models.heads.feature_heads import FeatureHeads
from specterm.models.loading import load_models
from specterm.models.runners import graphs
from specterm.models.runners.graphs import ForwardGraphs, reach

WITHOUT = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
GPU = pytest.param("cuda", marks=[pytest.mark.gpu, WITHOUT])
CONTEXTS = [random_ids(37, 1), random_ids(11, 2)]
TREES = [[-1, -1, 0, 0, 1, 2], [-1, 0, 0, 1, 3, 4]]


class Repeats:
    """Stands for CUDA's graphs: computes again. Counts what was captured."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, run):
        self.count += 1
        return run


def pair(folder, device):
    """The same model without and with graphs, both with two prompts in rows 1 and 2 of their caches."""
    dtype = "float64" if device == "cpu" else "float32"
    runners = [load_models(ModelSpec(target=str(folder), dtype=dtype, device=device)).target.runner for _ in range(2)]
    plain, captured = runners
    plain._graphs = None
    if device == "cpu":
        repeats = Repeats()
        captured._graphs = ForwardGraphs(captured._captured, captured.device, captured.max_positions, repeats)
    for runner in runners:
        runner.allocate(3, 400)
        for row, ids in enumerate(CONTEXTS, 1):
            prefill(runner, row, torch.tensor(ids))
    captured._graphs._passes.clear()  # prompts this short have some too
    if device == "cpu":
        repeats.count = 0
    return plain, captured


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-9 if a.dtype == torch.float64 else 1e-3, rtol=1e-5)


def captures(runner) -> int:
    return len(runner._graphs._passes)


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_every_shape_gives_what_it_gives_without(kind, device, saved_pair):
    plain, captured = pair(saved_pair(kind)[0], device)
    starts = tuple(map(len, CONTEXTS))
    shared = Topology.of_parents(torch.tensor(TREES[:1], device=device), 3)
    own = Topology.of_parents(torch.tensor(TREES, device=device), 5)
    ids = torch.tensor([random_ids(7, 3), random_ids(7, 4)], device=device)
    for repeat in range(2):  # the second time from what was captured
        for rows, begin in (((1,), (starts[0],)), ((1, 2), starts), ((1, 2), tuple(s + 3 + repeat for s in starts))):
            for width in (1, 5):
                fed = ids[: len(rows), :width].tolist()
                close(chain(captured, rows, begin, fed), chain(plain, rows, begin, fed))
            for topology in (shared, own) if len(rows) == 2 else (shared,):
                whole = Block(rows, begin, ids[: len(rows)], topology)
                close(captured.forward(whole), plain.forward(whole))
                later = Block(rows, begin, ids[: len(rows), 4:], topology, first=4)
                close(captured.forward(later, [1] * len(rows)), plain.forward(later, [1] * len(rows)))
        taps = (0, 1, FINAL_NORM)
        whole = Block((1, 2), starts, ids, own)
        for a, b in zip(captured.forward_tapped(whole, taps), plain.forward_tapped(whole, taps), strict=True):
            close(a, b)
        for row, start in zip((1, 2), starts, strict=True):
            close(slots(captured, row, start + 7), slots(plain, row, start + 7))
    assert captured._graphs.refused is None
    # Chains of 1 and 5, the trees, what follows in them, and the taps; by the number of rows.
    assert captures(captured) == (2 + 2) + (2 + 4) + 1


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_chain_is_its_steps(device, saved_pair):
    plain, captured = pair(saved_pair("llama")[0], device)
    root = Topology.of_chain(0, plain.device)
    starts = tuple(map(len, CONTEXTS))
    for first in (5, 9):
        fed = torch.tensor([[first], [first + 1]], device=device)
        found = captured.chain(Block((1, 2), starts, fed, root), 4, plain.vocab_size)
        assert found is not None
        for step in range(4):
            logits = plain.forward(Block((1, 2), tuple(s + step for s in starts), fed, root))[:, 0]
            close(found[1][:, step], logits)
            fed = logits.argmax(dim=-1, keepdim=True)
            assert found[0][:, step].tolist() == fed[:, 0].tolist()
    assert plain.chain(Block((1, 2), starts, fed, root), 4, plain.vocab_size) is None


def test_an_early_exit_has_graphs_of_its_own(saved_pair):
    plain, captured = pair(saved_pair("llama")[0], "cpu")
    for ids in ([[3]], [[4]]):
        close(chain(captured.early_exit(1), (1,), (37,), ids), chain(plain.early_exit(1), (1,), (37,), ids))
        close(chain(captured, (1,), (37,), ids), chain(plain, (1,), (37,), ids))
    assert captures(captured) == 2


def test_graphs_end_with_the_cache_that_they_are_of(saved_pair):
    plain, captured = pair(saved_pair("llama")[0], "cpu")
    assert chain(captured, (1,), (37,), [[3]]).shape == (1, 1, plain.vocab_size)
    for runner in (plain, captured):
        runner.allocate(4, 600)
    close(chain(captured, (1,), (37,), [[3]]), chain(plain, (1,), (37,), [[3]]))
    assert captures(captured) == 1
    with pytest.raises(ValueError, match="beyond the cache"):
        chain(captured, (1,), (640,), [[3]])
    buffer = weakref.ref(captured.cache._layers[0][0])
    assert buffer() is not None
    captured.release()
    gc.collect()
    assert buffer() is None
    assert captures(captured) == 0


def test_old_graphs_make_room(saved_pair, monkeypatch):
    monkeypatch.setattr(graphs, "MOST", 2)
    plain, captured = pair(saved_pair("llama")[0], "cpu")
    for width in (1, 2, 1, 3, 1):
        fed = [random_ids(width, width)]
        close(chain(captured, (1,), (37,), fed), chain(plain, (1,), (37,), fed))
    assert captures(captured) == 2
    assert captured._graphs._capture.count == 3  # the one of a single token was used too often to go


@pytest.mark.parametrize("fault", ["capture", "numbers"])
def test_what_cannot_be_captured_runs_without_and_says_so(fault, saved_pair):
    plain, captured = pair(saved_pair("llama")[0], "cpu")

    def capture(run):
        if fault == "capture":
            raise RuntimeError("operation not permitted when stream is capturing\nand much more")
        return lambda: tuple(made + 1.0 for made in run())

    captured._graphs._capture = capture
    for ids in ([[3]], [[4]]):
        close(chain(captured, (1,), (37,), ids), chain(plain, (1,), (37,), ids))
    told = {"capture": "operation not permitted when stream is capturing", "numbers": "a graph computes other numbers"}
    assert captured._graphs.refused.startswith(told[fault])
    assert captures(captured) == 0


def test_what_has_no_graph_runs_without(saved_pair):
    plain, captured = pair(saved_pair("llama")[0], "cpu")
    wide = [random_ids(graphs.WIDEST + 1, 8)]
    close(chain(captured, (1,), (37,), wide), chain(plain, (1,), (37,), wide))
    apart = [[3], [4]]
    close(chain(captured, (0, 2), (0, 11), apart), chain(plain, (0, 2), (0, 11), apart))
    assert captures(captured) == 0


def test_the_reaches_are_few():
    assert [reach(end, 10_000) for end in (1, 256, 257, 384, 385, 513, 9000)] == [256, 256, 384, 384, 512, 768, 10_000]
    assert len({reach(end, 131_072) for end in range(1, 131_072, 7)}) == 19


def test_a_draft_in_one_piece_gives_the_same_output(saved_pair):
    target, draft = saved_pair("llama")
    models = load_models(ModelSpec(target=str(target), drafts=(str(draft),), dtype="float64"))
    runner = models.drafts[0].runner
    prompts = [random_ids(20, 5), random_ids(9, 6)]

    def run(record):
        return decode(
            models.target.runner, prompts, method="draft", drafts=[runner], max_tokens=24, batch_size=2, record=record
        )

    for record in (Recording(), Recording(probs=True, alternatives=2)):
        runner._graphs = None
        plain = run(record)
        runner._graphs = ForwardGraphs(runner._captured, runner.device, runner.max_positions, Repeats())
        found = run(record)
        assert any(shape.steps == 3 for shape in runner._graphs._passes)
        assert found.ids == plain.ids
        assert found.states == plain.states
        confidences = [[c for part in each.rounds for c in part.confidence or ()] for each in (found, plain)]
        assert confidences[0] == pytest.approx(confidences[1], rel=1e-9)
        assert bool(confidences[0]) == record.probs


@pytest.fixture(scope="module")
def heads():
    """The built-in heads by kind, twice, and their targets: of the second ones passes are captured."""
    sides = []
    for captured in (False, True):
        models = load_models(ModelSpec(eagle="builtin", eagle3="builtin", dtype="float64"))
        for made in models.heads.values() if captured else ():
            if isinstance(made, FeatureHeads):
                made._graphs = ForwardGraphs(made._captured, made.device, made.max_positions, Repeats())
        sides.append(models)
    return sides


@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
def test_heads_give_what_they_give_without(heads, kind):
    plain, captured = (models.heads[kind] for models in heads)
    both = plain, captured
    shape = (2, 9, plain.hidden_size)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ids = torch.tensor([random_ids(9, 3), random_ids(9, 4)])
    for made in both:
        made.release()
        made.allocate(3, 300)
        made.forward(Block((1, 2), (0, 0), ids, Topology.of_chain(8, made.device)), features)
    tree = Topology.of_parents(torch.tensor(TREES), 5)
    for starts in ((9, 9), (9, 7), (8, 9)):  # the later ones from what was captured
        blocks = [
            (Block((1, 2), starts, ids[:, :1], Topology.of_chain(0, plain.device)), None),
            (Block((1, 2), starts, ids[:, :4], Topology.of_chain(3, plain.device)), [1, 3]),
            (Block((1, 2), starts, ids[:, :4], tree, first=3), None),
            (Block((2,), starts[1:], ids[:1, :4], Topology.of_chain(3, plain.device)), [2]),
        ]
        for block, last in blocks:
            fed = features[: len(block.rows), : block.width]
            for a, b in zip(*(made.forward(block, fed, last) for made in both), strict=True):
                close(a, b)
                assert a.shape == b.shape
        for row in (1, 2):
            close(slots(captured, row, starts[row - 1] + 4), slots(plain, row, starts[row - 1] + 4))
    assert captured._graphs.refused is None
    # The forward passes in the order above; the first of all made the cache's layers.
    assert captures(captured) == captured._graphs._capture.count == 4
    captured.release()
    assert captures(captured) == 0


@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
def test_drafts_of_captured_heads_are_those_of_others(heads, kind):
    prompts = [random_ids(20, 5), random_ids(9, 6)]
    plain, found = (
        decode(
            models.target.runner, prompts, method=kind, heads=models.heads, max_tokens=24, batch_size=2, tree_nodes=7
        )
        for models in heads
    )
    assert heads[1].heads[kind]._graphs._passes
    assert found.ids == plain.ids
    assert [part.tokens for part in found.rounds] == [part.tokens for part in plain.rounds]
    assert {"accepted", "rejected"} <= set(found.states)


def test_heads_whose_passes_cannot_be_captured_say_so(heads):
    captured = heads[1].heads["eagle"]
    graphs, captured._graphs = captured._graphs, ForwardGraphs(
        captured._captured, captured.device, captured.max_positions, lambda run: lambda: tuple(x + 1.0 for x in run())
    )  # fmt: skip
    try:
        decode(heads[1].target.runner, [random_ids(9, 6)], method="eagle", heads=heads[1].heads, max_tokens=6)
        assert captured.remark().startswith("CUDA graphs are not used: a graph computes other numbers")
    finally:
        captured._graphs = graphs
    assert captured.remark() is None
