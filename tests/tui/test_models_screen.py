"""Choosing models: by name, from earlier choices, from folders; and what becomes of the choice."""

import dataclasses
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Select, Static
from tui.fake_engine import GPU, LOADED, FakeEngine, model_info
from tui.screens import comes, settle, still, workbench
from tui.test_screens import SIZES, SNAPSHOTS, Compare

from specterm.catalogue import HEADS
from specterm.config import MethodSpec, ModelSpec, RunSpec
from specterm.events import Loaded, RunFinished
from specterm.tui.app import SpectermApp
from specterm.tui.model_choice import found_devices
from specterm.tui.recent_models import RecentModels
from specterm.tui.screens.models import ModelsScreen
from specterm.tui.widgets.model_bar import ModelBar
from specterm.tui.widgets.model_folders import ModelFolders
from specterm.tui.widgets.model_form import ModelForm
from specterm.tui.widgets.name_field import NameField

SIZE = (120, 40)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, a folder without one and a file."""
    root = tmp_path / "here"
    for name in ("a-model", "notes"):
        (root / name).mkdir(parents=True)
    (root / "a-model" / "config.json").write_text("{}")
    (root / "file.txt").write_text("")
    monkeypatch.chdir(root)
    return root


async def opened(app: SpectermApp, pilot: Pilot[None]) -> ModelsScreen:
    await settle(pilot)
    await pilot.press("f12")
    await comes(pilot, lambda: isinstance(app.screen, ModelsScreen))
    assert isinstance(app.screen, ModelsScreen)
    return app.screen


async def listed(screen: ModelsScreen, pilot: Pilot[None]) -> None:
    """Wait until the tree has read its first folder."""
    await comes(pilot, lambda: bool(screen.query_one(ModelFolders).root.children))


def field(screen: ModelsScreen, label: str) -> Input:
    return next(f for f in screen.query(NameField) if f.label == label).query_one(Input)


def problem(screen: ModelsScreen) -> str:
    return str(screen.query_one("#models-problem", Static).render())


async def test_names_that_are_typed_are_loaded_with_drafts_in_order(folders: Path) -> None:
    engine = FakeEngine()
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        screen = await opened(app, pilot)
        field(screen, "target").value = "some/model"
        for label, name in (("draft 1", "./one"), ("draft 2", "some/two")):
            await comes(pilot, lambda: any(f.label == label for f in screen.query(NameField)))  # noqa: B023
            field(screen, label).value = name
        await comes(pilot, lambda: any(f.label == "draft 3" for f in screen.query(NameField)))
        own = [field(screen, label).placeholder for label in ("draft 1", "eagle")]
        assert own == ["none; builtin has its own"] * 2
        assert field(screen, "draft 3").placeholder == "none"
        field(screen, "eagle").value = "some/heads"
        await pilot.press("enter")
        await settle(pilot)
        chosen = ModelSpec(target="some/model", drafts=("./one", "some/two"), eagle="some/heads")
        assert engine.loads[-1] == chosen
        app.screen.query_one("#prompt").focus()
        await pilot.press("enter")
        await settle(pilot)
        assert engine.runs[-1][0].model == chosen


async def test_another_target_does_not_inherit_what_the_built_in_one_brings(folders: Path) -> None:
    engine = FakeEngine()
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        screen = await opened(app, pilot)
        assert engine.loads[0].drafts == ("builtin",)
        await pilot.press("f3", "down", "down", "enter", "f12")
        await settle(pilot)
        assert screen is not app.screen
        assert engine.loads[-1] == ModelSpec(target="builtin/draft")


async def test_a_value_that_cannot_be_used_is_said_and_holds_the_screen(folders: Path) -> None:
    engine = FakeEngine()
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        screen = await opened(app, pilot)
        field(screen, "target").value = " "
        await pilot.press("f12")
        await pilot.pause()
        assert app.screen is screen
        assert "target is empty" in problem(screen)
        assert len(engine.loads) == 1
        await pilot.press("escape")
        await settle(pilot)
        assert app.screen is not screen


async def test_folders_are_marked_and_go_into_the_field_that_was_used_last(folders: Path) -> None:
    app = workbench()
    async with app.run_test(size=SIZE) as pilot:
        screen = await opened(app, pilot)
        field(screen, "draft 1").focus()
        await pilot.press("f4")
        await listed(screen, pilot)
        tree = screen.query_one(ModelFolders)
        shown = [str(tree.render_label(node, tree.rich_style, tree.rich_style)) for node in tree.root.children]
        assert shown == ["◆ a-model", "▸ notes"]
        await pilot.press("down", "enter")
        await comes(pilot, lambda: field(screen, "draft 1").value == str(folders / "a-model"))
        assert screen.query_one("#known").border_subtitle == tree.border_subtitle == "Enter fills draft 1"
        await pilot.press("down", "enter")  # it holds no model, and is only opened
        await comes(pilot, lambda: tree.cursor_node.is_expanded)
        assert field(screen, "draft 1").value == str(folders / "a-model")
        await pilot.press("left")
        assert not tree.cursor_node.is_expanded
        await pilot.press("right")
        assert tree.cursor_node.is_expanded
        await pilot.press("left", "left")
        assert tree.cursor_node is tree.root


async def test_down_and_up_go_from_name_to_name(folders: Path) -> None:
    app = workbench()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(app, pilot)
        await pilot.press("down")
        assert app.focused is field(screen, "draft 1")
        await pilot.press("up")
        assert app.focused is field(screen, "target")


async def test_a_name_is_completed(folders: Path) -> None:
    app = workbench()
    async with app.run_test(size=SIZE) as pilot:
        screen = await opened(app, pilot)
        box = field(screen, "target")
        for typed, whole in (
            ("builtin/d", "builtin/draft"),
            ("./a", "./a-model"),
            (f"{folders}/no", f"{folders}/notes"),
        ):
            box.value = typed
            box.cursor_position = len(typed)
            await comes(pilot, lambda: box._suggestion == whole)  # noqa: B023
            await pilot.press("right")
            assert box.value == whole


async def test_what_was_loaded_is_offered_again_in_the_next_session(folders: Path, tmp_path: Path) -> None:
    engine = FakeEngine()
    RecentModels(tmp_path / "state").add(ModelSpec(target="./a", drafts=("./b",), device="cuda:0", max_model_len=64))
    app = workbench(engine)
    app.workbench.runs.choice._recent = RecentModels(tmp_path / "state")
    async with app.run_test(size=SIZE) as pilot:
        screen = await opened(app, pilot)
        known = screen.query_one("#known", OptionList)
        assert "./a + ./b · auto · cuda:0" in [str(option.prompt) for option in known.options]
        known.focus()
        await pilot.press("end", "enter")
        await comes(pilot, lambda: field(screen, "target").value == "./a")
        await pilot.press("f12")
        await settle(pilot)
        assert engine.loads[-1] == ModelSpec(target="./a", drafts=("./b",), device="cuda:0", max_model_len=64)


def test_the_recent_models_survive_what_is_wrong_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "recent-models.json").write_text("not json")
    recent = RecentModels(tmp_path)
    assert recent.specs == ()
    for number in range(20):
        recent.add(ModelSpec(target=f"./{number}"))
    recent.add(ModelSpec(target="./15"))
    again = RecentModels(tmp_path).specs
    assert [spec.target for spec in again][:3] == ["./15", "./19", "./18"]
    assert len(again) == 12
    RecentModels(tmp_path / "recent-models.json" / "no-folder").add(ModelSpec())  # cannot be written


@pytest.mark.parametrize("kept", [True, False])
async def test_a_load_that_fails_says_what_the_next_run_uses(kept: bool, folders: Path) -> None:
    engine = FakeEngine()
    app = workbench(engine)
    async with app.run_test(size=SIZE) as pilot:
        screen = await opened(app, pilot)
        field(screen, "target").value = "./gone"
        failed = RunFinished(0.1, "failed", "there is no model folder ./gone", 3)
        engine._load = (*(LOADED[1:2] if kept else ()), failed)
        await pilot.press("f12")
        await settle(pilot)
        told = [n.message for n in app._notifications]
        assert "there is no model folder ./gone" in told
        assert any(("is still loaded" if kept else "the next run loads it again") in text for text in told)
        app.query_one("#prompt").focus()
        await pilot.press("enter")
        await settle(pilot)
        assert engine.runs[-1][0].model == engine.loads[0]
        await opened(app, pilot)
        assert field(app.screen, "target").value == "./gone"  # to be mended, not typed again


async def test_the_bar_shows_heads_and_memory() -> None:
    target, draft = model_info("big", 1_000_000_000), model_info("small", 100_000_000)
    loaded = Loaded(0.2, target, (draft,), None, {"medusa": "x", "eagle": "y"}, 100_000_000)
    app = workbench(FakeEngine(load=(loaded, RunFinished(0.2, "done"))))
    async with app.run_test(size=(200, 50)) as pilot:
        await settle(pilot)
        assert "4.5 GB" in str(app.query_one(ModelBar).render())
        assert "heads medusa+eagle" in str(app.query_one(ModelBar).render())


async def test_the_bar_names_the_heads_of_the_chosen_method() -> None:
    heads = {"medusa": "builtin", "eagle": "./my[heads]"}
    loaded = Loaded(0.2, model_info("big", 1_000_000_000), (), None, heads, 100_000_000)
    app = workbench(FakeEngine(load=(loaded, RunFinished(0.2, "done"))), spec=RunSpec(method=MethodSpec(name="medusa")))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        bar = app.query_one(ModelBar)
        assert f"{HEADS['medusa']} builtin" in str(bar.render())
        for method, told in (("eagle", "./my[heads]"), ("mlp", "none")):
            app.query_one("#method", Select).value = method
            await settle(pilot)
            assert f"{HEADS[method]} {told}  · float32" in str(bar.render())
        app.query_one("#method", Select).value = "ngram"
        await settle(pilot)
        assert not any(noun in str(bar.render()) for noun in HEADS.values())


async def test_the_bar_tells_the_drafts_that_the_chosen_method_leaves_out() -> None:
    narrow = dataclasses.replace(model_info("b", 10**7), quantization="8bit")
    loaded = Loaded(0.2, model_info("big", 1_000_000_000), (model_info("a", 10**7), narrow), None)
    spec = RunSpec(model=ModelSpec(target="big", drafts=("a", "b")))
    app = workbench(FakeEngine(load=(loaded, RunFinished(0.2, "done"))), spec=spec)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        bar = app.query_one(ModelBar)
        assert "draft a (10M)  unused b (10M, 8bit)" in str(bar.render())
        app.query_one("#method", Select).value = "tree"
        await settle(pilot)
        assert "draft a (10M)  draft b (10M, 8bit)" in str(bar.render())


def test_found_devices_are_those_that_the_engine_takes() -> None:
    assert found_devices((GPU,)) == ["cuda:0"]


async def test_every_head_of_the_catalogue_has_a_field(folders: Path) -> None:
    app = workbench()
    async with app.run_test(size=SIZE) as pilot:
        screen = await opened(app, pilot)
        assert set(HEADS) <= {f.field for f in screen.query_one(ModelForm).query(NameField)}
        for binding in (*ModelsScreen.BINDINGS, *ModelFolders.BINDINGS):
            assert binding.id
            assert binding.tooltip


async def test_models_loaded_before_say_how_their_weights_were_held(folders: Path) -> None:
    app = workbench()
    for how in ("4bit", "auto"):
        app.workbench.runs.choice._recent.add(ModelSpec(target="some/model", quantize="8bit", draft_quantize=how))
    async with app.run_test() as pilot:
        screen = await opened(app, pilot)
        told = [str(option.prompt) for option in screen.query_one(OptionList).options if option.id is not None]
    assert [line for line in told if line.startswith("some/model")] == [
        "some/model · auto · auto · 8bit",
        "some/model · auto · auto · 8bit · drafts 4bit",
    ]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
async def test_the_picker_as_it_looks(size: tuple[int, int], folders: Path, matches_snapshot: Compare) -> None:
    app = workbench()
    app.workbench.runs.choice._recent.add(
        ModelSpec(target="some/model", drafts=("some/draft",), dtype="bfloat16", device="cuda:0")
    )
    async with app.run_test(size=size) as pilot:
        screen = await opened(app, pilot)
        await listed(screen, pilot)
        for box in screen.query(Input):
            box.cursor_blink = False
        svg = await still(app, pilot)
        assert "a-model" in svg
        matches_snapshot(svg, SNAPSHOTS / f"models-{size[0]}x{size[1]}.svg")
