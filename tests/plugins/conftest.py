"""What the tests of the four providers share: records, schemas, a strict JSON reader, strategies."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import strategies as st

from agent_tracking.events import Identity, TrackingEvent
from agent_tracking.http_provider import Delivered, Drop, HTTPProvider, Payload, Retry, Verdict
from agent_tracking_amplitude import AmplitudeProvider
from agent_tracking_mixpanel import MixpanelProvider
from agent_tracking_posthog import PostHogProvider
from agent_tracking_webhook import WebhookProvider

DATA = Path(__file__).parent.parent / "data"

ID = "0190b6f2-7a3e-7c10-9a55-0d7b1f6c2e11"
TIME = 1777888800.123

REQUIRED = {
    PostHogProvider: {"POSTHOG_API_KEY": "phc_key"},
    MixpanelProvider: {"MIXPANEL_TOKEN": "mp_token"},
    AmplitudeProvider: {"AMPLITUDE_API_KEY": "amp_key"},
    WebhookProvider: {"TRACKING_WEBHOOK_URL": "https://hooks.example/in/t0ps3cret?k=v"},
}

#: Names that one backend or another reads by itself.
RESERVED = """
    time distinct_id token ip $ip $lib $lib_version mp_lib $insert_id $user_id $device_id session_id
    $session_id bucket $bucket $ignore $set $set_once $groups $group_set $geoip_disable
    $process_person_profile $cookieless_mode $is_server uuid timestamp insert_id user_id $latitude $time
""".split()  # noqa: SIM905  a list of thirty strings


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    doubles = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    assert not doubles, f"double keys: {doubles}"
    return dict(pairs)


def _constant(text: str) -> Any:
    raise AssertionError(f"{text} is not JSON")


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(['say "x"', "\\", '"$lib":1', "time", "x" * 300, '\\"' * 300, "é" * 1100]),
)
_keys = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.sampled_from(RESERVED),
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)
_ids = st.none() | st.text(
    st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=300
).filter(lambda text: text.strip() == text and text.casefold() not in Kit.placeholders())


class Kit:
    """Helpers, given to tests by the fixture ``kit``."""

    ID = ID
    TIME = TIME
    REQUIRED = REQUIRED

    @staticmethod
    def event(name: str = "order paid", properties: Any = None, **fields: Any) -> TrackingEvent:
        return TrackingEvent(
            name=name,
            properties_json=msgspec.json.encode({} if properties is None else properties),
            **{"message_id": ID, "time": TIME, **fields},
        )

    @staticmethod
    def identity(traits: Any = None, **fields: Any) -> Identity:
        return Identity(
            traits_json=msgspec.json.encode({} if traits is None else traits),
            **{"message_id": ID, "time": TIME, "user_id": "user_1", **fields},
        )

    @staticmethod
    def make(kind: type[HTTPProvider], **variables: str) -> Any:
        return kind({**REQUIRED[kind], **variables})

    @staticmethod
    def read(body: bytes) -> Any:
        """Decode, strictly: valid UTF-8, no double keys, no NaN."""
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_constant)

    @staticmethod
    def payloads(encoded: Any) -> list[Payload]:
        return [encoded] if isinstance(encoded, Payload) else list(encoded or ())

    @classmethod
    def one(cls, provider: HTTPProvider, record: Any) -> Any:
        """Return the one payload of a record, decoded."""
        (payload,) = cls.payloads(provider.encode(record))
        return cls.read(payload.body)

    @classmethod
    def body(cls, provider: HTTPProvider, *records: Any, endpoint: str | None = None) -> Any:
        """Return the body, decoded, of the request that carries the records."""
        payloads = [p for record in records for p in cls.payloads(provider.encode(record))]
        name = provider.endpoints[0].name if endpoint is None else endpoint
        chosen = [p for p in payloads if (p.endpoint or provider.endpoints[0].name) == name]
        return cls.read(provider.request(name, chosen).body)

    @staticmethod
    @cache
    def load(name: str) -> Any:
        text = (DATA / name).read_text()
        return yaml.safe_load(text) if name.endswith(".yaml") else json.loads(text)

    @classmethod
    @cache
    def placeholders(cls) -> frozenset[str]:
        return frozenset(cls.load("placeholder-ids.json")["union"])

    @classmethod
    @cache
    def validator(cls, name: str, *path: Any) -> Any:
        schema = cls.load(name)
        for step in path:
            schema = schema[step]
        if name.endswith(".yaml"):
            schema = {key: value for key, value in schema.items() if key != "$schema"}
        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        kind.check_schema(schema)
        return kind(schema)

    @classmethod
    def outcome(cls, verdict: Verdict, indexes: set[int]) -> dict[int, Any]:
        """Return what a verdict says of each payload."""
        if isinstance(verdict, Delivered):
            return dict.fromkeys(indexes, "delivered")
        if isinstance(verdict, (Drop, Retry)):
            named = indexes if verdict.indexes is None else set(verdict.indexes)
            assert named <= indexes
            word = "dropped" if isinstance(verdict, Drop) else ("retry", verdict.after)
            return {**dict.fromkeys(named, word), **cls.outcome(verdict.rest, indexes - named)}
        return dict.fromkeys(indexes, verdict)

    @staticmethod
    def events() -> st.SearchStrategy[TrackingEvent]:
        return st.builds(
            TrackingEvent,
            message_id=st.integers(2**70, 2**128 - 1).map(lambda n: str(UUID(int=n))),
            time=st.floats(1.0e9, 4.0e9),
            user_id=_ids,
            anonymous_id=_ids,
            session_id=st.none()
            | st.sampled_from([ID, "1718716477000", "s-1", "0190B6F2-7A3E-7C10-9A55-0D7B1F6C2E11"]),
            name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200).filter(
                lambda text: text.strip() == text
            ),
            properties_json=st.dictionaries(_keys, _values, max_size=8).map(msgspec.json.encode),
        )

    @staticmethod
    def identities() -> st.SearchStrategy[Identity]:
        return st.builds(
            Identity,
            message_id=st.uuids(version=4).map(str),
            time=st.floats(1.0e9, 4.0e9),
            user_id=_ids.filter(bool),
            anonymous_id=_ids,
            traits_json=st.dictionaries(_keys, _values, max_size=8).map(msgspec.json.encode),
        )


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    return Kit
