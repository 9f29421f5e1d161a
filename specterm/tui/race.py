"""A race of methods, replayed from the times at which their tokens were recorded.

The runs of a comparison were measured one after the other. A *heat* puts the same repeat of one prompt of every lane
side by side; a common clock says how far into their own time all of them are. Nothing here paints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from specterm.bench.trials import Trial
from specterm.events import EmittedToken, Event, Prefilled, Round, RowFinished, RowStarted, RunStarted
from specterm.tui.difference import DIFFERENCE, first_difference
from specterm.tui.run_record import RunRecord
from specterm.tui.transcript import Page, Transcript
from specterm.tui.widgets.token_store import HIDDEN_STATES, State

SPEEDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""How many recorded seconds may pass in one."""

_OWN_PACE = SPEEDS.index(1.0)


@dataclass(frozen=True, slots=True)
class Lap:
    """One run of one prompt, without what is not shown of it. Times count from the prompt's arrival.

    `difference` is the first token that is not naive's, counted from 0; None where all are, or naive was not run.
    """

    events: tuple[Event, ...]
    tokens: tuple[EmittedToken, ...]
    seconds: float
    difference: int | None = None

    @property
    def around(self) -> tuple[str, str]:
        """The text before the difference, and from it on."""
        at = len(self.tokens) if self.difference is None else self.difference
        texts = [token.text for token in self.tokens]
        return "".join(texts[:at]), "".join(texts[at:])


@dataclass(frozen=True, slots=True)
class Heat:
    """One prompt: a lap for each lane, None where it has none. All laps are of one repeat, so that all have one seed:
    the one whose laps together took the median time."""

    prompt_id: str
    repeat: int
    laps: tuple[Lap | None, ...]

    @property
    def seconds(self) -> float:
        """When the last lane has ended."""
        return max((lap.seconds for lap in self.laps if lap is not None), default=0.0)


def heats(configurations: Sequence[str], naive: str | None, trials: Sequence[Trial]) -> list[Heat]:
    """A heat for each prompt, in the order in which they were first run; `naive` is the configuration that texts are
    compared with. Trials hold one row each."""
    laps: dict[str, dict[int, dict[str, Lap]]] = {}
    for trial in trials:
        if (found := _lap(trial)) is not None:
            prompt_id, lap = found
            laps.setdefault(prompt_id, {}).setdefault(trial.repeat, {})[trial.configuration] = lap
    return [_heat(prompt_id, _median(repeats), repeats, configurations, naive) for prompt_id, repeats in laps.items()]


def _heat(
    prompt_id: str, repeat: int, repeats: dict[int, dict[str, Lap]], configurations: Sequence[str], naive: str | None
) -> Heat:
    lanes = repeats[repeat]
    reference = None if naive is None else lanes.get(naive)
    found = [lanes.get(configuration) for configuration in configurations]
    return Heat(prompt_id, repeat, tuple(lap and _against(lap, reference) for lap in found))


def _lap(trial: Trial) -> tuple[str, Lap] | None:
    """The run of a trial and its prompt; None where it did not come to its own end."""
    started = next((event for event in trial.events if isinstance(event, RowStarted)), None)
    finished = next((event for event in trial.events if isinstance(event, RowFinished)), None)
    if started is None or finished is None or finished.reason in ("cancelled", "error"):
        return None
    shown = tuple(e for e in trial.events if isinstance(e, (RunStarted, RowStarted, Prefilled, Round, RowFinished)))
    tokens = tuple(token for event in shown for token in emitted(event))[: len(finished.token_ids)]
    return started.prompt_id, Lap(shown, tokens, finished.time)


