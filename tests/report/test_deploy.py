"""What to deploy: which setting wins, and the nearest setting of other programs."""

import ast
import json
import shlex

import pytest

from specterm.bench.statistics import Interval
from specterm.bench.summary import Summary
from specterm.catalogue import METHODS
from specterm.catalogue.deployment import PROGRAMS, TRANSFORMERS, VLLM
from specterm.config import MethodSpec, ModelSpec, PlanSpec, SamplingSpec
from specterm.report.deploy import Deployment, Way, deployment, lines

GREEDY = SamplingSpec(temperature=0.0)
MODEL = ModelSpec(
    target="big/model", drafts=("small/draft", "other/draft"), eagle="some/eagle head", medusa="some/heads"
)
BESIDE = {"draft", "drafts", "heads", "acceptance", "sampled", "batch_size", "builtin"}


def entry(method: MethodSpec, speedup: Interval | None, **changes: object) -> Summary:
    fields = {
        "configuration": method.label, "method": method.name, "parameters": method.parameters, "acceptance": "exact",
        "lossless": True, "lossless_reason": None, "runs": 3, "figures": {}, "per_position_acceptance": None,
        "speedup": speedup, "matches_naive": {"identical": 3}, "energy_source": [], "domains": {}, **changes,
    }  # fmt: skip
    return Summary(**fields)  # type: ignore[arg-type]


def won(name: str, sampling: SamplingSpec = GREEDY, batch_size: int = 1, **parameters: object) -> Deployment:
    """The deployment of a method that won."""
    method = MethodSpec(name=name, parameters=parameters).checked()
    plan = PlanSpec(
        model=MODEL, methods=(MethodSpec(name="naive"), method), sampling=sampling, batch_size=batch_size
    ).checked()
    naive = entry(MethodSpec(name="naive"), Interval(n=3, ratio=1.0, low=1.0, high=1.0))
    return deployment(plan, [naive, entry(method, Interval(n=3, ratio=2.0, low=1.8, high=2.2))])


def way(found: Deployment, program: str) -> Way:
    return next(way for way in found.ways if way.program == program)


def speculative_config(found: Deployment) -> dict[str, object]:
    """What the command line of vLLM says."""
    command = shlex.split(way(found, "vLLM").line or "")
    assert command[:4] == ["vllm", "serve", "big/model", "--speculative-config"]
    told = json.loads(command[4])
    assert told == way(found, "vLLM").arguments
    assert isinstance(told, dict)
    return told


def test_recipes_name_only_what_there_is() -> None:
    for program in PROGRAMS:
        for name, recipe in program.recipes.items():
            known = {parameter.name for parameter in METHODS[name].parameters} | BESIDE
            assert {argument.value for argument in recipe.arguments} <= known
            assert {difference.value for difference in (*recipe.differences, *program.differences)} <= known
            # Every parameter is an argument, or it is said that it makes a difference, or one of its own stands for it.
            told = {a.value for a in recipe.arguments} | {d.value for d in recipe.differences}
            missing = {parameter.name for parameter in METHODS[name].parameters} - told
            assert missing <= {"tree_nodes", "tree_children", "tree_width"}


def test_a_chain_of_a_draft_model_has_its_like_in_both() -> None:
    found = won("draft", num_draft_tokens=5)
    assert found.configuration == "draft gamma 5"
    assert found.verdict == "deploy draft gamma 5: 2.00x (1.80 to 2.20) as fast as naive decoding, output identical"
    assert speculative_config(found) == {"method": "draft_model", "model": "small/draft", "num_speculative_tokens": 5}
    assert [len(way.differences) for way in found.ways] == [1, 1]
    assert "an end at a confidence of 0.05 is not available" in way(found, "vLLM").differences[0]
    whole = won("draft", num_draft_tokens=5, draft_confidence=0.0)
    assert [way.differences for way in whole.ways] == [(), ()]
    code = ast.parse(way(found, "transformers").line or "")
    keywords = {k.arg: ast.unparse(k.value) for n in ast.walk(code) if isinstance(n, ast.Call) for k in n.keywords}
    assert keywords["num_assistant_tokens"] == "5"
    assert keywords["assistant_model"] == "assistant"
    assert keywords["assistant_confidence_threshold"] == "0.05"


