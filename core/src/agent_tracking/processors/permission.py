"""``consent``: the application decides for each user whether anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from time import monotonic

from agent_tracking.events import Record
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.names import clean_id
from agent_tracking.processors.draft import Draft
from agent_tracking.processors.step import Misused, Step, close, factory

__all__ = ["Consent", "consent"]

_Key = tuple[str | None, str | None]


class Consent(Step):
    """The processor that ``consent()`` makes; ``forget`` has it ask again at once."""

    def __init__(self, ask: Callable[[Record], object], seconds: float, size: int) -> None:
        super().__init__("consent", self._decide, required=True)
        self._ask = ask
        self._seconds = seconds
        self._size = size
        # No lock, which a fork could leave locked: each step below is one of the dictionary's own.
        self._answers: dict[_Key, tuple[bool, float]] = {}
        #: Another object after each ``forget()``: an answer that was asked for before it is not kept.
        self._asked = object()

    def forget(self, user_id: str | int | None = None) -> None:
        """Forget the answer for one user or anonymous id; for all without one. Safe on any thread.

        An answer that is on its way meanwhile holds for its own record only.
        """
        self._asked = object()
        who = None if user_id is None else clean_id(user_id)
        for key in list(self._answers):
            if user_id is None or (who is not None and who in key):
                self._answers.pop(key, None)

    def _decide(self, draft: Draft) -> str | None:
        record = draft.record
        key = (record.user_id, record.anonymous_id)
        known = self._answers.get(key)
        if known is not None and monotonic() < known[1]:
            return None if known[0] else "no-consent"
        asked = self._asked
        answer = self._ask(draft.settle())
        if answer is not None and type(answer) is not bool:
            close(answer)
            raise Misused(f"got {type(answer).__name__} from its function, neither True nor False")
        if self._seconds and self._size and key != (None, None):
            self._keep(key, answer is True)
            if self._asked is not asked:  # forgotten since, perhaps because it is another answer now
                self._answers.pop(key, None)
        return None if answer is True else "no-consent"

    def _keep(self, key: _Key, answer: bool) -> None:
        answers = self._answers
        answers.pop(key, None)
        while len(answers) >= self._size:
            try:
                answers.pop(next(iter(answers)), None)
            except (StopIteration, RuntimeError):  # another thread keeps or forgets one meanwhile
                break
        answers[key] = (answer, monotonic() + self._seconds)


@factory
def consent(
    function: Callable[[Record], bool | None], *, cache_seconds: float = 60, cache_size: int = 10_000
) -> Consent:
    """Send only what the application has consent for; the rest is dropped and counted as ``no-consent``.

    Args:
        function: of a record, event or identity: ``True`` to let it pass; ``False`` or ``None`` drops it. If
            it raises or returns anything else the record is dropped as ``processor-error``. It runs on the
            dispatcher's thread, so it may wait for a database, and everything behind it waits with it.
        cache_seconds: for how long an answer holds for its user and anonymous id; 0 asks for each record. A
            record without both is always asked for.
        cache_size: the most answers that are kept.

    Raises:
        ConfigurationError: an argument cannot work.

    Example::

        configure(processors=[consent(lambda record: db.may_track(record.user_id))])
    """
    given: tuple[tuple[str, object], ...] = (("cache_seconds", cache_seconds), ("cache_size", cache_size))
    asked: object = function
    if not callable(asked) or iscoroutinefunction(asked):
        raise ConfigurationError(
            "consent() takes a function of a record that returns True or False",
            fix="async functions cannot be asked: use a blocking call, it holds up no request",
        )
    for name, value in given:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
            raise ConfigurationError(f"consent(): {name} must be a number, 0 or more")
    return Consent(function, float(cache_seconds), int(cache_size))
