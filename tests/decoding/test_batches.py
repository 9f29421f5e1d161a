"""The same seed gives a row the same tokens whatever the batch's composition and order: every method of the catalogue,
in every way that it makes children. (Not `--adaptive` with sampled drafts, whose lengths follow the clock.)"""

import pytest
from harness import decode

from specterm.bench.prompts import gather
from specterm.catalogue import METHODS
from specterm.catalogue.shapes import shapes
from specterm.config import ModelSpec
from specterm.decoding.sampling import Warps
from specterm.models.loading import load_models

TOKENS = 9
SHAPES = [(method.name, shape) for method in METHODS.values() for shape in shapes(method)]


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(drafts=("builtin", "builtin/draft-b"), dtype="float32").checked())


@pytest.fixture(scope="module")
def prompts(models):
    """Of different lengths; every other one said twice, so that there is something to look up."""
    found = [models.codec.encode(r.prompt * (1 + i % 2)) for i, r in enumerate(gather(("builtin",), 4))]
    assert len({len(ids) for ids in found}) == 4
    return found


@pytest.mark.parametrize(("method", "shape"), SHAPES, ids=str)
def test_a_row_does_not_depend_on_its_batch(models, prompts, method, shape):
    def run(order: list[int], size: int):
        decoded = decode(
            models.target.runner, [prompts[i] for i in order], method=method, heads=models.heads, warps=Warps(0.8),
            drafts=[draft.runner for draft in models.drafts[: METHODS[method].max_drafts]], max_tokens=TOKENS,
            batch_size=size, seeds=[7 + i for i in order], **shape,
        )  # fmt: skip
        return decoded, dict(zip(order, decoded.ids))

    together, first = run([0, 1, 2, 3], 4)
    refilled, second = run([3, 1, 0, 2], 2)
    assert first == second
    assert [len(ids) for ids in first.values()] == [TOKENS] * 4
    assert not METHODS[method].speculative or {"rejected"} <= set(together.states) <= set(refilled.states) | {"cut"}
