"""A plug-in's drafter that does not keep the contract ends the run with one line that names it."""

import dataclasses
import sys

import pytest
import torch
from harness import decode
from tiny_models import save_pair

from specterm.catalogue import METHODS
from specterm.catalogue.plugins import PLUGINS
from specterm.config import ModelSpec
from specterm.decoding.ports import FINAL_NORM
from specterm.decoding.sampling import Warps
from specterm.errors import ConfigError, SpectermError
from specterm.models.loading import load_models
from specterm.plugins import DraftTree, Method, Needs, Plugin, Topology, tree_of_paths

CPU = torch.device("cpu")
VOCAB = 4096
PROMPT = [5, 9, 33, 5, 9]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    folder, _ = save_pair("llama", tmp_path_factory.mktemp("models"))
    return load_models(ModelSpec(target=str(folder), dtype="float64")).target.runner


class Scripted:
    """A drafter whose trees are those that `tree` makes of the rows."""

    max_nodes = 8
    needs = Needs()

    def __init__(self, tree):
        self.tree = tree

    def open(self, rows, capacity): ...
    def admit(self, admission): ...
    def catch_up(self, feedback): ...
    def release(self, row): ...
    def close(self): ...

    def propose(self, rows):
        return self.tree(rows)


@pytest.fixture
def run(target, monkeypatch):
    """Decodes with the drafter that `build` makes."""

    def decoded(build, max_tokens=8, **given):
        plugin = Plugin(Method("mine", "Mine", "Mine."), build)
        monkeypatch.setitem(METHODS, "mine", plugin.method)
        monkeypatch.setitem(PLUGINS, "mine", plugin)
        return decode(target, [PROMPT, PROMPT[:3]], method="mine", batch_size=2, max_tokens=max_tokens, **given)

    return decoded


def chains(*tokens):
    return lambda rows: tree_of_paths([[tokens[: row.limit]] for row in rows], CPU)


def of(parents, tokens=None, **fields):
    """A tree for two rows from parents of draft nodes."""
    topology = Topology.of_parents(torch.tensor([parents]), len(parents))
    told = torch.tensor([tokens or list(range(1, len(parents) + 1))] * 2)
    return DraftTree(topology, told, (len(parents),) * 2, **fields)


def changed(tree, **fields):
    return dataclasses.replace(tree, topology=dataclasses.replace(tree.topology, **fields))


