"""Packed products against plain ones: the same weights, the same numbers."""

import pytest
import torch
import torch.nn.functional as F

from specterm.config import ModelSpec
from specterm.decoding.ports import Block
from specterm.decoding.prefill import prefill
from specterm.decoding.tree import Topology
from specterm.models import products
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.devices import cpu_has_bf16
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.heads import READERS
from specterm.models.heads.medusa import MedusaHeads, _Packed
from specterm.models.loading import load_models
from specterm.models.norm import RmsNorm
from specterm.models.products import (
    TARGET_WIDTHS,
    Bfloat16Packed,
    HalfPacked,
    Plain,
    half_packed,
    narrowest,
    packed_quickest,
    packs_exactly,
    quickest,
)
from specterm.models.weights import tensor_reader

CPU = torch.device("cpu")


def packed(weight, bias=None, way=HalfPacked):
    try:
        return way(weight, bias)
    except (AttributeError, RuntimeError):
        pytest.skip("torch has no FBGEMM here")


def stored(*shape, scale=0.02):
    """Weights as checkpoints have them: float32 numbers that are bfloat16."""
    generator = torch.Generator().manual_seed(sum(shape))
    return (torch.randn(shape, generator=generator) * scale).bfloat16().float()


@pytest.mark.parametrize("way", [CompiledMatrix, HalfPacked])
@pytest.mark.parametrize("scale", [1e-4, 0.02, 30.0])
def test_the_product_is_the_plain_one(scale, way):
    weight, bias = stored(96, 64, scale=scale), stored(96)
    product = packed(weight, bias, way)
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    want = F.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(product(x / product.gain).double(), want, atol=1e-5 * scale, rtol=1e-6)


def test_the_weights_stay_what_they_are():
    """Of the built-in target: the identity through the product gives the weights back."""
    read = tensor_reader(BUILTIN_FOLDER / "target", CPU, torch.float32)
    weight = read("model.layers.0.mlp.down_proj.weight", (384, 1024))
    product = packed(weight)
    back = product(torch.eye(1024)).T / product.gain
    assert float((back - weight).abs().max()) <= 2.0**-39 * float(weight.abs().max())


def test_only_weights_of_16_bits_are_packed():
    assert packs_exactly(stored(64, 64))
    assert packs_exactly(torch.randn(64, 64).half().float())
    assert packs_exactly(torch.zeros(4, 4))
    assert not packs_exactly(torch.randn(64, 64))
    assert not packs_exactly(torch.full((4, 4), float("inf")))


def test_a_product_in_bfloat16_rounds_what_goes_in_and_comes_out():
    weight, bias = stored(96, 64), stored(96)
    product = packed(weight, bias, Bfloat16Packed)
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0))
    want = F.linear(x.bfloat16().double(), weight.double())
    torch.testing.assert_close(product(x).double() - bias.double(), want, atol=1e-6, rtol=2.0**-8)
    assert product(x).dtype == torch.float32
    assert (product.parameters, product.nbytes) == (96 * 65, 96 * 64 * 2 + 96 * 4)


@pytest.mark.skipif(not cpu_has_bf16(), reason="this processor has no instructions for bfloat16")
@pytest.mark.parametrize("shape", [(640, 384), (384, 1024), (4096, 384)], ids=str)
def test_a_row_in_bfloat16_is_the_same_among_others(shape):
    """So a verified tree and naive decoding read the same logits."""
    product = Bfloat16Packed(stored(*shape))
    x = torch.randn(25, shape[1], generator=torch.Generator().manual_seed(1))
    alone = product(x[:1])
    for rows in (2, 5, 9, 17, 25):
        assert torch.equal(product(x[:rows])[:1], alone), rows


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_multiplied_as_such_only_where_the_processor_does_it_and_the_weights_are(native, monkeypatch):
    weight = stored(64, 64)
    packed(weight, way=Bfloat16Packed)
    monkeypatch.setattr(products, "cpu_has_bf16", lambda: native)
    monkeypatch.setattr(products, "_probe", lambda product, *_: [1.0 if type(product) is Bfloat16Packed else 4.0])
    assert (quickest(weight.bfloat16(), torch.bfloat16, TARGET_WIDTHS) is Bfloat16Packed) == native
    assert quickest(weight, torch.float32, TARGET_WIDTHS) is not Bfloat16Packed


