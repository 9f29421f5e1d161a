"""What a person prefers: keys from the configuration file, the theme that was chosen, prompts that were written."""

import json
import stat
from pathlib import Path

from tui.fake_engine import FakeEngine, FakeMonitor
from tui.screens import settle

from specterm.config import RunSpec
from specterm.settings import Settings
from specterm.tui import themes
from specterm.tui.app import SpectermApp
from specterm.tui.keymap import binding_ids
from specterm.tui.memory import MAX_PROMPTS, Memory


def preferring(settings: Settings | None = None, memory: Memory | None = None, theme: str | None = None) -> SpectermApp:
    folders = (themes.shipped_folder(),)
    return SpectermApp(
        FakeEngine(),
        FakeMonitor(),
        RunSpec().checked(),
        theme_folders=folders,
        settings=settings,
        memory=memory,
        theme=theme,
    )


def notices(app: SpectermApp) -> str:
    return "\n".join(notification.message for notification in app._notifications)


async def test_a_key_of_the_keymap_replaces_the_usual_one() -> None:
    app = preferring(Settings(keymap={"app.theme": "f11"}))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        before = app.theme
        await pilot.press("ctrl+t")
        assert app.theme == before
        await pilot.press("f11")
        assert app.theme != before
        assert notices(app).startswith("theme ")


async def test_an_unknown_id_a_clash_and_a_broken_file_are_told() -> None:
    app = preferring(
        Settings(keymap={"app.them": "f11", "app.quit": "f3", "zzz": "x"}, problems=("config.toml: it is broken",))
    )
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        told = notices(app)
        assert "config.toml: it is broken" in told
        assert "app.them is no binding" in told
        assert "did you mean app.theme" in told
        assert "zzz is no binding; the palette (Ctrl+P) shows" in told
        assert len(told) < 500  # in a small terminal all of it has to be in sight
        assert "f3 is the key of app.quit and of pane.stream" in told


async def test_a_binding_that_shares_its_key_keeps_it_when_the_other_is_remapped() -> None:
    app = preferring(Settings(keymap={"cursor.last": "z"}))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("f3")
        active = app.screen.active_bindings
        assert "end" in active
        assert active["end"].binding.id == "stream.follow"


async def test_the_theme_that_was_chosen_is_that_of_the_next_session(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "state")
    app = preferring(memory=memory)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert app.theme == themes.DEFAULT
        assert not (tmp_path / "state").exists()
        await pilot.press("ctrl+t")
        chosen = app.theme
        await settle(pilot)
    assert json.loads((tmp_path / "state" / "state.json").read_text()) == {"theme": chosen}
    assert preferring(memory=Memory(tmp_path / "state")).theme == chosen != themes.DEFAULT
    assert preferring(memory=memory, theme="light").theme == "light"


async def test_an_unknown_theme_is_told_and_the_usual_one_shown() -> None:
    app = preferring(theme="mauve")
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert app.theme == themes.DEFAULT
        assert "--theme is 'mauve'; it must be one of " in notices(app)


def test_every_screen_has_bindings_that_can_be_remapped() -> None:
    assert {"app.quit", "stream.copy", "prompt.submit", "history.mark", "confirm.yes"} <= set(binding_ids())


def test_prompts_are_kept_privately_and_bounded(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.add_prompt("two\nlines \x1b[1m")
    memory.add_prompt("two\nlines \x1b[1m")
    memory.add_prompt("ü")
    file = tmp_path / "prompts.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with file.open("a") as out:
        out.write('"cut sho')
    assert Memory(tmp_path).prompts() == ["two\nlines \x1b[1m", "ü"]
    file.write_text("".join(f'"{number}"\n' for number in range(MAX_PROMPTS + 200)))
    assert Memory(tmp_path).prompts() == [str(number) for number in range(200, MAX_PROMPTS + 200)]
    assert len(file.read_text().splitlines()) == MAX_PROMPTS
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    memory.forget_prompts()
    assert Memory(tmp_path).prompts() == []


def test_a_memory_without_a_folder_or_a_writable_one_is_silent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for memory in (Memory(), Memory(tmp_path / "file" / "below"), Memory(tmp_path / "on", prompts=False)):
        memory.add_prompt("x")
        assert memory.prompts() == []
    memory = Memory(tmp_path / "file" / "below")
    memory.theme = "light"
    assert memory.theme is None
    assert not (tmp_path / "on").exists()