SHALLOW = of([-1, 0])
BAD = {
    "no tree": (lambda: None, "proposed a NoneType; it must be a DraftTree"),
    "rows": (lambda: DraftTree.empty(1, CPU), "proposed trees for 1 rows; there are 2"),
    "nodes": (lambda: of([-1] * 9), "proposed 9 nodes; its max_nodes is 8"),
    "counts": (lambda: dataclasses.replace(SHALLOW, counts=(2, 3)), r"proposed counts \(2, 3\) in a tree of 2 nodes"),
    "shape": (
        lambda: dataclasses.replace(SHALLOW, tokens=torch.zeros(3, 2, dtype=torch.int64)),
        r"tokens of shape \(3, 2\); it must begin with \(2, 2\), rows and nodes",
    ),
    "flat": (lambda: dataclasses.replace(SHALLOW, tokens=torch.tensor([1, 2])), r"proposed tokens of shape \(2,\)"),
    "dtype": (lambda: dataclasses.replace(SHALLOW, tokens=SHALLOW.tokens.float()), "tokens of torch.float32; they mus"),
    "device": (lambda: dataclasses.replace(SHALLOW, tokens=SHALLOW.tokens.to("meta")), "on meta; the target is on cpu"),
    "confidence": (lambda: dataclasses.replace(SHALLOW, confidence=torch.ones(2, 3)), r"confidence of shape \(2, 3\)"),
    "topology": (lambda: dataclasses.replace(SHALLOW, topology=of([-1]).topology), r"a topology of shape \(1, 2\)"),
    "depth": (lambda: of([-1, 0, 1, 2, 3, 4, 5, 6]), "a tree of depth 8 where the limit of the row is 6"),
    "later parent": (
        lambda: changed(SHALLOW, parents=torch.tensor([[0, 2, 0]])),
        "node 1 below node 2; a parent comes",
    ),
    "token": (lambda: of([-1, 0], [3, VOCAB]), f"the token {VOCAB}; the target's are 0 to {VOCAB - 1}"),
    "negative token": (lambda: of([-1, 0], [3, -1]), "the token -1"),
    "twins": (lambda: of([-1, -1, 0], [7, 7, 8]), "the token 7 twice below one node"),
    "mask": (lambda: changed(of([-1, -1]), visible=torch.ones(1, 3, 3, dtype=torch.bool)), "whose depths or visibili"),
    "chain that is none": (lambda: changed(of([-1, -1]), visible=None), "whose depths or visibility are not those"),
    "depths": (lambda: changed(SHALLOW, depth=torch.tensor([[0, 1, 1]])), "whose depths or visibility are not those"),
    "too shallow": (lambda: changed(SHALLOW, max_depth=1), "whose depths or visibility are not those"),
    "too deep": (lambda: changed(SHALLOW, max_depth=3), "whose depths or visibility are not those"),
    "no law": (lambda: dataclasses.replace(SHALLOW, children="sampled"), "sampled children without the q"),
    "drawn": (
        lambda: dataclasses.replace(SHALLOW, children="sampled", q=torch.full((2, 2, VOCAB), 1 / VOCAB)),
        r"sampled children; say so with Method\(..., fixed=False\)",
    ),
    "counts of nothing": (lambda: dataclasses.replace(SHALLOW, counts=None), "failed in propose: TypeError"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_tree_is_told_in_one_line(run, name):
    tree, says = BAD[name]
    with pytest.raises(SpectermError, match=says) as caught:
        run(lambda setup: Scripted(lambda rows: tree()))
    assert str(caught.value).startswith("the drafter mine ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("warps", [Warps(0.0), Warps(0.9)], ids=["greedy", "sampled"])
def test_good_trees_pass_and_change_nothing(run, target, warps):
    naive = decode(target, [PROMPT, PROMPT[:3]], batch_size=2, warps=warps, max_tokens=12)
    known = naive.ids  # a drafter that knows the text and errs now and then

    def build(setup):
        class Knowing(Scripted):
            def admit(self, admission):
                self.at = {**getattr(self, "at", {}), admission.row: 1}

            def catch_up(self, feedback):
                for told in feedback:
                    self.at[told.row] += len(told.emitted)

        def tree(rows):
            paths = []
            for row in rows:
                right = known[row.row][knowing.at[row.row] :][: min(3, row.limit)]
                wrong = [*right[:1], (right[1] + 1) % VOCAB] if len(right) > 1 else [7]
                paths.append([right, wrong] if row.limit else [])
            return tree_of_paths(paths, setup.target.device)

        knowing = Knowing(tree)
        return knowing

    drafted = run(build, warps=warps, max_tokens=12)
    assert drafted.ids == known
    assert drafted.states.count("accepted") > 8
    assert any(part.parents not in ((), (-1,), (-1, 0), (-1, 0, 1)) for part in drafted.rounds)
    refused = run(lambda setup: Scripted(chains(1, 2, 3)), warps=warps, max_tokens=12)
    assert refused.ids == known
    assert "rejected" in refused.states


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda setup: 1 // 0, r"failed in build: ZeroDivisionError: .* \(test_checked_drafter.py:\d+\)"),
        (lambda setup: object(), r"has no method open\(\); see specterm.plugins.Drafter"),
        (lambda setup: made(max_nodes=-1), "has no max_nodes; set it to the most nodes"),
        (lambda setup: made(needs=None), "needs None; it must be Needs of at most 4096 tokens"),
        (lambda setup: made(needs=Needs(top_k=5000)), r"needs Needs\(top_k=5000"),
        (lambda setup: made(needs=Needs(taps=(0, 3, FINAL_NORM))), "needs the tap 3; the target has taps 0 to 2 and"),
        (lambda setup: made(catch_up=lambda feedback: {}[3]), "failed in catch_up: KeyError: 3"),
        (lambda setup: made(admit=lambda: 3), "failed in admit: TypeError"),
        (lambda setup: made(propose=lambda rows: sys.exit(5)), "failed in propose: SystemExit: 5"),
        (lambda setup: made(release=lambda row: [].pop()), "failed in release: IndexError: pop from empty list"),
    ],
)
def test_a_drafter_that_fails_is_named(run, build, says):
    with pytest.raises(SpectermError, match=says) as caught:
        run(build)
    assert str(caught.value).startswith("the drafter mine ")
    assert "\n" not in str(caught.value)


def test_what_a_drafter_says_to_a_person_is_left_as_it_is(run):
    def build(setup):
        raise ConfigError("--mine is 3; it must be odd... no, even")

    with pytest.raises(ConfigError, match=r"^--mine is 3"):
        run(build)


def made(**changes):
    drafter = Scripted(chains(1, 2))
    for name, value in changes.items():
        setattr(drafter, name, value)
    return drafter
