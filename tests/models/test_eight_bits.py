"""Weights in 8 bits: products, and drafts and heads that are held so."""

import math

import pytest
import torch
import torch.nn.functional as F

from specterm.config import ModelSpec
from specterm.decoding.ports import Block
from specterm.decoding.tree import Topology
from specterm.kernels.machine import Machine, this_machine
from specterm.models.compiled.matrix import in_eight_bits
from specterm.models.loading import load_models

pytestmark = pytest.mark.skipif(this_machine() is None, reason="no kernels for this processor")
CPU = torch.device("cpu")
MACHINES = [None, Machine("x86-64-v4", 16, 6), Machine("x86-64-v3", 8, 3)]


@pytest.fixture(params=MACHINES, ids=["own", "avx512", "avx2"])
def machine(request, monkeypatch):
    """This processor, or as if it were a lesser one."""
    if request.param is not None:
        if not this_machine().cpu.startswith("x86-64") or this_machine().lanes < request.param.lanes:
            pytest.skip("this processor lacks their instructions")
        for module in ("models.compiled.matrix", "models.compiled.rows"):
            monkeypatch.setattr(f"specterm.{module}.this_machine", lambda: request.param)
    return request.param or this_machine()


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rounded(weight):
    scales = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scales.clamp(min=1e-30)).round() * scales


@pytest.mark.parametrize("shape", [(384, 100), (70, 33), (64, 64), (3, 5), (1, 1)], ids=str)
def test_a_product_is_that_of_the_rounded_weights(shape, machine):
    weight, bias = drawn(*shape), drawn(shape[0], seed=1)
    weight[0] = 0.0
    product = in_eight_bits(weight, bias)
    assert product.kind == ("int8_tiles" if machine.tiles else "int8")
    wanted = rounded(weight)
    x = drawn(40, shape[1], seed=2) * 3
    x[3] = 0.0
    exact = F.linear(x.double(), wanted.double(), bias.double())
    alone = torch.cat([product(row.unsqueeze(0)) for row in x])
    # Beside tiles an activation is rounded to 14 bits of the largest one of its token.
    tolerance = 3e-4 if machine.tiles else 1e-5
    torch.testing.assert_close(alone.double(), exact, rtol=0, atol=tolerance * float(exact.abs().max()))
    for rows in (2, 5, 7, 8, 9, 16, 17, 40):
        assert torch.equal(product(x[:rows]), alone[:rows]), rows


def test_a_weight_takes_a_byte(machine):
    product = in_eight_bits(drawn(128, 64))
    assert product.nbytes == 128 * 64 + 128 * 4


def test_what_is_not_finite_is_not_hidden(machine):
    x = drawn(4, 64)
    x[1, 7], x[2, 9] = math.nan, math.inf
    found = in_eight_bits(drawn(64, 64))(x)
    assert found.isfinite().all(dim=1).tolist() == [True, False, False, True]


def loaded(**options):
    return load_models(ModelSpec(**options).checked())


@pytest.mark.parametrize(
    ("options", "held"),
    [({}, "8bit"), ({"draft_quantize": "none"}, None), ({"dtype": "float32"}, None),
     ({"dtype": "bfloat16", "draft_quantize": "8bit"}, "8bit")],
)  # fmt: skip
def test_drafts_and_heads_are_in_eight_bits_unless_told_otherwise(options, held):
    models = loaded(device="cpu", **options)
    assert models.target.info.quantization is None
    (draft,) = models.drafts
    assert draft.info.quantization == held
    table = 2 * draft.runner.embedding_weight().numel()  # to look up, beside the head of the same weights
    bytes_a_weight = (draft.info.weight_bytes - table) / draft.info.parameters
    assert bytes_a_weight < 1.1 if held else bytes_a_weight > 1.9
    assert (models.heads["eagle"]._whole is None) == (held is None)


def test_without_kernels_they_are_as_they_are_stored(monkeypatch):
    monkeypatch.setattr("specterm.models.loading.this_machine", lambda: None)
    assert loaded(device="cpu").drafts[0].info.quantization is None


def test_a_draft_says_nearly_the_same():
    block = Block((0,), (0,), torch.arange(40, 100).unsqueeze(0), Topology.of_chain(59, CPU))
    narrow, wide = (loaded(device="cpu", draft_quantize=how).drafts[0].runner for how in ("8bit", "none"))
    for runner in (narrow, wide):
        runner.allocate(1, 64)
    ours, theirs = narrow.forward(block)[0], wide.forward(block)[0]
    apart = (ours.softmax(-1) - theirs.softmax(-1)).abs().sum(-1) / 2
    assert 0 < float(apart.mean()) < 0.03
    assert float((ours.argmax(-1) == theirs.argmax(-1)).double().mean()) > 0.9


def blocks():
    """Pairs of a prompt, of one token, of a chain, of a tree, of branches below its first nodes; features beside."""
    tree = Topology.of_parents(torch.tensor([[-1, -1, 0, 1, 1, 2, 3]]), 3)
    chain = Topology.of_chain
    ids = torch.arange(300)
    return [
        Block((1,), (0,), ids[None, :50], chain(49, CPU)),
        Block((1,), (50,), ids[None, 60:61], chain(0, CPU)),
        Block((1,), (51,), ids[None, 70:75], chain(4, CPU)),
        Block((1,), (56,), ids[None, 80:88], tree),
        Block((1,), (56,), ids[None, 90:94], tree, first=3),
    ]


@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
@pytest.mark.parametrize("option", [None, "norm_before_residual", "norm_output"])
def test_heads_in_one_call_compute_what_torch_does(kind, option, machine, monkeypatch):
    """With the same weights, whose products torch's operations go through too."""
    if option and kind == "eagle":
        pytest.skip("an option of EAGLE-3 heads")
    if option:
        from specterm.models.heads import eagle3

        read = eagle3.HeadConfig.read
        monkeypatch.setattr(eagle3.HeadConfig, "read", lambda folder: _with_option(read(folder), option))
    whole, parts = (loaded(device="cpu").heads[kind] for _ in range(2))
    assert whole._whole is not None
    parts._whole = None
    for heads in (whole, parts):
        heads.allocate(2, 96)
    for block in blocks():
        features = drawn(1, block.width, 384, seed=block.width)
        for last in (None, [block.width - 1]):
            for ours, theirs in zip(whole(block, features, last), parts(block, features, last), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3 * float(theirs.abs().max()))


def _with_option(config, option):
    config.options[option] = True
    return config