@pytest.mark.parametrize("fastest", [CompiledMatrix, HalfPacked, Plain])
def test_what_is_faster_is_taken(fastest, monkeypatch):
    weight = stored(64, 64)
    packed(weight)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(products, "_FEW_WEIGHTS", 0)
    products._threads_pay.cache_clear()
    monkeypatch.setattr(products, "_probe", lambda product, *_: [1.0 if type(product) is fastest else 4.0])
    for dtype in (torch.float32, torch.bfloat16):
        found = quickest(weight.to(dtype), dtype, TARGET_WIDTHS)
        assert found is {Plain: None, HalfPacked: half_packed}.get(fastest, fastest)
        assert found is None or type(found(weight, None)) is fastest
    assert quickest(weight.double(), torch.float64, TARGET_WIDTHS) is None
    monkeypatch.setattr(products, "_probe", lambda product, *_: [1.0 if type(product) is HalfPacked else 2.0])
    assert quickest(torch.randn(64, 64), torch.float32, TARGET_WIDTHS) in (None, CompiledMatrix)


def test_a_table_is_held_as_narrow_as_loses_nothing():
    assert narrowest(stored(8, 8)).dtype == torch.bfloat16
    assert narrowest(torch.tensor([1 + 2.0**-10])).dtype == torch.float16
    assert narrowest(torch.tensor([1 + 2.0**-20])).dtype == torch.float32


