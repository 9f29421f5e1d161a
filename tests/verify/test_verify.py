"""`--verify` on the built-in models: what passes, what is refuted where a rule or a drafter is wrong."""

import dataclasses
import json

import pytest
import torch
from rule_trials import altered

from specterm.cli import main
from specterm.config import MethodSpec, ModelSpec, SamplingSpec
from specterm.console.verify import as_document
from specterm.decoding.acceptance import RULES
from specterm.decoding.acceptance.exact import Exact
from specterm.decoding.drafters import draft_model
from specterm.decoding.sampling import Purpose, draw, probabilities, purpose_keys, uniforms
from specterm.engine.local import LocalEngine
from specterm.errors import ConfigError, ExitCode
from specterm.verify import law, outputs
from specterm.verify.plan import VerifySpec, checks, pairs
from specterm.verify.run import verify

DRAFT = MethodSpec(name="draft")


@pytest.fixture(scope="module")
def engine():
    engine = LocalEngine()
    yield engine
    engine.close()


def run(engine, *methods: MethodSpec, rules=("exact",), **given):
    spec = VerifySpec(methods=methods, rules=rules, sampling=SamplingSpec(**given))
    return verify(engine, spec, lambda at: None)


@pytest.fixture
def coarse(monkeypatch):
    """Sees a total variation of 0.12, with a sixteenth of the rows, after one prompt; a few tokens of two prompts."""
    monkeypatch.setattr(law, "DISTANCE", 0.12)
    monkeypatch.setattr(law, "_PROMPTS", 1)
    monkeypatch.setattr(outputs, "_PROMPTS", 2)
    monkeypatch.setattr(outputs, "_TOKENS", 48)


def test_lossless_rules_pass(engine, coarse):
    tree = MethodSpec(name="tree", parameters={"tree_children": "sampled"})
    chains = run(engine, DRAFT, rules=("exact", "block"))
    looked_up = run(engine, MethodSpec(name="ngram"), rules=("exact", "top-p"), temperature=0.4)
    trees = run(engine, tree, rules=("exact", "top-p"))
    assert chains.complete
    assert chains.exit_code == trees.exit_code == ExitCode.OK
    told = {
        (r.method.split()[0], r.acceptance, r.check): r for r in (*chains.results, *looked_up.results, *trees.results)
    }
    assert set(told) == {
        ("draft", ("exact",), "greedy"), ("draft", ("block",), "greedy"), ("tree", ("exact", "top-p"), "greedy"),
        ("ngram", ("exact", "top-p"), "greedy"), ("ngram", ("exact", "top-p"), "seeds"),
        ("draft", ("exact",), "law"), ("draft", ("block",), "law"), ("tree", ("exact", "top-p"), "law"),
    }  # fmt: skip
    for (_, _, check), result in told.items():
        assert result.result == ("same_law" if check == "law" else "identical"), result
        assert min(result.drafted, result.accepted, result.rejected) > 0
        assert result.lossless
        if check == "law":
            assert result.rows > 200
            assert result.statistic < result.critical
            assert result.total_variation < 3 * result.chance_variation


class FreshDraw(Exact):
    """A deliberate error: after a refusal the token is drawn from the target's law, not from what is left of it."""

    def verify(self, tree, logits, judging):
        right = super().verify(tree, logits, judging)
        if judging.warps.greedy or not tree.nodes:
            return right
        at = probabilities(logits, judging.warps)[torch.arange(len(logits)), right.path[:, -1]]
        index = torch.tensor(judging.rounds).unsqueeze(1) + 12345
        fresh = draw(at, uniforms(purpose_keys(judging.keys, Purpose.RESIDUAL, at.device), index).squeeze(1))
        refused = (right.states == 1).any(dim=1)
        return altered(right, next_token=torch.where(refused, fresh, right.next_token))


