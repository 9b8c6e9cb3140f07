"""``redact``: what must not leave, by the key it stands under or by its form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from functools import lru_cache
from itertools import count
from typing import Any

from msgspec.structs import replace as replaced

from agent_tracking.events import Identity, TrackingEvent
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.names import clean_name
from agent_tracking.processors.detectors import DETECTORS, Detector, by_pattern
from agent_tracking.processors.draft import Draft
from agent_tracking.processors.step import Step, factory
from agent_tracking.processors.written import may_be_written, within_json, without_values

__all__ = ["SENSITIVE_KEYS", "redact"]

#: The keys whose values ``redact()`` replaces by default. Counts such as ``input_tokens`` are not among them.
SENSITIVE_KEYS = (
    "*password*", "*passwd*", "*passphrase*", "*passcode*", "pwd", "*secret*", "*credential*",
    "*token", "*accesstoken*", "*refreshtoken*", "*authtoken*", "jwt", "otp",
    "*authorization*", "auth", "*apikey*", "*accesskey*", "*privatekey*",
    "cookie", "cookies", "*setcookie*", "*sessionkey*",
    "card", "*creditcard", "*cardnumber*", "*cardno", "pan", "*cvv*", "*cvc*",
    "*ssn", "*socialsecurity*", "*iban", "*passportn*",
)  # fmt: skip
#: What keys are compared without, beside upper and lower case: api_key, api-key, apiKey are the same.
_BETWEEN = str.maketrans("", "", "_-. \t\n")
#: What can hold nothing that has to go.
_HARMLESS = frozenset({bool, type(None)})
_CONTAINERS = frozenset({dict, list})
#: Keys of up to so many characters, and those of records of so many bytes, are remembered.
_SHORT, _SMALL = 200, 4_096


@factory
def redact(
    *,
    keys: Iterable[str | re.Pattern[str]] = SENSITIVE_KEYS,
    detect: Iterable[str | re.Pattern[str]] = tuple(DETECTORS),
    replacement: str = "[redacted]",
    keep_traits: Iterable[str] = (),
) -> Step:
    """Replace what must not leave, in properties and traits, at any depth, and in events' names.

    If it fails the record is dropped and counted as ``processor-error``. Ids stay: one text for all of them
    would make all users one; see :func:`hash_ids`.

    Args:
        keys: what stands under these keys is replaced as a whole, also in a text that is JSON or holds
            ``key=value`` or ``"key": value``. Globs are compared without upper and lower case and without
            ``_``, ``-``, ``.`` and blanks; a compiled expression is searched in the key as it is.
            ``[*SENSITIVE_KEYS, "iban"]`` adds to the default.
        detect: ``email``, ``card`` (numbers of card networks with a right check digit) and ``token`` (bearer
            tokens and JSON Web Tokens), wherever they stand in a text; a compiled expression: what it finds.
        replacement: what stands there afterwards.
        keep_traits: traits that are left as they are, for example ``["email"]``: by default an address is
            replaced in traits, too.

    Raises:
        ConfigurationError: an argument cannot work.

    Example::

        configure(processors=[redact(keep_traits=["email"])])
    """
    if not isinstance(replacement, str):
        raise ConfigurationError(f"redact(): replacement must be text, not {type(replacement).__name__}")
    return Step(
        "redact",
        _Redaction(_Keys(keys), _detectors(detect), replacement, _Keys(keep_traits, "keep_traits")).change,
        required=True,
    )


def _several(argument: str, values: object) -> tuple[Any, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ConfigurationError(f"redact(): {argument} must be a list, not {type(values).__name__}")
    return tuple(values)


def _detectors(detect: Iterable[str | re.Pattern[str]]) -> tuple[Detector, ...]:
    found = []
    for each in _several("detect", detect):
        if isinstance(each, re.Pattern) and isinstance(each.pattern, str):
            found.append(by_pattern(each))
        elif isinstance(each, str) and each in DETECTORS:
            found.append(DETECTORS[each])
        else:
            raise ConfigurationError(
                f"redact(): detect takes {', '.join(DETECTORS)} and compiled expressions for text",
                fix='for example detect=["email", re.compile(r"CH[0-9]{19}")]',
            )
    return tuple(found)


def _plain(key: str) -> str:
    return key.casefold().translate(_BETWEEN)


class _Keys:
    """Patterns of keys."""

    def __init__(self, patterns: Iterable[str | re.Pattern[str]], argument: str = "keys") -> None:
        globs = []
        self._searched = []
        for pattern in _several(argument, patterns):
            if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
                self._searched.append(pattern)
            elif isinstance(pattern, str) and _plain(pattern).strip("*?"):
                globs.append(translate(_plain(pattern).replace("[", "[[]")))
            else:
                raise ConfigurationError(
                    f"redact(): {argument} takes globs such as '*password*' and compiled expressions for text"
                )
        self._match = re.compile("|".join(globs)).match if globs else None
        #: Whether there is one.
        self.any = bool(globs or self._searched)

    def match(self, key: str) -> bool:
        """Return whether a key is one of these."""
        if self._match is not None and self._match(_plain(key)):
            return True
        return any(pattern.search(key) for pattern in self._searched)


class _Redaction:
    """What one ``redact()`` does."""

    def __init__(
        self, keys: _Keys, detectors: Sequence[Detector], replacement: str, keep_traits: _Keys
    ) -> None:
        self._keys = keys
        # Before the others: what they put into a JSON text might end it.
        self._detectors = (Detector(may_be_written, self._written), *detectors) if keys.any else detectors
        self._replacement = replacement
        self._keep_traits = keep_traits
        # Applications have few names, keys and kinds of events; those that are data are not kept for ever.
        self._known = lru_cache(4_096)(self._look)
        self._goes = lru_cache(1_024)(self._keys.match)
        self._shape = lru_cache(1_024)(lambda keys: any(map(self._keys.match, keys)))

    def change(self, draft: Draft) -> str | None:
        """Redact a draft; it drops nothing."""
        record = draft.record
        if type(record) is TrackingEvent and (name := self._known(record.name)[1]) != record.name:
            draft.record = replaced(record, name=clean_name(name) or "-")
        data, text = draft.data, draft.text
        detectors = self._detectors if text is None else self._possible(text)
        if text is None or detectors or self._sensitive(data, len(text) < _SMALL):
            clean = self._table(data, detectors, self._keep_traits if type(record) is Identity else None)
            if clean is not data:
                draft.data = clean
        return None

    def _possible(self, text: bytes) -> Sequence[Detector]:
        """Return the detectors that may find something in a JSON text, without a look at each value."""
        if b"\\u" in text:  # what is written so can be anything
            return self._detectors
        return [detector for detector in self._detectors if detector.possible(text)]

    def _sensitive(self, data: dict[str, Any] | list[Any], small: bool) -> bool:
        """Return whether any key means that what stands under it has to go."""
        if type(data) is dict:
            if self._shape(tuple(data)) if small else any(map(self._keys.match, data)):
                return True
            values: Iterable[Any] = data.values()
        else:
            values = data
        for value in values:  # noqa: SIM110  a generator takes longer than all of it
            if type(value) in _CONTAINERS and self._sensitive(value, small):
                return True
        return False

    def _look(self, key: str) -> tuple[bool, str]:
        """Return whether what stands under a key has to go, and the key without what has to go itself."""
        return self._keys.match(key), self._text(key, self._detectors)

    def _value(self, value: Any, detectors: Sequence[Detector]) -> Any:  # noqa: ANN401  JSON
        kind = type(value)
        if kind is str:
            return self._text(value, detectors)
        if kind in _HARMLESS:
            return value
        if kind is dict:
            return self._table(value, detectors)
        if kind is list:
            clean = [self._value(item, detectors) for item in value]
            return value if all(map(_same, clean, value)) else clean
        return self._number(value, detectors) if detectors else value

    def _table(
        self, table: dict[str, Any], detectors: Sequence[Detector], keep: _Keys | None = None
    ) -> dict[str, Any]:
        changed = False
        clean: dict[str, Any] = {}
        for key, value in table.items():
            if keep is not None and keep.match(key):
                sensitive, name, item = False, key, value
            else:
                sensitive, name = self._known(key) if len(key) < _SHORT else self._look(key)
                item = self._value(value, detectors)
            if sensitive and type(value) not in _HARMLESS:
                item = self._replacement
            if name != key:
                name = _free(name, table, clean)
            changed = changed or item is not value or name != key
            clean[name] = item
        return clean if changed else table

    def _text(self, text: str, detectors: Sequence[Detector]) -> str:
        for detector in detectors:
            text = detector.clean(text, self._replacement)
        return text

    def _written(self, text: str, replacement: str) -> str:
        """Return a text without the values of keys that are written in it."""
        found = within_json(text, lambda data: self._value(data, self._detectors))
        return without_values(text, self._goes, replacement) if found is None else found

    def _number(self, number: float, detectors: Sequence[Detector]) -> float | str:
        whole = int(number) if type(number) is int or number.is_integer() else 0
        if not 10**12 <= whole < 10**19:
            return number
        text = str(whole)
        return number if self._text(text, detectors) == text else self._replacement


def _same(one: object, other: object) -> bool:
    return one is other


def _free(name: str, table: dict[str, Any], clean: dict[str, Any]) -> str:
    """Return a key that neither table has: two that were replaced must not become one."""
    numbers = count(len(clean) + 1)
    free = name
    while free in table or free in clean:
        free = f"{name} {next(numbers)}"
    return free
