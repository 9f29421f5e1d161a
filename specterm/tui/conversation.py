"""What was said so far, and whether prompts are turns of it at all."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from specterm.config import Message, Request, RunSpec
from specterm.errors import ConfigError
from specterm.events import Event, Loaded, RowFinished, RunFinished


class Conversation:
    """The turns of the workbench, each a question and its answer, with the template that is in force.

    `system` and `raw` (complete the text as it stands, whatever the model) may be set at any time; they hold from the
    next turn on.
    """

    def __init__(self, spec: RunSpec) -> None:
        """Begin as `spec` says."""
        self.system = spec.system
        self.raw = not spec.chat
        self._given = spec.chat_template is not None
        self._template: bool | None = None  # not known before models are loaded
        self._turns: list[tuple[str, str]] = []
        self._pending: tuple[int, str] | None = None
        self._answer = ""
        self.unanswered = ""
        """The last question, where its run ended without an answer."""

    @property
    def has_template(self) -> bool:
        """Whether a conversation is known to be possible."""
        return bool(self._template)

    @property
    def chatting(self) -> bool:
        """Whether a prompt is a turn."""
        return self.has_template and not self.raw

    @property
    def waiting(self) -> bool:
        """Whether a question is on its way to an answer."""
        return self._pending is not None

    def mode_of(self, turn: int) -> str:
        """What becomes of a prompt that is asked as turn number `turn`, from 0, in words."""
        if self._template is None and not self.raw:
            return "no models loaded"
        if not self.chatting:
            return "completion" if self.raw or not self.system else "completion (no template: system prompt unused)"
        whose = "given template" if self._given else "template of the model"
        return ", ".join(["chat", f"turn {turn + 1}", *(["system prompt"] if self.system else []), whose])

    @property
    def asked(self) -> list[str]:
        """The questions so far."""
        return [question for question, _ in self._turns]

    def clear(self) -> None:
        """Begin anew; an answer that is still coming belongs to what was."""
        self._turns.clear()
        self._pending = None

    def restore(self, system: str, before: Sequence[Message], question: str, answer: str | None) -> None:
        """Go on with a conversation from where it stood: what was said `before`, then a question with its answer, or
        None where none came.

        Raises:
            ConfigError: there can be no conversation now, and the text says why.
        """
        if self._template is None:
            raise ConfigError("no models are loaded yet; open it again when they are")
        if not self._template:
            raise ConfigError("the loaded model has no chat template; load a chat model and open it again")
        self.system, self.raw, self._pending = system, False, None
        said = [message.content for message in before if message.role != "system"]
        self._turns = list(zip(said[::2], said[1::2], strict=True))
        self._turns += [] if answer is None else [(question, answer)]
        self.unanswered = question if answer is None else ""

    def ask(self, spec: RunSpec, text: str, turn: int) -> tuple[RunSpec, Request]:
        """The run of `text` (see `run_of`), whose answer becomes that of turn number `turn` and takes back those from
        there on."""
        spec, request = self.run_of(spec, text, turn)
        if spec.chat:
            self._pending, self._answer = (turn, text), ""
        return spec, request

    def run_of(self, spec: RunSpec, text: str, turn: int) -> tuple[RunSpec, Request]:
        """The run of `text`: as turn number `turn`, from 0, after those before it; or by itself.

        While no models are loaded it is a turn, and completed by a model without a template.
        """
        if self.raw or self._template is False:
            return msgspec.structs.replace(spec, chat=False, system=""), Request(prompt=text)
        turns = [
            message
            for question, answer in self._turns[:turn]
            for message in (Message("user", question), Message("assistant", answer))
        ]
        return msgspec.structs.replace(spec, chat=True, system=self.system), Request(prompt=text, turns=tuple(turns))

    def observe(self, event: Event, *, of_run: bool) -> None:
        """Take in an event of the turn's run (`of_run`), or of a load."""
        match event:
            case Loaded():
                self._template = self._given or event.target.chat_template
                if not self._template and self._pending is not None:
                    (_, self.unanswered), self._pending = self._pending, None
            case RowFinished():
                self._answer = event.text
            case RunFinished() if of_run and self._pending is not None:
                (turn, question), self._pending = self._pending, None
                answered = bool(self._answer) or event.reason == "done"
                if answered:
                    self._turns[turn:] = [(question, self._answer)]
                self.unanswered = "" if answered else question
