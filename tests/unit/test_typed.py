"""Typed events: objects with declared fields in place of a name, and inside of properties."""

import dataclasses
import enum
import os
import subprocess
import sys
import textwrap
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar, Optional

import attrs
import msgspec
import pydantic
import pytest

import agent_tracking
from agent_tracking import Tracker, TrackingError
from agent_tracking.typed import name_of


class Recorder:
    name = "recorder"

    def __init__(self):
        self.events = []

    def track(self, event):
        self.events.append(event)


@pytest.fixture
def tracked():
    """Return a function that tracks an event and returns it as a provider sees it."""
    tracker = Tracker(environ={}, discover=False)
    recorder = Recorder()
    tracker.register_provider(recorder)

    def track(*args, **kwargs):
        recorder.events.clear()
        tracker.track(*args, **kwargs)
        tracker.flush(10)
        return recorder.events[0] if recorder.events else None

    track.tracker = tracker
    yield track
    tracker.shutdown(5)


class Currency(enum.Enum):
    CHF = "chf"


@dataclasses.dataclass
class OrderPaid:
    total: float
    currency: Currency = Currency.CHF


@dataclasses.dataclass(frozen=True)
class SlotsPaid:
    __slots__ = ("total",)
    total: float


class StructPaid(msgspec.Struct, rename="camel"):
    total_sum: float
    coupon_code: str | msgspec.UnsetType = msgspec.UNSET


class TaggedPaid(msgspec.Struct, tag="paid"):
    total: float


@attrs.define
class AttrsPaid:
    total: float
    currency: Currency = Currency.CHF


@attrs.frozen(slots=False)
class DictPaid:
    total: float


class ModelPaid(pydantic.BaseModel):
    total: float
    at: Optional[datetime] = None  # noqa: UP045
    note: str = pydantic.Field("x", exclude=True)


class AliasPaid(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True, extra="allow")
    total: float = pydantic.Field(alias="totalSum")


@pydantic.dataclasses.dataclass
class CheckedPaid:
    total: float


EXPECTED = [
    (OrderPaid(9.5), "order paid", {"total": 9.5, "currency": "chf"}),
    (SlotsPaid(9.5), "slots paid", {"total": 9.5}),
    (StructPaid(9.5), "struct paid", {"totalSum": 9.5}),
    (StructPaid(9.5, "c"), "struct paid", {"totalSum": 9.5, "couponCode": "c"}),
    (TaggedPaid(9.5), "tagged paid", {"type": "paid", "total": 9.5}),
    (AttrsPaid(9.5), "attrs paid", {"total": 9.5, "currency": "chf"}),
    (DictPaid(9.5), "dict paid", {"total": 9.5}),
    (ModelPaid(total=9.5), "model paid", {"total": 9.5, "at": None}),
    (AliasPaid(totalSum=9.5, more=1), "alias paid", {"totalSum": 9.5, "more": 1}),
    (CheckedPaid(9.5), "checked paid", {"total": 9.5}),
]


@pytest.mark.parametrize(("event", "name", "properties"), EXPECTED, ids=lambda value: type(value).__name__)
def test_the_name_is_made_of_the_class_and_the_properties_of_its_fields(tracked, event, name, properties):
    seen = tracked(event, user_id="u")
    assert (seen.name, seen.properties, seen.user_id) == (name, properties, "u")
    assert tracked.tracker.stats().salvaged == 0, "nothing was lost"
    assert tracked("x", {"inside": [event]}).properties == {"inside": [properties]}


def test_what_a_library_writes_as_json_is_what_is_sent(tracked):
    for event in (StructPaid(1.5, "c"), StructPaid(1.5), TaggedPaid(1.5)):
        assert tracked(event).properties == msgspec.json.decode(msgspec.json.encode(event))
    for model in (ModelPaid(total=1.5), AliasPaid(totalSum=1.5, more=[1])):
        assert tracked(model).properties == model.model_dump(mode="json")
    assert tracked(AttrsPaid(1.5)).properties.keys() == attrs.asdict(AttrsPaid(1.5)).keys()
    assert tracked(SlotsPaid(1.5)).properties == dataclasses.asdict(SlotsPaid(1.5))


class Line(msgspec.Struct, rename={"sku_code": "sku"}):
    sku_code: str


@dataclasses.dataclass
class Nested:
    lines: list[Line]
    order: OrderPaid
    when: datetime
    unset: dict[str, int] = dataclasses.field(default_factory=dict)
    fixed: int = dataclasses.field(init=False, default=7)
    kind: ClassVar[str] = "no field"
    given: dataclasses.InitVar[int] = 5


def test_fields_may_be_nested_and_class_variables_are_none(tracked):
    event = Nested([Line("a")], OrderPaid(1.0), datetime(2026, 5, 4, tzinfo=timezone.utc))
    assert tracked(event).properties == {
        "lines": [{"sku": "a"}],
        "order": {"total": 1.0, "currency": "chf"},
        "when": "2026-05-04T00:00:00+00:00",
        "unset": {},
        "fixed": 7,
    }


def test_properties_are_added_and_win(tracked):
    assert tracked(OrderPaid(9.5), {"total": 1, "plan": "pro"}).properties == {
        "total": 1,
        "currency": "chf",
        "plan": "pro",
    }
    with agent_tracking.context(properties={"total": "bound", "page": "/"}):
        assert tracked(OrderPaid(9.5)).properties == {"total": 9.5, "currency": "chf", "page": "/"}
        assert tracked(OrderPaid(9.5), {"page": "own"}).properties["page"] == "own"


