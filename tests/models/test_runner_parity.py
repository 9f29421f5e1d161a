"""Our runners against transformers' own forward pass without a cache."""

import pytest
import torch
import torch.nn.functional as F
from feeding import chain, random_ids
from transformers import AutoModelForCausalLM

from specterm.config import ModelSpec
from specterm.decoding.ports import FINAL_NORM, Block, TokenSteps
from specterm.decoding.prefill import CHUNK_TOKENS, prefill
from specterm.decoding.tree import Topology
from specterm.models.folders import BUILTIN_FOLDER
from specterm.models.loading import load_models
from specterm.models.runners.causal_lm import CausalLMRunner

CPU = torch.device("cpu")
FUSED = ["llama", "llama3-rope", "mistral", "qwen2", "qwen3"]
KINDS = [*FUSED, "mistral-sliding", "gpt2", "gemma3"]
DTYPES = [("float64", 1e-9), ("float32", 1e-4)]
IDS = [random_ids(40, 1), random_ids(33, 2), random_ids(40, 3)]


def load(folder, dtype: str, device: str = "cpu"):
    return load_models(ModelSpec(target=str(folder), dtype=dtype, device=device)).target


def expected(folder, dtype: str, ids) -> list[torch.Tensor]:
    """Logits [L, V] of each sequence, all in one pass, without a cache."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    sliding = getattr(model.config, "sliding_window", None)
    if dtype == "float64" and model.config.model_type in ("llama", "mistral", "qwen2", "qwen3") and not sliding:
        keep_double_precision(model)
    with torch.inference_mode():
        return [model(torch.tensor([row]), use_cache=False).logits[0] for row in ids]


def keep_double_precision(model) -> None:
    """transformers' RMS norms round to float32 whatever the model's dtype: 1e-7, which hides what is looked for."""
    norms = [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]
    assert norms
    for norm in norms:
        norm.forward = lambda x, norm=norm: F.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)


def close(got: torch.Tensor, want: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(got, want, atol=tolerance * float(want.abs().max()), rtol=0.0)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_logits(kind, dtype, tolerance, saved_pair, monkeypatch):
    """Prefill in chunks of 16; decoding with rows that start at different places, in any order and number."""
    folder, _ = saved_pair(kind)
    loaded = load(folder, dtype)
    assert loaded.info.runner == ("fused llama" if kind in FUSED else "transformers")
    runner, want = loaded.runner, expected(folder, dtype, IDS)
    monkeypatch.setitem(CHUNK_TOKENS, "cpu", 16)
    runner.allocate(4, 64)
    starts = (36, 20, 17)
    for row, (ids, start) in enumerate(zip(IDS, starts, strict=True)):
        last, _ = prefill(runner, row, torch.tensor(ids[:start]))
        close(last[0], want[row][start - 1], tolerance)
    for rows in ((0, 1, 2), (2, 0), (1,)):  # the same tokens again: rolled back by saying so
        blocks = [IDS[row][starts[row] : starts[row] + 4] for row in rows]
        got = chain(runner, rows, [starts[row] for row in rows], blocks)
        for index, row in enumerate(rows):
            close(got[index], want[row][starts[row] : starts[row] + 4], tolerance)
    for step in range(3):  # and one by one, without the first row
        got = chain(runner, (1, 2), [starts[1] + step, starts[2] + step], [[IDS[r][starts[r] + step]] for r in (1, 2)])
        for index, row in enumerate((1, 2)):
            close(got[index, 0], want[row][starts[row] + step], tolerance)


@pytest.mark.parametrize("kind", FUSED)
def test_fused_equals_the_transformers_runner(kind, saved_pair):
    folder, _ = saved_pair(kind)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    keep_double_precision(model)
    runners = [load(folder, "float64").runner, CausalLMRunner(model, torch.device("cpu"), 256)]
    caches = []
    for runner in runners:
        runner.allocate(1, 64)
        close(prefill(runner, 0, torch.tensor(IDS[0]))[0][0], expected(folder, "float64", IDS[:1])[0][-1], 1e-9)
        caches.append([runner.cache.slots(layer, 0, 40) for layer in runner.cache.layers()])
    for fused, plain in zip(*caches, strict=True):
        for ours, theirs in zip(fused, plain, strict=True):
            close(ours, theirs, 1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral-sliding"])
def test_scratch_tokens_beyond_the_context_harm_nothing(kind, dtype, tolerance, saved_pair):
    folder, _ = saved_pair(kind)
    runner = load(folder, dtype).runner
    ids = random_ids(256, 4)
    runner.allocate(2, 256 + 8)
    prefill(runner, 0, torch.tensor(ids[:254]))
    prefill(runner, 1, torch.tensor(ids[:100]))
    got = chain(runner, (0, 1), (254, 100), [[*ids[254:], 5, 6, 7], ids[100:105]])
    want = expected(folder, dtype, [ids])[0]
    close(got[0, :2], want[254:], tolerance)
    close(got[1], want[100:105], tolerance)
    close(chain(runner, (0,), (254,), [[*ids[254:], 5, 6, 7]])[0, :2], want[254:], tolerance)


@pytest.mark.parametrize("name", ["target", "draft", "draft-b"])
def test_the_builtin_models(name):
    loaded = load("builtin/" + name, "float32")
    ids = loaded.codec.encode("The old lighthouse keeper climbed the stairs, and then he lit the lamp.")
    loaded.runner.allocate(1, 64)
    want = expected(BUILTIN_FOLDER / name, "float32", [ids])[0]
    close(chain(loaded.runner, (0,), (0,), [ids])[0], want, 1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_logits_on_cuda(kind, saved_pair):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    folder, _ = saved_pair(kind)
    runner = load(folder, "float64", "cuda").runner
    runner.allocate(2, 64)
    want = expected(folder, "float64", IDS[:2])
    prefill(runner, 0, torch.tensor(IDS[0][:30]))
    prefill(runner, 1, torch.tensor(IDS[1][:12]))
    got = chain(runner, (0, 1), (30, 12), [IDS[0][30:40], IDS[1][12:22]]).cpu()
    close(got[0], want[0][30:40], 1e-9)
    close(got[1], want[1][12:22], 1e-9)


@pytest.mark.parametrize("kind", FUSED)
def test_a_token_of_one_row(kind, saved_pair):
    """Alone, and as a step, behind what other shapes of pass wrote; early exits and taps take the same way."""
    folder, _ = saved_pair(kind)
    runner, (ids, *_) = load(folder, "float32").runner, IDS
    want = expected(folder, "float32", [ids])[0]
    runner.allocate(2, 16)
    prefill(runner, 1, torch.tensor(ids[:12]))
    runner.allocate(2, 64)  # other buffers: what was known of the old ones is of no use
    assert isinstance(runner, TokenSteps)
    for position in range(12, 20):
        if position % 2:
            got = runner.step(1, position, ids[position])
        else:
            got = chain(runner, (1,), (position,), [ids[position : position + 1]])[0, 0]
        close(got, want[position], 1e-4)
    with pytest.raises(ValueError, match="slot 64 is beyond"):
        runner.step(1, 64, 5)


def test_taps_of_one_row_and_of_two(saved_pair):
    """A few tokens of one row have a way of their own; two rows go torch's."""
    runner, taps = load(saved_pair("qwen3")[0], "float32").runner, (0, 2, FINAL_NORM)
    runner.allocate(2, 64)
    one, two = (Block(rows, (0,) * len(rows), torch.tensor([IDS[0][:9]] * len(rows)), Topology.of_chain(8, CPU))
                for rows in ((0,), (0, 1)))  # fmt: skip
    want, of_two = runner.forward_tapped(two, taps)
    early = runner.early_exit(2).forward(two)
    got, states = runner.forward_tapped(one, taps, last=[4])
    assert states.shape == (1, 9, 3 * runner.hidden_size)
    close(got[0, 0], want[0, 4], 1e-5)
    close(states[0], of_two[0], 1e-5)
    close(runner.early_exit(2).forward(one)[0], early[0], 1e-5)
