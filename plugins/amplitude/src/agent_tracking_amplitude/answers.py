"""What Amplitude's answers mean.

A request is taken as a whole or not at all; the body of a refusal names the events that were to blame:
https://amplitude.com/docs/apis/analytics/http-v2#responses
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent_tracking.http_provider import Delivered, Drop, Payload, Response, Retry, Stop, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["read"]

_BY_FIELD = ("events_with_invalid_fields", "events_with_missing_fields", "events_with_invalid_id_lengths")


class _Ids(msgspec.Struct):
    user_id: str = ""
    device_id: str = ""


_ids = msgspec.json.Decoder(_Ids).decode


def read(response: Response, batch: Sequence[Payload], pause: float) -> Verdict | None:
    """Return what the body says, or ``None`` if the status alone has to do.

    Args:
        response: the answer.
        batch: the events that it is about.
        pause: seconds for which those are left alone who sent too much.
    """
    body = response.json()
    if 200 <= response.status < 300:
        return Delivered() if isinstance(body, dict) and body.get("code") == 200 else Retry()
    if not isinstance(body, dict):
        return None
    if response.status == 400:
        return _refused(body, len(batch), pause)
    if response.status == 429:
        return _throttled(body, batch, pause)
    return None


def _refused(body: dict[str, Any], count: int, pause: float) -> Verdict | None:
    if "invalid api key" in str(body.get("error")).casefold():
        return Stop(
            "Amplitude refused the key: set AMPLITUDE_API_KEY to the project's, AMPLITUDE_HOST to its region"
        )
    if body.get("missing_field"):
        return Drop()
    named = set(_indexes(body.get("silenced_events"), count))
    for field in _BY_FIELD:
        by_name = body.get(field)
        if isinstance(by_name, dict):
            named.update(*(_indexes(indexes, count) for indexes in by_name.values()))
    slow = [index for index in _indexes(body.get("throttled_events"), count) if index not in named]
    return _verdict(sorted(named), slow, pause) if named or slow else None


def _throttled(body: dict[str, Any], batch: Sequence[Payload], pause: float) -> Verdict:
    """Drop what belongs to those over their daily quota; the others who sent too much wait."""
    throttled = _indexes(body.get("throttled_events"), len(batch))
    over = _names(body, "exceeded_daily_quota_users", "exceeded_daily_quota_devices")
    dropped = [index for index, payload in enumerate(batch) if over and _belongs(payload, over)]
    if over and not _names(body, "throttled_users", "throttled_devices"):
        dropped = sorted({*dropped, *throttled})
    slow = [index for index in throttled if index not in dropped]
    return _verdict(dropped, slow, pause) if dropped or slow else Retry(after=pause)


def _verdict(dropped: list[int], slow: list[int], pause: float) -> Verdict:
    """Put it together: none of the batch was taken, so what is not named goes again at once."""
    rest: Verdict = Retry(after=0)
    if slow:
        rest = Retry(after=pause, indexes=slow, rest=rest)
    return Drop(dropped, rest=rest) if dropped else rest


def _indexes(listed: object, count: int) -> list[int]:
    """Return those of a list that are indexes into a batch of ``count``, each once, in order."""
    found: Iterable[Any] = listed if isinstance(listed, list) else ()
    return sorted({index for index in found if type(index) is int and 0 <= index < count})


def _names(body: dict[str, Any], *fields: str) -> set[str]:
    found: set[str] = set()
    for field in fields:
        by_id = body.get(field)
        if isinstance(by_id, (dict, list)):
            found.update(key for key in by_id if isinstance(key, str))
    return found


def _belongs(payload: Payload, owners: set[str]) -> bool:
    ids = _ids(payload.body)
    return ids.user_id in owners or ids.device_id in owners
