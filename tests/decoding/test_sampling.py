"""Warps agree with Hugging Face's; draws follow the distribution; random numbers are stateless."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from specterm.decoding import host, sampling
from specterm.decoding.sampling import (
    ROUND_STRIDE,
    Purpose,
    Warps,
    draw,
    probabilities,
    purpose_keys,
    round_uniforms,
    row_key,
    uniforms,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 2.5])
@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p"),
    [(None, 1.0, None), (5, 1.0, None), (None, 0.9, None), (None, 0.0, None), (None, 1.0, 0.1), (40, 0.6, 0.05)],
)
def test_warps_are_those_of_transformers(temperature, top_k, top_p, min_p):
    logits = torch.randn(16, 300, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)] if temperature != 1.0 else [])
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        warpers.append(TopPLogitsWarper(top_p))
    if min_p:
        warpers.append(MinPLogitsWarper(min_p))
    expected = torch.softmax(warpers(None, logits.clone()), dim=-1)
    torch.testing.assert_close(probabilities(logits, Warps(temperature, top_k, top_p, min_p)), expected)


@pytest.mark.parametrize("top_p", [0.0, 0.2, 0.9, 0.999])
def test_a_nucleus_of_a_large_vocabulary_is_that_of_transformers(top_p):
    """Peaked and flat laws in one batch: the nuclei of some rows are found among the likeliest tokens, others not."""
    spread = torch.tensor([0.1, 0.5, 1.0, 2.0, 4.0, 9.0], dtype=torch.float64).view(2, 3, 1)
    logits = torch.randn(2, 3, 3000, generator=torch.Generator().manual_seed(6), dtype=torch.float64) * spread
    found = probabilities(logits, Warps(1.0, top_p=top_p))
    expected = TopPLogitsWarper(top_p)(None, logits.flatten(0, 1)).softmax(dim=-1).view_as(found)
    torch.testing.assert_close(found, expected)
    sizes = (found > 0).sum(dim=-1)
    assert int(sizes.min()) < 256
    assert top_p < 0.9 or int(sizes.max()) > 256


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-20, 1e-38, 1e-39, 1e-46, 1e-300])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_the_coldest_laws_are_greedy(dtype, temperature, top_p):
    logits = 30.0 * torch.randn((3, 500), generator=torch.Generator().manual_seed(2), dtype=dtype)
    found = probabilities(logits, Warps(temperature, top_p=top_p))
    assert torch.equal(found, torch.nn.functional.one_hot(logits.argmax(-1), 500).to(found.dtype))


def test_half_precision_logits_are_warped_in_single():
    assert probabilities(torch.randn(2, 8).bfloat16(), Warps(0.7)).dtype == torch.float32


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12).filter(any), st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_draw_is_the_inverse_of_the_cumulative_distribution(weights, numerator):
    probs = torch.tensor(weights, dtype=torch.float64)
    u = numerator / (10**6 + 1)
    token = int(draw(probs, torch.tensor(u)))
    assert weights[token] > 0
    assert sum(weights[:token]) <= u * sum(weights) + 1e-9
    assert sum(weights[: token + 1]) >= u * sum(weights) - 1e-9


@pytest.mark.parametrize("u", [0.0, 1.0 - 2.0**-53])
def test_draw_at_the_edges_takes_a_token_that_has_mass(u):
    probs = torch.tensor([[0.0, 0.1, 0.0, 0.7, 0.2, 0.0]] * 2)
    assert draw(probs, torch.full((2,), u, dtype=torch.float64)).tolist() == ([1, 1] if u == 0.0 else [4, 4])


def test_uniforms_are_uniform_and_independent():
    keys = purpose_keys([row_key(seed, (1, 2, 3)) for seed in range(500)], Purpose.TARGET, CPU)
    u = uniforms(keys, torch.arange(200).unsqueeze(0))
    assert u.shape == (500, 200)
    assert u.min() >= 0.0
    assert u.max() < 1.0
    counts = torch.histc(u, bins=100, min=0.0, max=1.0)
    chi2 = float(((counts - 1000.0) ** 2 / 1000.0).sum())
    assert chi2 < 99 + 10 * (2 * 99) ** 0.5
    for a, b in ((u[:, :-1], u[:, 1:]), (u[:-1], u[1:])):
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.02


def test_uniforms_depend_on_seed_prompt_purpose_and_index_only():
    key = row_key(7, (5, 6))
    alone = uniforms(purpose_keys([key], Purpose.DRAFT, CPU), torch.tensor([[3, 4]]))
    among = uniforms(purpose_keys([row_key(1, (9,)), key], Purpose.DRAFT, CPU), torch.tensor([[8, 9], [3, 4]]))
    assert torch.equal(alone[0], among[1])
    others = [
        uniforms(purpose_keys([row_key(8, (5, 6))], Purpose.DRAFT, CPU), torch.tensor([[3]])),
        uniforms(purpose_keys([row_key(7, (6, 5))], Purpose.DRAFT, CPU), torch.tensor([[3]])),
        uniforms(purpose_keys([key], Purpose.TARGET, CPU), torch.tensor([[3]])),
    ]
    assert len({float(alone[0, 0]), *(float(o) for o in others)}) == 4


def test_uniforms_never_change():
    """Stored runs and published seeds stay reproducible: these values are part of the format."""
    u = uniforms(purpose_keys([row_key(0, (1, 2, 3))], Purpose.TARGET, CPU), torch.tensor([[0, 1, 10**6]]))
    assert [round(float(x), 12) for x in u[0]] == [0.405395094701, 0.344831702512, 0.400775887768]


def test_uniforms_are_the_same_in_tensors_and_on_the_host():
    """The host's way and the devices' way of hashing give the same bits, for every sign of the key."""
    keys = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63), 0x1234567890ABCDEF], dtype=torch.int64)
    index = torch.tensor([[0, 1, 5, 2**20, 2**40]])
    state = keys.unsqueeze(-1) + (index + 1) * sampling._signed(sampling._GOLDEN)
    on_device = sampling._shift(sampling._mix(state), 11).to(torch.float64) * 2.0**-53
    assert torch.equal(uniforms(keys, index), on_device)
    assert torch.equal(uniforms(keys, index.expand(6, -1)), on_device)
    assert len(set(on_device.flatten().tolist())) == on_device.numel()


def test_the_likeliest_token_is_the_first_of_equals():
    logits = torch.tensor([[[0.0, 3.0, 3.0], [1.0, 1.0, 0.0]]])
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert sampling.likeliest(logits.to(dtype)).tolist() == [[1, 0]]
    assert sampling.likeliest(logits[:, 0]).shape == (1,)


def test_few_uniforms_are_those_of_many():
    """One by one or as arrays, of one row or of several, small indices and the largest."""
    keys = purpose_keys([row_key(seed, [3, 4]) for seed in range(5)], Purpose.RATIO, CPU)
    index = torch.tensor([[0, 1, 7, ROUND_STRIDE * 1000 + 3, 2**40]])
    whole = uniforms(keys, index)
    assert len(whole.unique()) == whole.numel() == 25
    for row in range(5):
        for place in range(5):
            assert torch.equal(uniforms(keys[row : row + 1], index[:, place : place + 1])[0, 0], whole[row, place])


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 8.0])
def test_the_nucleus_of_laws_flat_and_steep(scale):
    """As by a full sort, in double precision."""
    scores = scale * torch.randn((4, 3000), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    got = probabilities(scores, Warps(top_p=0.9))
    for own, law in zip(scores, got, strict=True):
        ordered, order = torch.softmax(own, dim=0).sort(descending=True, stable=True)
        count = int((ordered.cumsum(0) < 0.9).sum()) + 1
        want = torch.zeros_like(own)
        want[order[:count]] = ordered[:count] / ordered[:count].sum()
        assert abs(int((law > 0).sum()) - count) <= (scale == 0.0)  # rounding decides on the last of equal ones
        torch.testing.assert_close(law, want, atol=1e-3 if scale == 0.0 else 1e-12, rtol=0.0)


@pytest.mark.parametrize("nodes", [1, 5, 40])
def test_the_uniforms_of_a_round_are_those_of_its_indices(nodes):
    keys, rounds = [row_key(1, [5]), row_key(2, [9])], [3, 70]
    index = torch.tensor(rounds).unsqueeze(1) * ROUND_STRIDE + torch.arange(nodes)
    expected = uniforms(purpose_keys(keys, Purpose.RATIO, CPU), index)
    assert torch.equal(round_uniforms(keys, Purpose.RATIO, rounds, nodes, CPU), expected)


def test_another_thread_may_ask_for_other_warps_meanwhile(monkeypatch):
    told, mine, others = host.ToldWarps(), Warps(temperature=0.5), Warps(temperature=0.9)
    whole = host.warp_words

    class Interrupted:
        """Words whose address is looked for while another thread asks."""

        @property
        def ctypes(self):
            told.of(others)
            return whole(mine).ctypes

    monkeypatch.setattr(host, "warp_words", lambda warps: Interrupted() if warps is mine else whole(warps))
    assert told.of(mine) == whole(mine).ctypes.data
    assert told.of(others) == whole(others).ctypes.data
