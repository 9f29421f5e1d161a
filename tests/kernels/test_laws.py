"""Laws and draws by kernels against torch's operations in double precision, which take no kernel."""

import math

import pytest
import torch

from specterm.decoding.host import HostKernels
from specterm.decoding.sampling import Warps, draw, probabilities
from specterm.kernels.laws import laws
from specterm.kernels.machine import Machine, this_machine
from specterm.kernels.top import top
from specterm.kernels.walk import walk

pytestmark = pytest.mark.skipif(this_machine() is None, reason="no kernels for this processor")
LESSER = [Machine("x86-64-v4", 16, 6), Machine("x86-64-v3", 8, 3), Machine("x86-64-v3", 4, 6)]
WARPS = [
    Warps(1.0), Warps(0.3), Warps(2.5), Warps(1.0, top_k=1), Warps(0.7, top_k=12), Warps(1.3, top_k=100_000),
    Warps(1.0, top_p=0.3), Warps(0.8, top_p=0.9), Warps(1.5, top_p=0.999), Warps(1.0, min_p=0.1),
    Warps(0.9, top_k=40, top_p=0.6, min_p=0.05),
]  # fmt: skip
ALMOST_ONE = 1.0 - 2.0**-53


@pytest.fixture(params=[None, *LESSER], ids=["own", "avx512", "avx2", "four"])
def kernels(request):
    """Of this processor, or as if it were a lesser one."""
    machine = request.param
    if machine and not (this_machine().cpu.startswith("x86-64") and this_machine().lanes >= machine.lanes):
        pytest.skip("this processor lacks their instructions")
    return HostKernels(machine or this_machine())


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_same_law(found, wanted):
    """Rounding may decide on the last few of the thousands of a large nucleus, which moves the others by as little."""
    there, expected, found = found > 1e-30, wanted > 1e-30, found.double()
    differ = (there != expected).sum(dim=-1, keepdim=True)
    assert int(differ.max()) <= found.shape[-1] // 1000
    bound = torch.where(differ > 0, 1e-3, 5e-5) * wanted
    assert bool(((found - wanted).abs() <= bound)[there & expected].all())
    assert float((found - wanted).abs().sum(dim=-1).max()) < 2e-4


@pytest.mark.parametrize("vocab", [1, 5, 16, 17, 300, 4096, 50001])
def test_laws_are_those_of_double_precision(kernels, vocab):
    spread = torch.tensor([0.1, 1.0, 4.0, 20.0]).view(4, 1)
    logits = spread * drawn(4, vocab, seed=vocab)
    for warps in WARPS:
        assert_same_law(kernels.law(logits, warps), probabilities(logits.double(), warps))


