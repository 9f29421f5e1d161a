"""Kernels of this machine against torch: the same numbers, and every row by itself."""

import ctypes
import math

import pytest
import torch
import torch.nn.functional as F

from specterm.config import ModelSpec
from specterm.decoding.ports import FINAL_NORM, Block
from specterm.decoding.prefill import prefill
from specterm.decoding.tree import Topology
from specterm.kernels.library import Library
from specterm.kernels.machine import Machine, this_machine
from specterm.models.compiled.matrix import CompiledMatrix
from specterm.models.compiled.rows import suit
from specterm.models.loading import load_models
from specterm.models.products import Plain
from specterm.models.runners.compiled_passes import CompiledPasses
from specterm.models.runners.one_row import OneRow

pytestmark = pytest.mark.skipif(this_machine() is None, reason="no kernels for this processor")
CPU = torch.device("cpu")
FORMATS = [torch.bfloat16, torch.float16, torch.float32]


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).float()


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [(384, 100), (70, 33), (64, 64), (3, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_the_plain_one(dtype, shape, biased):
    weight, bias = drawn(*shape, dtype=dtype), drawn(shape[0], seed=1) if biased else None
    product = CompiledMatrix(weight, bias)
    held_in = str(dtype).removeprefix("torch.")
    assert product.kind.removesuffix("_tiles") == held_in
    assert product.kind.endswith("_tiles") == (this_machine().tiles and held_in == "bfloat16")
    assert product.gain == 1.0
    for rows in (1, 2, 5, 6, 7, 13, 16, 17, 33):
        x = drawn(rows, shape[1], seed=rows)
        want = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
        torch.testing.assert_close(product(x).double(), want, atol=1e-4, rtol=1e-5)
    x = drawn(2, 3, 2 * shape[1], seed=9)[..., ::2]  # with gaps
    torch.testing.assert_close(product(x), F.linear(x, weight, bias), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_the_weights_stay_what_they_are(dtype):
    """Even those that are next to nothing in their format."""
    weight = drawn(70, 64, dtype=dtype)
    tiny = torch.finfo(dtype).tiny
    weight[0, :4] = torch.tensor([tiny, -tiny, 0.0, tiny * (1 if dtype == torch.float32 else 2)])
    assert torch.equal(CompiledMatrix(weight)(torch.eye(64)).T, weight)


def test_weights_take_two_bytes_where_that_loses_nothing():
    assert CompiledMatrix(drawn(128, 64, dtype=torch.bfloat16)).nbytes == 128 * 64 * 2
    assert CompiledMatrix(drawn(128, 64)).nbytes == 128 * 64 * 4
    biased = CompiledMatrix(drawn(128, 64, dtype=torch.bfloat16)).with_bias(drawn(128))
    assert (biased.parameters, biased.nbytes) == (128 * 65, 128 * 64 * 2 + 128 * 4)


def test_a_row_is_the_same_among_others_and_on_many_threads(monkeypatch):
    weight = drawn(640, 384, dtype=torch.bfloat16)
    product, x = CompiledMatrix(weight, drawn(640, seed=3)), drawn(150, 384, seed=1)
    alone = torch.cat([product(row.unsqueeze(0)) for row in x])
    for rows in (2, 5, 6, 7, 24, 150):
        assert torch.equal(product(x[:rows]), alone[:rows]), rows
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(product(x), alone)


def test_what_is_not_a_number_is_not_hidden():
    product, x = CompiledMatrix(drawn(64, 64)), drawn(3, 64)
    x[1, 7] = math.nan
    assert product(x).isnan().any(dim=1).tolist() == [False, True, False]


def runner(monkeypatch, way, name="builtin/target"):
    monkeypatch.setattr("specterm.models.runners.llama.quickest", lambda *_: way)
    return load_models(ModelSpec(target=name, dtype="float32")).target.runner


def blocks():
    """A prompt, a token, a chain, a tree, branches below a tree's first nodes, and more than one walk's worth."""
    tree = Topology.of_parents(torch.tensor([[-1, -1, 0, 1, 1, 2, 3]]), 3)
    random = torch.Generator().manual_seed(1)

    def ids(width):
        return torch.randint(0, 4096, (1, width), generator=random)

    chain = Topology.of_chain
    return [
        Block((1,), (0,), ids(100), chain(99, CPU)),
        Block((1,), (100,), ids(1), chain(0, CPU)),
        Block((1,), (101,), ids(5), chain(4, CPU)),
        Block((1,), (106,), ids(8), tree),
        Block((1,), (106,), ids(4), tree, first=3),
        Block((1,), (106,), ids(20), chain(19, CPU)),
    ]


@pytest.mark.parametrize("name", ["builtin/target", "builtin/draft"])
def test_passes_are_those_of_torch(name, monkeypatch):
    compiled, plain = (runner(monkeypatch, way, name) for way in (CompiledMatrix, Plain))
    assert isinstance(compiled._few, CompiledPasses)
    assert isinstance(plain._few, OneRow)
    taps = (0, FINAL_NORM)
    for each in (compiled, plain):
        each.allocate(2, 160)
    for block in blocks():
        for ours, theirs in zip(*(each.forward_tapped(block, taps) for each in (compiled, plain)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)
    for ours, theirs in zip(*(each.cache.slots(0, 1, 126) for each in (compiled, plain)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_rows_of_different_lengths_go_together(monkeypatch):
    """Each as by torch, and to the last bit as it does alone."""
    compiled, plain = (runner(monkeypatch, way) for way in (CompiledMatrix, Plain))
    lengths, random = (40, 7, 63), torch.Generator().manual_seed(4)
    prompts = [torch.randint(0, 4096, (length,), generator=random) for length in lengths]
    for each in (compiled, plain):
        each.allocate(4, 96)
        for row, prompt in zip((0, 1, 3), prompts):
            prefill(each, row, prompt)
    own = torch.tensor([[-1, 0, 0, 1], [-1, -1, 1, 2], [-1, 0, 1, 2]])  # a tree for each row
    shared = own[:1]
    for parents, last in ((own, None), (shared, None), (own, (4, 0, 2))):
        tree = Topology.of_parents(parents, 4)
        block = Block((0, 1, 3), lengths, torch.randint(0, 4096, (3, 5), generator=random), tree)
        (ours, tapped), (theirs, _) = (each.forward_tapped(block, (2, FINAL_NORM), last) for each in (compiled, plain))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)
        for index, row in enumerate(block.rows):
            topology = Topology.of_parents(parents[index % len(parents)].unsqueeze(0), 4)
            alone = Block((row,), (lengths[index],), block.ids[index : index + 1], topology)
            logits, states = compiled.forward_tapped(alone, (2, FINAL_NORM), None if last is None else (last[index],))
            assert torch.equal(logits[0], ours[index])
            assert torch.equal(states[0], tapped[index])


LESSER = [Machine("x86-64-v4", 16, 6), Machine("x86-64-v3", 8, 3), Machine("x86-64-v3", 4, 6)]


@pytest.mark.parametrize("machine", LESSER, ids=["avx512", "avx2", "four"])
def test_passes_of_lesser_processors_are_those_of_torch_too(machine, monkeypatch):
    """As far as this one has their instructions."""
    if not this_machine().cpu.startswith("x86-64") or this_machine().lanes < machine.lanes:
        pytest.skip("this processor lacks their instructions")
    for module in ("models.compiled.matrix", "models.compiled.rows"):
        monkeypatch.setattr(f"specterm.{module}.this_machine", lambda: machine)
    narrow, plain = (runner(monkeypatch, way) for way in (CompiledMatrix, Plain))
    for each in (narrow, plain):
        each.allocate(2, 160)
    for block in blocks():
        ours, theirs = (each.forward(block) for each in (narrow, plain))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


def test_a_token_gets_the_same_bits_alone_in_a_chain_and_in_a_tree(monkeypatch):
    """So what is verified is what naive decoding computes, to the last bit."""
    target = runner(monkeypatch, CompiledMatrix)
    target.allocate(1, 128)
    prompt, tokens = torch.arange(5, 75), [17, 300, 4, 99]
    prefill(target, 0, prompt)
    alone = torch.stack([target.step(0, 70 + i, token) for i, token in enumerate(tokens)])
    chain = target.forward(Block((0,), (70,), torch.tensor([tokens]), Topology.of_chain(3, CPU)))[0]
    assert torch.equal(chain, alone)
    parents = torch.tensor([[-1, -1, 1, 0, 2, 2, 0]])  # nodes 1, 2, 4 follow one another behind the root
    ids = torch.tensor([[tokens[0], 1, tokens[1], tokens[2], 2, tokens[3], 3, 4]])
    tree = target.forward(Block((0,), (70,), ids, Topology.of_parents(parents, 3)))[0]
    assert torch.equal(tree[[0, 2, 3, 5]], alone)


def test_a_new_cache_is_found_and_the_old_one_let_go(monkeypatch):
    target = runner(monkeypatch, CompiledMatrix)
    block, found = Block((0,), (0,), torch.tensor([[3, 4, 5]]), Topology.of_chain(2, CPU)), []
    for slots in (64, 64, 256):  # the second is new too, the third is the second, made larger
        if slots == 64:
            target.release()
        target.allocate(1, slots)
        target.forward(block)
        found.append(target.forward(block))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_layers_of_odd_widths_do_without(monkeypatch):
    class Odd:
        hidden, heads, kv_heads, head_dim = 60, 4, 2, 15

    layers = runner(monkeypatch, CompiledMatrix)._layers
    assert not suit(Odd(), layers)
    assert suit(runner(monkeypatch, CompiledMatrix).shape, layers)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_the_exponential_is_right_to_the_last_bits(lanes):
    from llvmlite import ir

    from specterm.kernels.emitter import FLOAT, POINTER, Emitter

    machine = this_machine()
    module = ir.Module("exp")
    e = Emitter(module, "exp", [POINTER, POINTER], shared=True)
    x, y = e.arguments
    e.store(e.exp(e.load(x, ir.VectorType(FLOAT, lanes))), y)
    e.end()
    library = Library(machine, module)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(library.address("exp"))
    values = torch.cat((torch.linspace(-86.9, 88.0, 4000), torch.tensor([0.0, -0.0, 1e-30, -1e-30])))
    values = values[: len(values) // lanes * lanes].view(-1, lanes)
    found = torch.empty_like(values)
    for row, out in zip(values, found, strict=True):
        function(row.data_ptr(), out.data_ptr())
    torch.testing.assert_close(found.double(), values.double().exp(), rtol=3e-7, atol=0)
    edge = torch.tensor([-math.inf, -200.0, 200.0, math.nan] * (lanes // 4))
    out = torch.empty(lanes)
    function(edge.data_ptr(), out.data_ptr())
    assert out[:2].tolist() == [0.0, 0.0]
    assert 1e38 < out[2] < math.inf
    assert out[3].isnan()


@pytest.mark.parametrize("machine", [*LESSER, Machine("generic", 4, 6)])
def test_code_for_other_processors_is_well_formed(machine):
    """It is verified by LLVM; it cannot be run here."""
    from llvmlite import binding, ir

    from specterm.models.compiled.layers import layers

    module = ir.Module("layers")
    layers(module, machine, 64, ("bfloat16", "float16", "float32", "int8"), "layers")
    binding.parse_assembly(str(module)).verify()
