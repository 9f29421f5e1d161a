"""A device that vanishes is told once, and the app goes on."""

import dataclasses

from tui.fake_engine import CPU, GPU, FakeEngine
from tui.screens import settle, workbench

from specterm.events import DeviceReading
from specterm.tui.device_loss import DeviceLoss

DEAD = DeviceReading(device="gpu:0", name=GPU.name)


def test_each_loss_and_each_return_is_told_once() -> None:
    loss = DeviceLoss()
    assert [loss.observe(seen) for seen in ((), (GPU, CPU), (GPU, CPU))] == [None] * 3
    told = loss.observe((DEAD, CPU))
    assert told is not None
    assert told.startswith("gpu:0 no longer answered")
    assert loss.observe((DEAD, CPU)) is None
    assert loss.observe((CPU,)) is None
    assert loss.observe((GPU, CPU)) == "gpu:0 answered again"
    both = loss.observe(())
    assert both is not None
    assert both.startswith("cpu and gpu:0 no longer answered")


def test_what_never_answered_is_not_lost() -> None:
    loss = DeviceLoss()
    assert loss.observe((DEAD, CPU)) is None
    assert loss.observe((CPU,)) is None


def test_a_device_without_some_of_its_figures_is_there() -> None:
    loss = DeviceLoss()
    assert loss.observe((GPU,)) is None
    assert loss.observe((dataclasses.replace(GPU, power_w=None, utilization=None),)) is None


async def test_a_device_lost_in_a_run_is_one_notice_and_the_run_goes_on() -> None:
    app = workbench(FakeEngine(hold=True))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("enter")
        await settle(pilot)
        for readings in ((DEAD, CPU), (DEAD, CPU), ()):
            app.workbench._monitor.latest = readings
            app.workbench._read_devices()
            await pilot.pause()
        told = [notice.message for notice in app._notifications if "no longer" in notice.message]
        assert [text.split()[0] for text in told] == ["gpu:0", "cpu"]
        assert app.workbench.runs.jobs.run is not None
        await pilot.press("escape")
        await settle(pilot)
        assert app.workbench.runs.jobs.idle
