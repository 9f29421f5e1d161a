"""Every method of the catalogue, in each of its shapes, gives naive's output: the matrix that new methods join by
being in the catalogue."""

from collections.abc import Iterator
from typing import Any

import pytest
from harness import decode

from specterm.bench.prompts import gather
from specterm.catalogue import METHODS
from specterm.config import ModelSpec
from specterm.decoding.ports import Recording
from specterm.decoding.sampling import Warps
from specterm.models.loading import load_models

WARPS = {"greedy": Warps(0.0), "sampled": Warps(0.7, top_p=0.9)}
BATCH_SIZES = (1, 4)
SHORT, LONG = 24, 200


def shapes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each method as it is by default, and with each choice that it offers."""
    for method in METHODS.values():
        if not method.speculative:
            continue
        yield method.name, {}
        for parameter in method.parameters:
            for choice in parameter.choices:
                if choice != parameter.default:
                    yield method.name, {parameter.name: choice}


SHAPES = list(shapes())


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(drafts=("builtin", "builtin/draft-b"), dtype="float32").checked())


def encoded(models, count: int) -> list[list[int]]:
    """Built-in prompts, every other one said twice, so that there is something to look up."""
    return [models.codec.encode(r.prompt * (1 + i % 2)) for i, r in enumerate(gather(("builtin",), count))]


@pytest.fixture(scope="module")
def prompts(models):
    return encoded(models, 4)


@pytest.fixture(scope="module")
def naive_ids(models, prompts):
    return {
        warps: decode(models.target.runner, prompts, warps=warps, max_tokens=SHORT, batch_size=4).ids
        for warps in WARPS.values()
    }


def check(models, prompts, expected, method, parameters, warps, tokens, alone=None) -> None:
    """`alone`: how many of the prompts are decoded with batch size 1, too; None: all."""
    drafts = [draft.runner for draft in models.drafts][: METHODS[method].max_drafts]
    seen: set[str] = set()
    for batch_size, told in zip(BATCH_SIZES, (alone or len(prompts), len(prompts)), strict=True):
        decoded = decode(
            models.target.runner, prompts[:told], method=method, drafts=drafts, heads=models.heads, warps=warps,
            max_tokens=tokens, batch_size=batch_size, record=Recording(probs=True), **parameters,
        )  # fmt: skip
        seen.update(decoded.states)
        assert [len(ids) for ids in decoded.ids] == [tokens] * told
        sampled_children = any(part.q is not None for part in decoded.rounds)
        if sampled_children:  # another draw with the same law, which the tests of the rules compare
            assert not warps.greedy
            assert decoded.ids != expected[:told]
        else:
            assert decoded.ids == expected[:told], batch_size
    assert {"accepted", "rejected"} <= seen


@pytest.mark.parametrize("warps", WARPS.values(), ids=WARPS)
@pytest.mark.parametrize(("method", "parameters"), SHAPES, ids=str)
def test_output_is_naives_short(models, prompts, naive_ids, method, parameters, warps):
    check(models, prompts, naive_ids[warps], method, parameters, warps, SHORT, alone=2)


@pytest.fixture(scope="module")
def many_prompts(models):
    prompts = encoded(models, 20)
    assert len(prompts) == 20
    return prompts


@pytest.fixture(scope="module", params=WARPS.values(), ids=WARPS)
def naive_long(request, models, many_prompts):
    """What to draw by, and what naive then writes for each prompt."""
    return request.param, decode(
        models.target.runner, many_prompts, warps=request.param, max_tokens=LONG, batch_size=4
    ).ids


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("method", "parameters"), SHAPES, ids=str)
def test_output_is_naives_full(models, many_prompts, naive_long, method, parameters):
    warps, expected = naive_long
    check(models, many_prompts, expected, method, parameters, warps, LONG)