def test_ngram_bounds_go_along() -> None:
    found = won("ngram", ngram_min=2, ngram_max=3, draft_memory="session")
    assert speculative_config(found) == {
        "method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 2, "prompt_lookup_max": 3,
    }  # fmt: skip
    assert way(found, "vLLM").differences == (
        "vLLM looks up the request's own prompt and output: memory session is not available",
    )
    hugging_face = way(found, "transformers")
    assert hugging_face.arguments == {"prompt_lookup_num_tokens": 4, "max_matching_ngram_size": 3}
    assert "not from 2 on" in hugging_face.differences[0]


def test_a_tree_becomes_a_chain_and_it_is_said() -> None:
    found = won("tree", tree_width=3, tree_depth=6, adaptive=True)
    assert speculative_config(found)["num_speculative_tokens"] == 6
    told = " ".join(way(found, "vLLM").differences)
    for text in ("drafts a chain: width 3 is not available", "one draft model", "from round to round"):
        assert text in told


def test_heads_and_the_rule_are_named() -> None:
    found = won("eagle", tree_depth=3)
    assert speculative_config(found) == {"method": "eagle", "model": "some/eagle head", "num_speculative_tokens": 3}
    assert way(found, "transformers").line is None
    assert "transformers: no such method there" in list(lines(found))
    block = won("ngram", SamplingSpec(acceptance="block"))
    assert speculative_config(block)["rejection_sample_method"] == "block"
    assert "block is not available" in way(block, "transformers").differences[-1]


def test_what_sampling_and_batches_change_is_said() -> None:
    assert "draft_sample_method" in way(won("draft", SamplingSpec()), "vLLM").differences[0]
    assert "one prompt at a time" in way(won("draft", batch_size=4), "transformers").differences[-1]
    assert all(way.line is None for way in won("medusa").ways)


@pytest.mark.parametrize(
    ("speedup", "changes", "verdict"),
    [
        (
            Interval(n=3, ratio=0.8, low=0.7, high=0.9),
            {},
            "no setting is faster than naive decoding; the best was ngram gamma 4, 0.80x",
        ),
        (
            Interval(n=3, ratio=1.1, low=0.9, high=1.3),
            {},
            "no setting is measurably faster than naive decoding; the best was ngram gamma 4, 1.10x",
        ),
        (Interval(n=3, ratio=2.0, low=1.9, high=2.1), {"matches_naive": {"different": 1}}, "output that differs"),
    ],
)
def test_without_a_gain_it_is_deployed_without_speculation(
    speedup: Interval, changes: dict[str, object], verdict: str
) -> None:
    method = MethodSpec(name="ngram").checked()
    found = deployment(PlanSpec(model=MODEL).checked(), [entry(method, speedup, **changes)])
    assert found.configuration is None
    assert found.verdict.startswith("deploy without speculation")
    assert verdict in found.verdict
    assert way(found, "vLLM").line == "vllm serve big/model"


def test_the_fastest_wins_and_doubts_are_said() -> None:
    plan = PlanSpec(model=MODEL).checked()
    slow, fast = MethodSpec(name="ngram").checked(), MethodSpec(name="draft").checked()
    one_run = Interval(n=1, ratio=3.0, low=None, high=None)
    found = deployment(plan, [entry(slow, Interval(n=3, ratio=1.5, low=1.4, high=1.6)), entry(fast, one_run)])
    assert found.configuration == fast.label
    assert "of one run" in found.verdict
    assert "NOT lossless" in deployment(plan, [entry(fast, one_run, lossless=False)]).verdict


def test_without_naive_nothing_is_advised() -> None:
    found = deployment(PlanSpec(model=MODEL).checked(), [entry(MethodSpec(name="draft").checked(), None)])
    assert (found.configuration, found.ways) == (None, ())
    assert "no speedup against naive decoding was measured" in found.verdict


def test_built_in_models_are_not_taken_for_names_of_others() -> None:
    plan = PlanSpec().checked()
    draft = entry(MethodSpec(name="draft").checked(), Interval(n=3, ratio=2.0, low=1.8, high=2.2))
    for found in deployment(plan, [draft]).ways:
        assert any("built-in models" in text for text in found.differences)


def test_shell_and_python_are_quoted() -> None:
    assert (VLLM.quoting, TRANSFORMERS.quoting) == ("shell", "python")
    method = MethodSpec(name="draft").checked()
    plan = PlanSpec(model=ModelSpec(target="./it's here", drafts=("./o'draft",))).checked()
    found = deployment(plan, [entry(method, Interval(n=3, ratio=2.0, low=1.8, high=2.2))])
    assert shlex.split(way(found, "vLLM").line or "")[2] == "./it's here"
    assert 'from_pretrained("./o\'draft")' in (way(found, "transformers").line or "")
