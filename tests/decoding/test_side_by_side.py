"""Drafters at the same time: they draft what they draft one after the other, and threads are chosen by measurement."""

import threading

import pytest
import torch
from harness import decode

from specterm.bench.prompts import gather
from specterm.config import ModelSpec
from specterm.decoding.drafters import multi_draft
from specterm.decoding.drafters.side_by_side import InTurn, Threads, side_by_side, step_seconds
from specterm.engine.calibration import calibrate
from specterm.events import Calibration
from specterm.models.loading import load_models

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models():
    return load_models(ModelSpec(drafts=("builtin", "builtin/draft-b"), dtype="float32"))


def test_pieces_run_at_the_same_time_and_keep_their_order():
    together = threading.Barrier(3, timeout=30)  # broken unless all three are in it at once
    threads = Threads(3)
    try:
        assert threads.run([lambda i=i: (together.wait() >= 0, i) for i in range(3)]) == [(True, i) for i in range(3)]
        assert threads.run([]) == []
        assert threads.run([lambda: 7]) == [7]
    finally:
        threads.close()


@pytest.mark.parametrize("failing", [0, 1])
def test_what_a_piece_raises_is_raised_when_all_have_ended(failing):
    ended = []

    def piece(i):
        if i == failing:
            raise ValueError(str(i))
        ended.append(i)

    threads = Threads(2)
    with pytest.raises(ValueError, match=str(failing)):
        threads.run([lambda: piece(0), lambda: piece(1)])
    threads.close()
    assert ended == [1 - failing]


def counted():
    """How many threads torch has for the caller, who has computed something large enough to need them."""
    torch.ones(200_000).exp_().sum()
    return torch.get_num_threads()


@pytest.mark.parametrize(("together", "pieces", "each"), [(2, 2, 1), (4, 2, 2), (1, 2, 1), (4, 3, 1)])
def test_torchs_own_threads_are_shared_out(together, pieces, each):
    before = torch.get_num_threads()
    torch.set_num_threads(together)
    threads = Threads(pieces)
    try:
        for _ in range(2):
            assert threads.run([counted] * pieces) == [each] * pieces
            assert torch.get_num_threads() == together
        assert threads.run([counted]) == [together]
        with pytest.raises(ZeroDivisionError):
            threads.run([lambda: 1 // 0, counted])
        assert torch.get_num_threads() == together
    finally:
        threads.close()
        torch.set_num_threads(before)


class Noting:
    """Notes how many pieces ran each time."""

    def __init__(self, way, ran):
        self.close, self.in_turn = way.close, False  # or rounds would be done without it
        self._way, self._ran = way, ran

    def run(self, work):
        self._ran.append((type(self._way), len(work)))
        return self._way.run(work)


@pytest.mark.parametrize(("method", "parameters"), [("sequential", {}), ("tree", {"tree_nodes": 12})])
def test_threads_draft_what_is_drafted_in_turn(models, monkeypatch, method, parameters):
    target, drafts = models.target.runner, [draft.runner for draft in models.drafts]
    prompts = [models.codec.encode(request.prompt) for request in gather(("builtin",), 2)]
    ran = []

    def decoded(way):
        monkeypatch.setattr(multi_draft, "side_by_side", lambda devices, costs: Noting(way, ran))
        return decode(target, prompts, method=method, drafts=drafts, max_tokens=24, batch_size=2, **parameters)

    in_turn, threaded = decoded(InTurn()), decoded(Threads(2))
    assert [part.tokens for part in threaded.rounds] == [part.tokens for part in in_turn.rounds]
    assert [part.sources for part in threaded.rounds] == [part.sources for part in in_turn.rounds]
    assert threaded.ids == in_turn.ids == decode(target, prompts, max_tokens=24, batch_size=2).ids
    assert {"accepted", "rejected"} <= set(threaded.states)
    assert {(InTurn, 2), (Threads, 2)} <= set(ran)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("specterm-draft")]


def costs(together):
    return Calibration({1: 1.0}, (0.5, 0.5), 64, together)


@pytest.mark.parametrize(
    ("devices", "measured", "way", "step_s"),
    [
        ([CPU, CPU], costs(0.6), Threads, 0.6),
        ([CPU, CPU], costs(0.97), InTurn, 1.0),
        ([CPU, CPU], costs(None), InTurn, 1.0),
        ([CPU, CPU], None, InTurn, None),
        ([CPU], costs(None), InTurn, 1.0),
        ([CPU, torch.device("meta")], costs(0.1), InTurn, None),
    ],
)
def test_threads_are_chosen_where_they_measured_faster(devices, measured, way, step_s):
    chosen = side_by_side(devices, measured)
    chosen.close()
    assert type(chosen) is way
    if step_s is not None:
        assert step_seconds(measured) == step_s


def test_loading_measures_drafts_together(models):
    assert 0 < calibrate(models).drafts_together_s < 30
    alone = load_models(ModelSpec(dtype="float32"))
    assert calibrate(alone).drafts_together_s is None
