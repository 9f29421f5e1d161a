"""A tree in one forward pass is each of its paths alone; what is kept of it is what was fed."""

import pytest
import torch
from feeding import chain, from_scratch, random_ids, slots
from harness import decode
from transformers import AutoModelForCausalLM

from specterm.config import ModelSpec
from specterm.decoding.ports import Block
from specterm.decoding.prefill import prefill
from specterm.decoding.sampling import Warps
from specterm.decoding.tree import Topology
from specterm.events import Round
from specterm.models.loading import load_models
from specterm.models.runners.causal_lm import CausalLMRunner

# Parents of the draft nodes (-1: the root). The second tree is deep, so a sliding window of 12 ends inside its block.
TREES = [[-1, -1, 0, 0, 1, 2, 4, 2, 6, 3, -1, 8, 11], [-1, 0, 0, 1, 3, 4, 5, 2, 6, 8, 9, 10, 11]]
CONTEXTS = [random_ids(20, 11), random_ids(5, 12)]
KINDS = ["llama", "qwen3", "mistral-sliding", "gpt2", "gemma3"]
CLOSE = {"atol": 1e-9, "rtol": 1e-9}


def runner_of(kind, folder):
    if kind != "llama as transformers":
        return load_models(ModelSpec(target=str(folder), dtype="float64")).target.runner
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    return CausalLMRunner(model, torch.device("cpu"), 256)


def path_to(tree: list[int], node: int) -> list[int]:
    """Block indices (the root is 0) from the root down to draft node `node`."""
    path = []
    while node >= 0:
        path.append(node + 1)
        node = tree[node]
    return [0, *reversed(path)]


@pytest.mark.parametrize("kind", [*KINDS, "llama as transformers"])
def test_a_tree_is_its_paths(kind, saved_pair):
    runner = runner_of(kind, saved_pair(kind.split()[0])[0])
    width = len(TREES[0]) + 1
    runner.allocate(3, 64)
    rows, starts = (0, 2), tuple(len(ids) for ids in CONTEXTS)
    for row, ids in zip(rows, CONTEXTS, strict=True):
        prefill(runner, row, torch.tensor(ids))
    tokens = [random_ids(width, 13), random_ids(width, 14)]
    depths = [max(len(path_to(tree, n)) for n in range(len(tree))) - 1 for tree in TREES]
    topology = Topology.of_parents(torch.tensor(TREES), max(depths))
    got = runner.forward(Block(rows, starts, torch.tensor(tokens), topology))

    grown = [
        runner.forward(Block(rows, starts, torch.tensor(tokens)[:, begin:end], topology, begin))
        for begin, end in ((0, 1), (1, 5), (5, width))
    ]
    torch.testing.assert_close(torch.cat(grown, dim=1), got, **CLOSE)

    for index, (tree, ids) in enumerate(zip(TREES, CONTEXTS, strict=True)):
        for node in range(-1, len(tree)):
            path = path_to(tree, node)
            alone = chain(runner, (1,), (0,), [[*ids, *(tokens[index][i] for i in path)]])
            torch.testing.assert_close(got[index, path[-1]], alone[0, -1], **CLOSE)

    # Keep one path of each, and go on behind it.
    runner.forward(Block(rows, starts, torch.tensor(tokens), topology))
    paths = [path_to(TREES[0], 12), path_to(TREES[1], 7)]
    longest = max(map(len, paths))
    padded = torch.tensor([path + path[-1:] * (longest - len(path)) for path in paths])
    runner.compact(rows, starts, padded)
    kept = [[*ids, *(tokens[i][n] for n in paths[i])] for i, ids in enumerate(CONTEXTS)]
    behind = [random_ids(4, 15), random_ids(4, 16)]
    got = chain(runner, rows, [len(ids) for ids in kept], behind)
    for index, row in enumerate(rows):
        whole = kept[index] + behind[index]
        torch.testing.assert_close(slots(runner, row, len(whole)), from_scratch(runner, whole), **CLOSE)
        alone = chain(runner, (1,), (0,), [whole])
        torch.testing.assert_close(got[index], alone[0, -4:], **CLOSE)


@pytest.mark.parametrize("warps", [Warps(0.0), Warps(0.8)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("kind", KINDS)
def test_kv_after_rollback_is_kv_from_scratch(kind, warps, saved_pair):
    target_folder, draft_folder = saved_pair(kind)
    models = load_models(ModelSpec(target=str(target_folder), drafts=(str(draft_folder),), dtype="float64"))
    target, draft = models.target.runner, models.drafts[0].runner
    prompts = [random_ids(n, n) for n in (19, 3, 8)]
    decoded = decode(
        target, prompts, method="draft", drafts=[draft], warps=warps, max_tokens=30, batch_size=3, seeds=[1, 2, 3]
    )
    assert {"accepted", "rejected"} <= set(decoded.states)
    for row, prompt in enumerate(prompts):
        output = decoded.ids[row]
        committed = [*prompt, *output[:-1]]  # the last token needs no forward pass
        torch.testing.assert_close(slots(target, row, len(committed)), from_scratch(target, committed), **CLOSE)
        seen = drafted_prefix(decoded.events, row, len(prompt))
        assert seen > len(prompt) + 15
        committed = committed[:seen]
        torch.testing.assert_close(slots(draft, row, len(committed)), from_scratch(draft, committed), **CLOSE)


def drafted_prefix(events, row: int, prompt: int) -> int:
    """How many true tokens the draft must have forwarded: all up to the root of its last draft, and what was kept of
    that draft but for its last token, which it drew and never fed."""
    length, seen = prompt + 1, 0
    for event in events:
        for part in event.rows if isinstance(event, Round) else ():
            if part.row == row:
                if part.tokens:
                    seen = length + min(part.states.count("accepted"), len(part.tokens) - 1)
                length += len(part.emitted)
    return seen