# Names


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("OrderPaid", "order paid"),
        ("Order", "order"),
        ("HTTPRequestSent", "http request sent"),
        ("UserSSO", "user sso"),
        ("APIKeyCreated", "api key created"),
        ("PlanV2Chosen", "plan v2 chosen"),
        ("_OrderPaid", "order paid"),
        ("OrderPaid[int, OtherThing]", "order paid"),
        ("order_paid", "order paid"),
        ("Order_Paid", "order paid"),
        ("X", "x"),
    ],
)
def test_the_words_of_a_class_become_the_name(given, name):
    assert name_of(given) == name


class Declared(msgspec.Struct):
    event_name: ClassVar[str] = "money arrived"
    total: float


class DeclaredModel(pydantic.BaseModel):
    event_name: ClassVar[str] = "money arrived"
    total: float


@dataclasses.dataclass
class DeclaredField:
    total: float
    event_name: str = "money arrived"


@attrs.define
class Heir(AttrsPaid):
    event_name: ClassVar[str] = "money arrived"


class DeclaredStruct(Declared):
    more: int = 1


@pytest.mark.parametrize(
    "event", [Declared(1.0), DeclaredModel(total=1.0), DeclaredField(1.0), Heir(1.0), DeclaredStruct(1.0)]
)
def test_a_declared_name_is_used_and_is_no_property(tracked, event):
    seen = tracked(event)
    assert seen.name == "money arrived"
    assert seen.properties["total"] == 1.0
    assert "event_name" not in seen.properties


def test_a_declared_name_that_is_none_is_a_bad_name(tracked):
    assert tracked(DeclaredField(1.0, event_name="")) is None
    assert tracked(DeclaredField(1.0, event_name=[])) is None
    assert tracked.tracker.stats().dropped == {"bad-name": 2}


# What is none, and what is hostile


class Plain:
    event_name = "x"
    total = 1


class Imitation:
    __dataclass_fields__ = {"a": 5}
    __attrs_attrs__ = (5,)


class Lazy:
    """Like a row of a database: reading an attribute would ask it."""

    __dataclass_fields__ = OrderPaid.__dataclass_fields__

    @property
    def total(self):
        raise SystemExit("must not run")

    def __getattr__(self, name):
        raise SystemExit("must not run")


@pytest.mark.parametrize(
    "event", [Plain(), Imitation(), OrderPaid, object(), 5, None, b"x", [1], {"a": 1}, lambda: 1]
)
def test_what_is_no_typed_event_stays_a_bad_name(tracked, event):
    assert tracked(event, {"a": 1}) is None
    assert tracked.tracker.stats().dropped == {"bad-name": 1}


def test_no_code_of_an_object_runs(tracked):
    assert tracked(Lazy()).properties == {"total": "<error>", "currency": "<error>"}


@dataclasses.dataclass
class Endless:
    self: object = None
    text: str = ""


def test_a_typed_event_is_bounded_like_any_other(tracked):
    event = Endless(text="x" * 2_000_000)
    event.self = event
    seen = tracked(event, {"kept": 1})
    assert seen.name == "endless"
    assert seen.properties["kept"] == 1
    assert len(seen.properties_json) < 1_000_000
    assert tracked.tracker.stats().salvaged == 1


def test_urls_of_pydantic_are_text(tracked):
    class Viewed(pydantic.BaseModel):
        url: pydantic.HttpUrl

    assert tracked(Viewed(url="https://example.com/x")).properties == {"url": "https://example.com/x"}


def test_strict_mode_takes_typed_events_and_refuses_what_would_be_lost():
    tracker = Tracker(environ={"AGENT_TRACKING_STRICT": "1"}, discover=False)
    recorder = Recorder()
    tracker.register_provider(recorder)
    tracker.track(OrderPaid(9.5), {"a": 1})
    assert tracker.flush(10)
    assert [event.name for event in recorder.events] == ["order paid"]
    with pytest.raises(TrackingError, match="fields of the event"):
        tracker.track(Endless(self=object()))
    with pytest.raises(TrackingError, match="name must be text"):
        tracker.track(DeclaredField(1.0, event_name=""))
    with pytest.raises(TrackingError, match="name must be text"):
        tracker.track(Plain())
    tracker.shutdown(1)


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={**os.environ, "AGENT_TRACKING_PROVIDERS": "none"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


def test_a_typed_event_imports_nothing_on_the_callers_thread():
    output = run("""
        import builtins, dataclasses, threading
        import agent_tracking
        @dataclasses.dataclass
        class OrderPaid:
            total: float
        main, seen, original = threading.get_ident(), [], builtins.__import__
        def spy(name, *rest):
            if threading.get_ident() == main:
                seen.append(name)
            return original(name, *rest)
        builtins.__import__ = spy
        agent_tracking.track(OrderPaid(9.5), {"a": 1})
        builtins.__import__ = original
        print(seen)
    """)
    assert output == "[]"


TYPED = """
import dataclasses
from typing import ClassVar
import attrs, msgspec, pydantic
from agent_tracking import track

@dataclasses.dataclass
class A:
    total: float
class B(msgspec.Struct):
    event_name: ClassVar[str] = "b"
    total: float
@attrs.define
class C:
    total: float
class D(pydantic.BaseModel):
    total: float
class E:
    total: float = 1.0

track("name")
track(A(1.0), {"a": 1}, user_id="u")
track(B(total=1.0))
track(C(1.0))
track(D(total=1.0))
track(E())
track(5)
"""


def test_type_checkers_take_typed_events_and_names_and_nothing_else(tmp_path):
    (tmp_path / "app.py").write_text(TYPED)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file",
            "",
            "--cache-dir",
            str(tmp_path / "cache"),
            "app.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(Path(agent_tracking.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [line for line in done.stdout.splitlines() if "error:" in line]
    assert [line.split(":")[1] for line in wrong] == ["26", "27"], done.stdout + done.stderr