def test_a_wrong_rule_is_refuted(engine, monkeypatch, coarse):
    monkeypatch.setitem(RULES, "exact", FreshDraw)
    found = run(engine, DRAFT)
    results = {r.check: r for r in found.results}
    assert results["greedy"].result == "identical"
    assert results["law"].result == "different"
    assert results["law"].statistic > results["law"].critical
    assert found.exit_code == ExitCode.RUN_FAILED


def test_a_preset_that_is_not_what_it_is_a_preset_of_is_refuted(engine, monkeypatch, coarse):
    monkeypatch.setitem(RULES, "temperature", lambda acceptance_temperature: FreshDraw())
    found = run(engine, DRAFT, rules=("exact", "temperature"))
    result = found.results[-1]
    assert (result.check, result.acceptance, result.result) == ("law", ("exact", "temperature"), "different")
    assert result.statistic < result.critical
    assert "temperature says something else" in result.note


class TakesTheSecond(Exact):
    """A deliberate error: in greedy decoding the target's second choice follows a refusal."""

    def verify(self, tree, logits, judging):
        right = super().verify(tree, logits, judging)
        if not tree.nodes:
            return right
        second = logits[torch.arange(len(logits)), right.path[:, -1]].topk(2).indices[:, 1]
        refused = (right.states == 1).any(dim=1)
        return altered(right, next_token=torch.where(refused, second, right.next_token))


def test_wrong_greedy_output_is_refuted_with_its_place(engine, monkeypatch, capsys):
    monkeypatch.setitem(RULES, "exact", TakesTheSecond)
    assert main(["--verify", "--method", "ngram", "--acceptance", "exact", "--temperature", "0"]) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT" in out
    assert "1 FAILED" in out
    found = run(engine, MethodSpec(name="ngram"), temperature=0.0)
    (result,) = found.results
    assert result.result == "different"
    assert result.difference.expected != result.difference.found
    assert result.difference.position > 0
    assert result.difference.gap > 0.25


def test_a_drafter_that_tells_another_q_is_refuted(engine, monkeypatch, coarse):
    """The commonest bug of the field: drawn from a hotter law than the one that the rule is told of."""
    build = draft_model.DraftModel._tree

    def colder(self, drawn, laws, counts):
        tree = build(self, drawn, laws, counts)
        if tree.q is None:
            return tree
        q = tree.q**2
        return dataclasses.replace(tree, q=q / q.sum(dim=2, keepdim=True))

    monkeypatch.setattr(draft_model.DraftModel, "_tree", colder)
    found = run(engine, DRAFT)
    assert [r.result for r in found.results] == ["identical", "different"]
    assert found.exit_code == ExitCode.RUN_FAILED


@pytest.mark.full
def test_a_cache_that_is_not_compacted_is_refuted(engine, monkeypatch, coarse):
    """Rows that share forward passes cannot show it: the comparison with rows on the models' own caches does."""
    from specterm.models.cache import SlotCache

    monkeypatch.setattr(SlotCache, "compact", lambda self, rows, starts, path: None)
    tree = MethodSpec(name="tree", parameters={"tree_children": "sampled"})
    result = run(engine, tree).results[-1]
    assert result.check == "law"
    assert result.statistic < result.critical
    assert result.result == "different"
    assert "caches" in result.note


def test_lossy_rules_are_measured_and_never_fail(engine, coarse):
    found = run(engine, DRAFT, rules=("temperature", "typical"), acceptance_temperature=4.0)
    assert found.exit_code == ExitCode.OK
    measured = {r.acceptance: r for r in found.results if r.check == "distance"}
    assert set(measured) == {("temperature",), ("typical",)}
    for result in measured.values():
        assert not result.lossless
        assert result.lossless_reason
        assert result.result == "measured"
        assert result.total_variation > 1.5 * result.chance_variation
        assert 0 < result.log_probability_error < 1
        assert abs(result.log_probability_change) < 3


