"""What ``redact`` finds by its form, inside longer text too: e-mail addresses, card numbers, tokens.

Each expression takes time in proportion to the text: what it repeats ends at a character that cannot belong
to it, and it begins only where such a run of characters begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["DETECTORS", "Detector", "by_pattern"]

# %40 is the @ of addresses in URLs.
_EMAIL = re.compile(r"(?<![\w.+%'~-])[\w.+%'~-]+(?:@|%40)[\w-]+(?:\.[\w-]+)*\.[^\W\d_][\w-]+")
_BEARER = re.compile(r"\b(bearer)\s{1,9}[\w.~+/=-]{16,}", re.IGNORECASE | re.ASCII)
#: What may hold a JSON Web Token, which begins with ``{"`` as base64url, or stand before one.
_TOKEN_CHARS = 16
_DOTTED = re.compile(r"[\w.-]{16,}", re.ASCII)
_CARD = re.compile(r"(?<![0-9])(?:[0-9]{13,19}|[0-9]{3,6}(?:[ .\u00a0-][0-9]{3,6}){2,})(?![0-9])")
#: 13 digits in a row, whatever stands between two of them: without it there is no card number.
_DIGITS = re.compile(rb"[0-9](?:(?:[ .-]|\xc2\xa0)?[0-9]){12}")
#: Numbers by their first digits and lengths; dates and times in milliseconds begin with others. Source:
#: https://en.wikipedia.org/wiki/Payment_card_number#Issuer_identification_number_(IIN)
_NETWORK = re.compile(
    "4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"  # Visa
    "|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"  # Mastercard
    "|3[47][0-9]{13}"  # American Express
    "|3(?:0[0-59]|[689][0-9])[0-9]{11,16}"  # Diners Club
    "|35[0-9]{14,17}"  # JCB
    "|6[0-9]{15,18}|5[06-9][0-9]{14,17}"  # Discover, UnionPay, RuPay, Maestro
)
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


class Detector(NamedTuple):
    """One kind of thing that is found by its form.

    Attributes:
        possible: whether a whole record may hold one, by its JSON text; quick.
        clean: returns a text with each of them replaced.
    """

    possible: Callable[[bytes], bool]
    clean: Callable[[str, str], str]


def by_pattern(pattern: re.Pattern[str]) -> Detector:
    """Return a detector of what an expression of the application finds."""
    return Detector(
        lambda _data: True,
        lambda text, replacement: pattern.sub(lambda _found: replacement, text),
    )


def _emails(text: str, replacement: str) -> str:
    if "@" not in text and "%40" not in text:
        return text
    return _EMAIL.sub(lambda _found: replacement, text)


def _cards(text: str, replacement: str) -> str:
    return _CARD.sub(lambda found: _without_cards(found[0], replacement), text) if len(text) > 12 else text


def _without_cards(text: str, replacement: str) -> str:
    groups = re.split("([ .\u00a0-])", text)  # digits, separator, digits, ...
    parts: list[str] = []
    begin = 0
    while begin < len(groups):
        end = _card_end(groups, begin)
        if end:
            parts.append(replacement)
            parts += groups[end : end + 1]
            begin = end + 1
        else:
            parts += groups[begin : begin + 2]
            begin += 2
    return "".join(parts)


def _card_end(groups: Sequence[str], begin: int) -> int:
    """Return where the longest card number that begins with this group ends; 0 if none does."""
    digits = ""
    found = 0
    for number in range(begin, len(groups), 2):
        digits += groups[number]
        if len(digits) > 19:
            break
        if len(digits) > 12 and _NETWORK.fullmatch(digits) and _luhn(digits):
            found = number + 1
    return found


def _luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    numbers = [int(digit) for digit in reversed(digits)]
    return (sum(numbers[::2]) + sum(_DOUBLED[number] for number in numbers[1::2])) % 10 == 0


def _tokens(text: str, replacement: str) -> str:
    if len(text) < _TOKEN_CHARS:
        return text
    if "eyJ" in text:
        text = _DOTTED.sub(lambda found: _without_jwt(found[0], replacement), text)
    if "bearer" in text.lower():
        text = _BEARER.sub(lambda found: f"{found[1]} {replacement}", text)
    return text


def _without_jwt(run: str, replacement: str) -> str:
    begin = run.find("eyJ")
    return f"{run[:begin]}{replacement}" if begin >= 0 and "." in run[begin:].rstrip(".") else run


#: By the names that ``redact(detect=...)`` takes.
DETECTORS = {
    "email": Detector(lambda data: b"@" in data or b"%40" in data, _emails),
    "card": Detector(lambda data: _DIGITS.search(data) is not None, _cards),
    "token": Detector(lambda data: b"eyJ" in data or b"bearer" in data.lower(), _tokens),
}
