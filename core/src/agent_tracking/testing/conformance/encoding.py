"""What a record becomes: the same each time, complete, valid, and nobody's but its own."""

from __future__ import annotations

from typing import Any

import msgspec

from agent_tracking.events import Record
from agent_tracking.exceptions import Reject
from agent_tracking.http_provider import HTTPProvider, Payload
from agent_tracking.names import PLACEHOLDERS
from agent_tracking.testing.conformance import processes, records
from agent_tracking.testing.conformance.base import Kit, needs
from agent_tracking.testing.conformance.bench import Bench

__all__ = ["EncodingTests"]

_OTHER: dict[str, Any] = {
    "name": "another name",
    "time": records.TIME + 3_600,
    "user_id": "user-9999",
    "properties_json": b'{"a":2}',
}
#: One event and its twin, of which nothing is the same but the properties.
_ONE: dict[str, Any] = {
    "name": "conformance one", "message_id": records.message_id(71), "time": records.TIME,
    "user_id": "user-7171", "anonymous_id": "anon-7171", "session_id": "session-7171",
}  # fmt: skip
_TWIN: dict[str, Any] = {
    "name": "conformance two", "message_id": records.message_id(82), "time": records.TIME + 86_400,
    "user_id": "user-8282", "anonymous_id": "anon-8282", "session_id": "session-8282",
}  # fmt: skip