def _median(repeats: dict[int, dict[str, Lap]]) -> int:
    """The repeat of the median time, among those that have the most lanes; of two in the middle the faster."""
    most = max(len(lanes) for lanes in repeats.values())
    whole = [(fmean(lap.seconds for lap in lanes.values()), n) for n, lanes in repeats.items() if len(lanes) == most]
    return sorted(whole)[(len(whole) - 1) // 2][1]


def _against(lap: Lap, naive: Lap | None) -> Lap:
    if naive is None:
        return lap
    difference = first_difference([token.id for token in naive.tokens], [token.id for token in lap.tokens])
    return Lap(lap.events, lap.tokens, lap.seconds, difference)


def emitted(event: Event) -> Iterator[EmittedToken]:
    """The output tokens of an event of a run of one row."""
    match event:
        case Prefilled(token=token) if token is not None:
            yield token
        case Round():
            for part in event.rows:
                yield from part.emitted


class RaceClock:
    """The common clock of all lanes. `clock` counts the seconds of whoever watches."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.position = 0.0
        self.playing = False
        self._clock = clock
        self._pace = _OWN_PACE
        self._before = 0.0

    @property
    def speed(self) -> float:
        """How many recorded seconds pass in one."""
        return SPEEDS[self._pace]

    def toggle(self) -> None:
        """Play or pause; at the end, play from the start."""
        self.tick()
        if not self.playing and self.position >= self.seconds:
            self.position = 0.0
        self.playing, self._before = not self.playing, self._clock()

    def change_pace(self, step: int) -> None:
        """Go faster (1) or slower (-1)."""
        self.tick()
        self._pace = max(0, min(len(SPEEDS) - 1, self._pace + step))

    def seek(self, position: float) -> None:
        """Go to a time, at most to either end."""
        self.tick()
        self.position = max(0.0, min(self.seconds, position))

    def tick(self) -> None:
        """Advance by what has passed since the last call; at the end, stop."""
        if not self.playing:
            return
        now = self._clock()
        self.position = min(self.seconds, self.position + (now - self._before) * self.speed)
        self._before = now
        self.playing = self.position < self.seconds


class LapReplay:
    """Writes a lap to a page up to any moment, with a mark at the first token that differs."""

    def __init__(self, page: Page, clear: Callable[[], None]) -> None:
        """`clear` empties the page."""
        self._page = _MarkedPage(page)
        self._clear = clear
        self._transcript = Transcript(self._page, RunRecord())
        self.show(None)

    def show(self, lap: Lap | None) -> None:
        """From now on replay `lap`, from its start."""
        self._lap = lap
        self._page.mark = None if lap is None or lap.difference is None else _place(lap, lap.difference)
        self._restart()

    def _restart(self) -> None:
        self._clear()
        self._page.marked = False
        self._transcript.clear()
        self._transcript.start_run()
        self._next = 0
        self.tokens = 0
        self.position = 0.0

    @property
    def finished(self) -> bool:
        """Whether everything has been written."""
        return self._lap is not None and self._next == len(self._lap.events)

    def to(self, position: float) -> None:
        """Write what had been emitted `position` seconds after the prompt's arrival."""
        if self._lap is None:
            return
        if position < self.position:
            self._restart()
        self.position = position
        events = self._lap.events
        while self._next < len(events) and _time(events[self._next]) <= position:
            event = events[self._next]
            self._transcript.observe(event)
            self.tokens = min(len(self._lap.tokens), self.tokens + sum(1 for _ in emitted(event)))
            self._next += 1
        if self.finished:
            self._page.finish()


def _time(event: Event) -> float:
    return 0.0 if isinstance(event, (RowStarted, RunStarted)) else event.time


def _place(lap: Lap, number: int) -> tuple[int, int]:
    """The part of a token (see `RunRecord`) and its index there; behind the last token the part after it."""
    part = -1
    for event in lap.events:
        tokens = sum(1 for _ in emitted(event))
        part += isinstance(event, (Prefilled, Round))
        if number < tokens:
            return part, number
        number -= tokens
    return part + 1, 0


class _MarkedPage:
    """A page that sets the mark before a token."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.mark: tuple[int, int] | None = None
        self.marked = False

    def append(self, text: str, state: State, part: int | None = None, index: int = 0) -> None:
        """See `Page`."""
        if part is not None and state not in HIDDEN_STATES and self.mark is not None and (part, index) >= self.mark:
            self.finish()
        self._page.append(text, state, part, index)

    def finish(self) -> None:
        """Set the mark, unless it stands already or there is none to set."""
        if self.mark is not None and not self.marked:
            self.marked = True
            self._page.append(DIFFERENCE, State.ERROR)