@pytest.mark.parametrize("vocab", [5, 17, 300, 4096])
def test_banned_tokens_get_nothing(kernels, vocab):
    banned = torch.rand((3, vocab), generator=torch.Generator().manual_seed(2)) < 0.4
    banned[:, vocab // 2] = False
    logits = (3.0 * drawn(3, vocab)).masked_fill(banned, -math.inf)
    logits[2] = logits[2].masked_fill(torch.arange(vocab) != vocab // 2, -math.inf)  # one token is left
    for warps in WARPS:
        found = kernels.law(logits, warps)
        assert not found[banned].any()
        assert found[2, vocab // 2] == 1.0
        assert_same_law(found, probabilities(logits.double(), warps))


@pytest.mark.parametrize("vocab", [1, 5, 16, 17, 300, 50001])
def test_of_equal_tokens_all_stay_in_top_k_and_the_first_in_the_nucleus(kernels, vocab):
    logits = torch.full((2, vocab), -3.7)
    for warps in (Warps(1.0), Warps(0.2, top_k=1), Warps(3.0, top_k=3), Warps(1.0, min_p=1.0)):
        torch.testing.assert_close(kernels.law(logits, warps), torch.full((2, vocab), 1.0 / vocab), rtol=1e-5, atol=0)
    for top_p in (0.0, 0.3, 0.77, 0.95):
        count = max(1, math.ceil(top_p * vocab))
        found = kernels.law(logits, Warps(1.0, top_p=top_p))
        assert bool((found[:, :count] > 0).all())
        assert not found[:, count:].any()
        torch.testing.assert_close(found[:, :count], torch.full((2, count), 1.0 / count), rtol=1e-5, atol=0)


def test_ties_at_the_border(kernels):
    """One token ahead of ten that are alike, in several vectors; zeros of both signs are alike."""
    logits, alike = drawn(50).clamp(max=0.0) - 9.0, [2, 3, 7, 8, 15, 16, 17, 31, 40, 49]
    logits[alike], logits[20] = 1.0, 2.0
    for top_k in (2, 5, 11):
        found = kernels.law(logits, Warps(1.0, top_k=top_k))
        assert found.nonzero().flatten().tolist() == sorted([20, *alike])
    whole = probabilities(logits.double(), Warps(1.0))
    for count in range(1, 11):
        top_p = float(whole[20] + (count - 0.5) * whole[2])
        found = kernels.law(logits, Warps(1.0, top_p=top_p))
        assert found.nonzero().flatten().tolist() == sorted([20, *alike[:count]])
        kept = torch.where(found > 0, whole, 0.0)
        assert_same_law(found, kept / kept.sum())
    zeros = torch.tensor([-0.0, -1.0, 0.0, -0.0, -2.0])
    assert kernels.law(zeros, Warps(1.0, top_k=1)).tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3, 0])


def test_a_nucleus_of_nothing_is_the_first_of_the_likeliest(kernels):
    logits = drawn(4, 300)
    logits[1, [7, 250]] = logits[2, [16, 17]] = 9.0
    found = kernels.law(logits, Warps(1.7, top_p=0.0))
    assert found.argmax(dim=-1).tolist() == logits.argmax(dim=-1).tolist()
    assert found[1, 7] == found[2, 16] == 1.0
    assert torch.equal(found.count_nonzero(dim=-1), torch.ones(4, dtype=torch.int64))


def test_a_nucleus_that_is_just_enough_leaves_the_rest_out(kernels):
    """Where the likely tokens weigh as much as is asked for to the last bit, in whatever order they are summed."""
    head = -3.0 * torch.rand(200, generator=torch.Generator().manual_seed(0))
    head[0] = 0.0
    logits = torch.cat((head, torch.full((3000,), -9.5)))
    share = float(logits.double().softmax(0)[:200].sum())
    for parts in range(-40, 41):
        found = kernels.law(logits, Warps(1.0, top_p=share + 2e-9 * parts))
        assert int((found > 0).sum()) <= 202


def test_logits_with_gaps_and_of_any_shape(kernels):
    logits, warps = drawn(2, 3, 80, seed=5)[..., ::2], Warps(0.8, top_k=9)
    found = kernels.law(logits, warps)
    assert found.shape == (2, 3, 40)
    assert_same_law(found, probabilities(logits.double(), warps))


@pytest.mark.parametrize("vocab", [1, 5, 16, 17, 300, 4096, 50001])
def test_draws_are_those_of_double_precision(kernels, vocab):
    law = kernels.law(3.0 * drawn(vocab, seed=3), Warps(1.0, top_p=0.97))
    u = torch.rand(400, generator=torch.Generator().manual_seed(vocab), dtype=torch.float64)
    found = kernels.draw(law.expand(400, vocab), u)
    assert torch.equal(found, draw(law.double().expand(400, vocab), u))
    assert bool((law[found] > 0).all())


@pytest.mark.parametrize("vocab", [5, 16, 17, 40, 300])
def test_a_draw_is_the_first_token_whose_cumulative_mass_exceeds_the_share(kernels, vocab):
    """Whole numbers whose sum is a power of two, so that nothing is rounded; some are 0, the first and last one too."""
    masses = torch.randint(0, 4, (vocab,), generator=torch.Generator().manual_seed(1)).float()
    masses[0] = masses[-1] = 0.0
    masses[vocab // 2] += 1024 - masses.sum()
    cumulative = masses.cumsum(0).tolist()
    u = torch.arange(1024, dtype=torch.float64) / 1024
    wanted = [next(i for i, reached in enumerate(cumulative) if reached > share) for share in range(1024)]
    assert kernels.draw(masses.expand(1024, vocab), u).tolist() == wanted
    edges = kernels.draw(masses.expand(2, vocab), torch.tensor([0.0, ALMOST_ONE], dtype=torch.float64)).tolist()
    there = masses.nonzero().flatten().tolist()
    assert edges == [there[0], there[-1]]


@pytest.mark.parametrize("vocab", [5, 17, 300, 4096])
def test_draws_at_the_edges_take_tokens_that_have_mass(kernels, vocab):
    for seed in range(20):
        law = kernels.law(6.0 * drawn(vocab, seed=seed), Warps(0.7, top_k=vocab // 3 + 1))
        edges = torch.tensor([0.0, ALMOST_ONE], dtype=torch.float64)
        first, last = kernels.draw(law.expand(2, vocab), edges).tolist()
        assert first == int(law.nonzero()[0])
        assert law[last] > 0
        assert float(law[last + 1 :].double().sum()) <= 1e-15


@pytest.mark.parametrize("machine", [*LESSER, Machine("generic", 4, 6)], ids=str)
@pytest.mark.parametrize("kernel", [laws, walk, top])
def test_code_for_other_processors_is_well_formed(kernel, machine):
    """It is verified by LLVM; it cannot be run here."""
    from llvmlite import binding, ir

    module = ir.Module("kernel")
    kernel(module, machine)
    binding.parse_assembly(str(module)).verify()