class EncodingTests(Kit):
    """``encode`` is pure: the record in, bytes out."""

    @needs("http")
    def test_encoding_depends_on_the_record_alone(self, bench: Bench) -> None:
        """A record gives the same bytes twice, after any other, and from another provider.

        If it fails: keep nothing between calls, on the class or the module least of all; take no time
        and no random number; do not append to a default argument.
        """
        provider = bench.provider()
        given = [record for _, record in records.hostile()]
        first = [self._encoded(provider, record) for record in given]
        again = [self._encoded(provider, record) for record in reversed(given)][::-1]
        fresh = [self._encoded(bench.provider(), record) for record in given[:60]]
        differ = [what for (what, _), a, b in zip(records.hostile(), first, again, strict=True) if a != b]
        self.hold_nothing(differ, "the bytes differ from one call to the next")
        differ = [what for (what, _), a, b in zip(records.hostile(), first, fresh, strict=False) if a != b]
        self.hold_nothing(differ, "the bytes depend on what was encoded before")

    @needs("http")
    def test_encoding_depends_on_no_process(self, bench: Bench) -> None:
        """Two processes make the same bytes: what one could not deliver, another one may.

        If it fails: iterate no ``set`` (its order differs), use no ``hash()``, ``id()``, time or random.
        """
        one = processes.run(self, "encode", bench.environ, PYTHONHASHSEED="1")
        two = processes.run(self, "encode", bench.environ, PYTHONHASHSEED="2")
        self.hold_nothing([what for what in one if one[what] != two.get(what)], "two processes differ")

    @needs("http")
    def test_hostile_records_are_encoded_or_rejected(self, bench: Bench) -> None:
        """Any record becomes payloads for known endpoints, nothing, or ``Reject``: never another error.

        If it fails: the message names the record, see ``records.py`` beside this suite. Raise
        ``Reject(reason)`` for what the backend would refuse.
        """
        provider = bench.provider()
        names = {"", *(endpoint.name for endpoint in provider.endpoints)}
        for what, record in records.hostile():
            try:
                made = records.payloads(provider, record)
            except Reject:
                continue
            except Exception as error:  # noqa: BLE001  an author's code
                self.hold(False, f"encode() of {what} raises {type(error).__name__}: {error}")
            for payload in made:
                sound = type(payload) is Payload and type(payload.body) is bytes and payload.body
                self.hold(sound, f"encode() of {what} returns {payload!r}")
                self.hold(payload.endpoint in names, f"{what} goes to an unknown endpoint")

    @needs("http", "json")
    def test_payloads_are_valid_json(self, bench: Bench) -> None:
        """Payloads are UTF-8, have no ``NaN`` and no key twice: backends refuse it, or take either one.

        If it fails: take the callers' properties out that have a name of yours. If payloads are no JSON,
        declare ``Capabilities(json=False)``.
        """
        provider = bench.provider()
        given = [*records.hostile(), *self._colliding(provider)]
        for what, record in given:
            for payload in self._payloads(provider, record):
                try:
                    records.strictly(payload.body)
                except (ValueError, RecursionError) as error:
                    self.hold(False, f"{what} gives a payload that is not valid: {error}")

    @needs("http", "json")
    def test_properties_never_overwrite_what_the_provider_says(self, bench: Bench) -> None:
        """A property that is called like a field of the provider's does not change that field.

        Whose event it is, its name, its time, its id: these come from the record, whatever a caller put
        into the properties.

        If it fails: put your fields last and remove the caller's of the same name, or nest the
        properties in an object of their own.
        """
        provider = bench.provider()
        said = self._leaves(provider, records.event({}, **_ONE))
        twin = self._leaves(provider, records.event({}, **_TWIN))
        own = {path: value for path, value in said.items() if twin.get(path) != value}
        for what, record in self._colliding(provider):
            found = self._leaves(provider, record)
            changed = [".".join(path) for path, value in own.items() if found and found.get(path) != value]
            self.hold_nothing(changed, f"{what} changes")

    @needs("http")
    def test_every_field_of_an_event_is_sent(self, bench: Bench) -> None:
        """The name, the time, the user, the properties: a change of any one changes the bytes.

        If it fails: send the field that the message names. For the time: the record's, not the present.
        """
        provider = bench.provider()
        base = self._encoded(provider, records.event({"a": 1}))
        for field, value in _OTHER.items():
            other = self._encoded(provider, records.event(**{"properties": {"a": 1}, field: value}))
            self.hold(base != other, f"the field {field!r} of an event is not sent")

    @needs("http", "dedup")
    def test_the_message_id_is_the_deduplication_key(self, bench: Bench) -> None:
        """Every payload of a record has its message id as ``key``, and says it to the backend.

        If it fails: ``Payload(body, key=record.message_id)``, and the id in the field by which the
        backend tells doubles. If it has none, declare ``Capabilities(dedup=False)``.
        """
        provider = bench.provider()
        given: list[Record] = [*records.ordinary(), records.identity({"a": 1}, anonymous_id="anon-1")]
        for record in given:
            made = records.payloads(provider, record)
            self.hold(all(payload.key == record.message_id for payload in made), "a payload has another key")
        for record in records.ordinary():
            made = records.payloads(provider, record)
            told = all(record.message_id.encode() in payload.body for payload in made)
            self.hold(made and told, "a payload does not hold the message id")

    @needs("http", "json")
    def test_ids_are_sent_as_text(self, bench: Bench) -> None:
        """The user ``"4242424242"`` is not the number: backends refuse it, or make another person of it.

        If it fails: send ``record.user_id`` as it is.
        """
        found = self._leaves(bench.provider(), records.event({}, user_id="4242424242"))
        told = any(isinstance(value, str) and "4242424242" in value for value in found.values())
        self.hold(told, "a user id of digits is not sent as text")
        self.hold(4242424242 not in found.values(), "a user id of digits is sent as a number")

    @needs("http", "json")
    def test_nobody_gets_no_invented_name(self, bench: Bench) -> None:
        """An event without ids is not sent as that of ``anonymous``, ``unknown``, ``null`` and the like.

        All of those would be one person to the backend.

        If it fails: leave the id out; where the backend requires one, use the message id.
        """
        found = self._leaves(bench.provider(), records.event({}, user_id=None))
        names = PLACEHOLDERS - {""}
        made_up = {
            ".".join(path): value
            for path, value in found.items()
            if isinstance(value, str) and value.strip().casefold() in names
        }
        self.hold_nothing(made_up, "an event without ids gets a placeholder")
        other = records.event({}, serial=7, user_id=None)
        known = self._leaves(bench.provider(), other)
        shared = {
            ".".join(path): value
            for path, value in found.items()
            if value and known.get(path) == value and isinstance(value, str) and _is_id(path)
        }
        self.hold_nothing(shared, "all events without ids get one person")

    @needs("http")
    def test_encoding_leaves_the_record_as_it_is(self, bench: Bench) -> None:
        """Other providers get the same record: it is frozen, and stays so.

        If it fails: change a copy (``record.properties`` is one).
        """
        provider = bench.provider()
        for what, record in records.hostile():
            before = msgspec.structs.asdict(record)
            self._encoded(provider, record)
            self.hold(before == msgspec.structs.asdict(record), f"encode() changes {what}")

    def _payloads(self, provider: HTTPProvider, record: Record) -> list[Payload]:
        try:
            return records.payloads(provider, record)
        except Reject:
            return []

    def _encoded(self, provider: HTTPProvider, record: Record) -> list[tuple[str, bytes, str]]:
        return [(each.endpoint, each.body, each.key) for each in self._payloads(provider, record)]

    def _leaves(self, provider: HTTPProvider, record: Record) -> dict[tuple[str, ...], Any]:
        found: dict[tuple[str, ...], Any] = {}
        for index, payload in enumerate(self._payloads(provider, record)):
            decoded = msgspec.json.decode(payload.body)
            found |= {(f"{index}", *path): value for path, value in records.leaves(decoded).items()}
        return found

    def _colliding(self, provider: HTTPProvider) -> list[tuple[str, Record]]:
        """Return events with a property named like each of the provider's own fields."""
        paths = self._leaves(provider, records.event({}, **_ONE))
        names = sorted({name for path in paths for name in path[1:] if not name.startswith("#")})
        values: list[Any] = ["of the caller", 1, None, {"a": "b"}, ["c"]]
        return [
            (f"a property {name!r} of {value!r}", records.event({name: value, "kept": 1}, **_ONE))
            for name in names
            for value in values
        ]


def _is_id(path: tuple[str, ...]) -> bool:
    name = path[-1].casefold().replace("_", "").replace("$", "")
    return name in {"userid", "distinctid", "anonymousid", "deviceid", "user"}