def test_what_cannot_be_told_is_not_tested(engine, coarse):
    twin = ModelSpec(drafts=("builtin/target",), draft_quantize="none")
    found = verify(engine, VerifySpec(model=twin, methods=(DRAFT,), rules=("exact",)), lambda at: None)
    assert {r.result for r in found.results} == {"not_tested"}
    assert {r.note for r in found.results} == {"nothing was rejected"}
    assert found.exit_code == ExitCode.RUN_FAILED


@pytest.mark.full
def test_penalties_and_bias_keep_the_law(engine, coarse):
    found = run(
        engine, DRAFT, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.4, logit_bias=("13:2.5",)
    )
    assert [r.result for r in found.results] == ["identical", "same_law"]


def test_a_plan_has_every_lossless_pair_that_goes_together():
    spec = VerifySpec(sampling=SamplingSpec())
    found = pairs(spec)
    named = {(r.method.name, r.sampling.acceptance) for r in found}
    assert ("draft", "block") in named
    assert ("medusa", "block") not in named
    assert not {rule for _, rule in named} & {"typical"}
    assert {method for method, _ in named} >= {"draft", "sequential", "tree", "medusa", "eagle", "eagle3", "mlp"}
    kinds = {check.kind for check in checks(spec, "float32")}
    assert kinds == {"greedy", "seeds", "law"}
    half = checks(spec, "bfloat16")
    assert {check.kind for check in half} == {"greedy", "law"}
    assert all(bool(check.untested) == check.spec.method.name.startswith(("medusa", "eagle", "mlp"))
               for check in half if check.kind == "law")  # fmt: skip


def test_impossible_pairs_are_refused_with_the_reason(capsys):
    with pytest.raises(ConfigError, match="judges chains"):
        pairs(VerifySpec(methods=(MethodSpec(name="medusa"),), rules=("block",)))
    assert main(["--verify", "--method", "medusa", "--acceptance", "block"]) == 2
    assert "block verification judges chains" in capsys.readouterr().err
    assert main(["--verify", "--method", "naive"]) == 2
    assert "drafts nothing" in capsys.readouterr().err
    assert main(["--verify", "--acceptance", "exactly"]) == 2
    assert main(["--verify", "--target", "/nowhere"]) == 3


@pytest.mark.parametrize("other", [["--prompt", "x"], ["--batch"], ["--plain"], ["--out", "x"], ["--repeats", "2"]])
def test_options_of_other_commands_are_refused(other, capsys):
    assert main(["--verify", *other]) == 2
    assert f"{other[0]} does not go with --verify" in capsys.readouterr().err


def test_json_says_everything(capsys):
    arguments = ["--verify", "--method", "ngram", "--acceptance", "exact", "--temperature", "0", "--json"]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["complete"]
    assert document["verified"]
    assert document["models"]["dtype"] == "float32"
    (check,) = document["checks"]
    assert check["result"] == "identical"
    assert check["lossless"]
    assert check["statistic"] is None


def test_it_ends_where_it_is_told_to(engine):
    told = []
    spec = VerifySpec(methods=(MethodSpec(name="ngram"),), rules=("exact", "min-p"))
    found = verify(engine, spec, told.append, cancelled=lambda: len(told) > 1)
    assert found.interrupted
    assert len(found.results) == 1
    assert not json.loads(as_document(found))["complete"]
    assert found.exit_code == ExitCode.INTERRUPTED


def test_the_first_token_is_given_and_rows_share_nothing_but_forwards(engine):
    spec = pairs(VerifySpec(methods=(DRAFT,), rules=("exact",), sampling=SamplingSpec(max_tokens=5)))[0]
    engine.load(spec.model).wait()
    first, law_of = engine.beginnings(spec.sampling, "Once upon a time", None, 2, 5)
    drawn = engine.draws(spec, "Once upon a time", range(4), first)
    again = engine.draws(spec, "Once upon a time", [3, 1], first)
    assert [drawn.outputs[3], drawn.outputs[1]] == list(again.outputs)
    assert {len(output) for output in drawn.outputs} == {spec.sampling.max_tokens - 1}
    assert list(law_of.values()) == sorted(law_of.values(), reverse=True)