@pytest.mark.parametrize("shape", [(64,), (3, 64)], ids=["stream", "heads"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_the_norm_is_torchs(shape, dtype):
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(shape, generator=generator).to(dtype)
    for scale in (1e-4, 1.0, 1e4):
        x = (torch.randn(2, 5, *shape, generator=generator) * scale).to(dtype)
        want = F.rms_norm(x.double(), (64,), None, 1e-5) * weight.double()
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.02}[dtype]
        torch.testing.assert_close(RmsNorm(weight, 1e-5)(x).double(), want, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(RmsNorm(weight, 1e-5, 8.0)(x).double(), want / 8, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["target", "draft"])
def test_bfloat16_weights_that_are_packed_lose_nothing(name, monkeypatch):
    """Packed, everything but the stored weights is float32; plain, all is bfloat16, and differs by its own rounding."""
    ids = torch.arange(5, 45)
    logits = {}
    for dtype, way, inner in (
        ("float32", CompiledMatrix, torch.float32),
        ("bfloat16", CompiledMatrix, torch.float32),
        ("bfloat16", Bfloat16Packed, torch.float32),
        ("bfloat16", None, torch.bfloat16),
    ):
        monkeypatch.setattr("specterm.models.runners.llama.quickest", lambda *_, way=way: way)
        packed(stored(8, 8))
        runner = load_models(ModelSpec(target=f"builtin/{name}", dtype=dtype)).target.runner
        runner.allocate(1, 64)
        found = prefill(runner, 0, ids)[0]
        assert found.dtype == inner == runner.cache.slots(0, 0, 1)[0].dtype
        logits[dtype, way] = found.float()
    exact = logits["float32", CompiledMatrix]
    assert torch.equal(logits["bfloat16", CompiledMatrix], exact)
    rounded, plain = (
        float((logits["bfloat16", way] - exact).abs().max() / exact.abs().max()) for way in (Bfloat16Packed, None)
    )
    assert 0 < rounded < 0.1
    assert 0 < plain < 0.1


@pytest.mark.parametrize("way", [CompiledMatrix, HalfPacked, Plain])
@pytest.mark.parametrize("kind", ["eagle", "eagle3"])
def test_packed_heads_compute_what_they_did_before(kind, way, monkeypatch):
    monkeypatch.setattr("specterm.models.products.quickest", lambda *_: None if way is Plain else way)
    monkeypatch.setattr("specterm.models.products.packed_quickest", lambda _: way)
    models = load_models(ModelSpec(dtype="float32").checked())
    packed, plain = models.heads[kind], READERS[kind](BUILTIN_FOLDER / kind, models.target.runner)
    assert bool(packed.packed_bytes) == (way is not Plain)
    assert packed.packed_bytes <= sum(
        weight.nbytes for weight in plain.parameters()
    )  # two of 16 bits, one of 32 before
    assert (packed.lm_head is None) == (kind == "eagle" and way is not Plain)  # the target's serves
    random = torch.Generator().manual_seed(2)
    ids, features = torch.randint(4096, (2, 6), generator=random), torch.randn((2, 6, 384), generator=random)
    tree = Block((0, 1), (0, 0), ids, Topology.of_parents(torch.tensor([[-1, -1, 0, 1, 1]]), 2))
    found = []
    for heads in (packed, plain):
        heads.allocate(2, 16)
        found.append(heads(tree, features))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    step = Block((1,), (6,), ids[1:, :1], Topology.of_chain(0, ids.device))
    branches = Block((1,), (6,), ids[1:, 1:5], Topology.of_parents(torch.tensor([[-1, -1, 0, 1]]), 2), first=1)
    for block in (step, branches):  # of one row, behind what is there
        own = features[1:, : block.width]
        for a, b in zip(packed(block, own), plain(block, own)):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    for name, weight in plain.published().items():  # what was packed is still there, as it was
        assert torch.equal(packed.published()[name].to(weight.dtype), weight), name
    doubled = load_models(ModelSpec(dtype="float64").checked()).heads[kind]
    assert doubled.packed_bytes == 0


@pytest.mark.parametrize("way", [CompiledMatrix, HalfPacked, Plain])
@pytest.mark.parametrize("kind", ["medusa", "mlp"])
def test_packed_speculators_compute_what_they_did_before(kind, way, monkeypatch):
    monkeypatch.setattr("specterm.models.products.quickest", lambda *_: None if way is Plain else way)
    monkeypatch.setattr("specterm.models.products.packed_quickest", lambda _: way)
    models = load_models(ModelSpec(dtype="float32").checked())
    packed, plain = models.heads[kind], READERS[kind](BUILTIN_FOLDER / kind, models.target.runner)
    assert bool(packed.packed_bytes) == (way is not Plain)
    assert (packed.hidden_size, packed.dtype) == (plain.hidden_size, torch.float32) == (384, torch.float32)
    before, left = (sum(weight.nbytes for weight in module.parameters()) for module in (plain, packed))
    assert left + packed.packed_bytes <= 1.05 * before  # whole panels and vectors
    random = torch.Generator().manual_seed(3)
    for rows in (1, 5):
        states, ids = torch.randn((rows, 384), generator=random), torch.randint(4096, (rows,), generator=random)
        with torch.inference_mode():
            found = [
                (heads(states),) if kind == "medusa" else mlp_levels(heads, states, ids) for heads in (packed, plain)
            ]
        for a, b in zip(*found, strict=True):
            assert a.shape == b.shape
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    doubled = load_models(ModelSpec(dtype="float64").checked()).heads[kind]
    assert doubled.packed_bytes == 0


def test_packed_medusa_heads_of_several_layers():
    random = torch.Generator().manual_seed(4)
    weight, bias, lm_heads = (
        torch.randn(shape, generator=random).half().float() / 8 for shape in ((3, 2, 64, 64), (3, 2, 64), (2, 50, 64))
    )
    states, made = torch.randn((4, 64), generator=random), MedusaHeads(weight, bias, lm_heads)
    packed_heads = _Packed(CompiledMatrix, weight, lm_heads)
    torch.testing.assert_close(packed_heads(states, bias), made(states), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["medusa", "mlp", "eagle", "eagle3"])
def test_heads_of_a_bfloat16_target_are_packed_as_those_of_a_float32_one(kind, monkeypatch):
    """Their weights are the same, and what goes through packed ones is float32."""
    monkeypatch.setattr("specterm.models.products.quickest", lambda *_: CompiledMatrix)
    narrow, wide = (load_models(ModelSpec(dtype=dtype).checked()).heads[kind] for dtype in ("bfloat16", "float32"))
    assert narrow.dtype == wide.dtype == torch.float32
    assert narrow.packed_bytes == wide.packed_bytes > 0
    states = torch.randn((3, 384), generator=torch.Generator().manual_seed(5))
    if kind == "medusa":
        assert torch.equal(narrow(states), wide(states))
    elif kind == "mlp":
        for a, b in zip(*(mlp_levels(heads, states, torch.tensor([5, 6, 7])) for heads in (narrow, wide)), strict=True):
            assert torch.equal(a, b)
    else:
        block = Block((0,), (0,), torch.tensor([[5, 6, 7]]), Topology.of_chain(2, torch.device("cpu")))
        for heads in (narrow, wide):
            heads.allocate(1, 8)
        assert torch.equal(narrow(block, states[None])[1], wide(block, states[None])[1])


def mlp_levels(speculator, states, ids):
    """Logits of every level and its last state, reading the same tokens again and again."""
    logits, states = [], speculator.begin(states)
    for level in range(speculator.levels):
        told, states = speculator(states, ids, level)
        logits.append(told)
    return [*logits, states]


def test_small_matrices_are_multiplied_by_one_thread_and_large_ones_as_was_measured(monkeypatch):
    small, large, huge = torch.empty(200, 300), torch.empty(2000, 300), torch.empty(20000, 300)
    measured = []

    def pays(*asked):
        measured.append(asked)
        return True

    monkeypatch.setattr(products, "_threads_pay", pays)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    found = [packed_quickest(weight) for weight in (small, large, huge)]
    assert found == [CompiledMatrix, HalfPacked, HalfPacked]
    assert measured == [(2000, 300, 4), (13982, 300, 4)]  # no more than need be, however large it is
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert packed_quickest(large) is CompiledMatrix
    assert len(measured) == 2
