"""Figures, devices and graphs as text."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style
from textual.app import App, ComposeResult
from textual.widgets import Checkbox
from tui.fake_engine import CPU, GPU, ROUNDS, run_events

from specterm.catalogue import METHODS, SAMPLING, Parameter
from specterm.errors import ConfigError
from specterm.events import DeviceReading
from specterm.metrics import LiveFigures
from specterm.tui.widgets.device_text import DeviceHistory, Look, device_block, device_line
from specterm.tui.widgets.figures import NOT_MEASURED, panel_pairs, phase_shares, throughput
from specterm.tui.widgets.history_graph import bar, braille_graph
from specterm.tui.widgets.parameter_field import ParameterField, from_text, split_texts, to_text

LOOK = Look(*(Style() for _ in range(6)))
NOTHING = DeviceReading(device="gpu:0", name="some GPU")


def block(reading: DeviceReading, width: int = 60) -> list[str]:
    history = DeviceHistory()
    history.observe((reading,))
    return [line.plain.rstrip() for line in device_block(reading, history, width, 1, LOOK)]


def test_a_device_says_everything_it_reports_and_where_its_power_comes_from() -> None:
    title, power, _, util, memory, rest = block(GPU)
    assert title == "gpu:0  NVIDIA H200"
    assert power == "power   312 / 700 W  nvml instant"
    assert util.startswith("util    87 %")
    assert memory.startswith("memory  45.0 / 140.0 GiB")
    assert rest == "temp    61 °C  clock 1980 MHz"


def test_what_a_device_does_not_report_is_n_a() -> None:
    lines = block(NOTHING)
    assert "0" not in "".join(lines[1:2] + lines[3:])
    assert lines[1] == "power   n/a"
    assert lines[3:] == ["util    n/a", "memory  n/a", "temp    n/a  clock n/a"]
    assert device_line((NOTHING,), 80, LOOK).plain == "gpu:0 power n/a  util n/a  mem n/a  temp n/a  clock n/a"


def test_a_scope_that_is_not_the_gpu_alone_is_said() -> None:
    assert "nvml average, module" in block(dataclasses.replace(GPU, power_source="nvml average", scope="module"))[1]
    assert "throttled" in block(dataclasses.replace(GPU, throttled=True))[0]


@pytest.mark.parametrize("width", [30, 58, 78, 120])
def test_the_device_line_puts_the_gpu_first_and_fits(width: int) -> None:
    line = device_line((CPU, GPU), width, LOOK)
    assert line.plain.startswith("gpu:0 312 / 700 W")
    assert line.cell_len <= width


def test_a_snapshot_is_taken_into_the_history_once() -> None:
    history, snapshot = DeviceHistory(), (GPU, CPU)
    assert history.observe(snapshot)
    assert not history.observe(snapshot)
    assert list(history.power["gpu:0"]) == [312.0]
    assert list(history.power["cpu"]) == [None]


def test_a_graph_has_its_newest_sample_at_the_right_and_gaps_where_nothing_was_measured() -> None:
    assert braille_graph([None, 4.0, 0.0, 2.0], 4.0, 3, 1) == ["\u2800\u28b8\u28a0"]
    assert braille_graph([8.0, 8.0], 8.0, 1, 2) == ["\u28ff", "\u28ff"]
    assert braille_graph([0.001], 8.0, 1, 1) == ["\u2880"]


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e6))), st.integers(1, 50), st.integers(1, 5))
def test_a_graph_has_its_size(samples: list[float | None], width: int, height: int) -> None:
    lines = braille_graph(samples, 700.0, width, height)
    assert [len(line) for line in lines] == [width] * height


@given(st.floats(-1, 2), st.integers(1, 40))
def test_a_bar_fills_its_width_at_one(fraction: float, width: int) -> None:
    drawn = bar(fraction, width)
    assert len(drawn) == width
    assert (drawn == "█" * width) == (fraction >= 1 or round(fraction * width * 8) == 8 * width)


def test_figures_before_a_run_are_n_a() -> None:
    figures = LiveFigures().figures
    told = dict(figure for pair in panel_pairs(figures) for figure in pair)
    assert throughput(figures) == NOT_MEASURED
    for name in ("TTFT", "TPOT", "latency", "mean length", "acceptance", "wastage"):
        assert told[name] == NOT_MEASURED, name


def test_figures_after_a_run_are_those_of_its_events() -> None:
    live = LiveFigures()
    for event in run_events("prompt"):
        live.observe(event)
    told = dict(figure for pair in panel_pairs(live.figures) for figure in pair)
    parts = [part for round_ in ROUNDS for part in round_.rows]
    drafted = sum(len(part.tokens) for part in parts)
    accepted = sum(part.states.count("accepted") for part in parts)
    emitted = sum(len(part.emitted) for part in parts)
    assert told["tokens"] == str(emitted + 1)
    assert told["rounds"] == str(len(ROUNDS))
    assert told["acceptance"] == f"{100 * accepted / drafted:.1f} %"
    assert told["mean length"] == f"{emitted / len(ROUNDS):.2f}"
    assert told["TTFT"] == "100.0 ms"
    assert [name for name, _ in phase_shares(live.figures)] == ["draft", "verify", "other"]
    assert sum(share for _, share in phase_shares(live.figures)) == pytest.approx(1.0)


PARAMETERS = {p.name: p for p in (*SAMPLING, *(p for method in METHODS.values() for p in method.parameters))}


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=lambda parameter: parameter.name)
def test_the_text_of_a_default_reads_back_as_the_default(parameter: Parameter) -> None:
    assert from_text(parameter, to_text(parameter.default)) == parameter.check(parameter.default)


@given(st.lists(st.text(st.sampled_from("ab|\\\n "), min_size=1), min_size=1, max_size=4))
def test_stop_texts_read_back(texts: list[str]) -> None:
    assert split_texts(to_text(tuple(texts))) == tuple(texts)


@pytest.mark.parametrize("text", ["|", "a|", "a||b"])
def test_an_empty_stop_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--stop has an empty text"):
        from_text(PARAMETERS["stop"], text)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "warm", ""])
def test_a_bad_temperature_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--temperature is"):
        from_text(PARAMETERS["temperature"], text)


async def test_a_switch_is_ticked_with_the_keyboard() -> None:
    parameter = Parameter("adaptive", "bool", False, "Adapts the number of draft tokens.")

    class Form(App[None]):
        def compose(self) -> ComposeResult:
            yield ParameterField(parameter, parameter.default)

    app = Form()
    async with app.run_test() as pilot:
        field = app.query_one(ParameterField)
        assert field.value() is False
        field.query_one(Checkbox).focus()
        await pilot.press("enter")
        await pilot.pause()
        assert field.value() is True
