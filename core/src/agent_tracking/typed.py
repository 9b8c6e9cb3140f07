"""Objects with declared fields (dataclasses, attrs, pydantic, msgspec): as events, and inside of them.

They are read without running any code of theirs, and without importing their libraries: an object of one is
only there when its library is. ``track(OrderPaid(total=9.5))`` is the event ``order paid`` with the property
``total``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol
from weakref import ReferenceType, ref

from agent_tracking.snapshot import NODES

if TYPE_CHECKING:

    class _Dataclass(Protocol):
        __dataclass_fields__: ClassVar[dict[str, Any]]

    class _Struct(Protocol):
        __struct_fields__: ClassVar[tuple[str, ...]]

    class _Attrs(Protocol):
        __attrs_attrs__: ClassVar[Any]

    class _Pydantic(Protocol):
        __pydantic_core_schema__: ClassVar[Any]

    #: What ``track()`` takes in place of a name.
    TypedEvent = _Dataclass | _Struct | _Attrs | _Pydantic

__all__ = ["TypedEvent", "event_of", "fields_of", "name_of", "type_name"]

#: What declares the name of a class's events.
_DECLARED = "event_name"
_NAME_CHARS = 200
#: The most classes that are remembered.
_MOST_PLANS = 1_000
#: Between two words: aB, and between AB and Bc of ABBc.
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_NOTHING = object()

#: A class's name and members, whatever its metaclass says.
type_name: Callable[[type], str] = vars(type)["__name__"].__get__
_dict_of: Callable[[type], Any] = vars(type)["__dict__"].__get__


def event_of(event: object) -> tuple[object, dict[str, object]] | None:
    """Return the name and the fields of a typed event; ``None`` for what is none.

    The name is the class's ``event_name``, or made of the class's own: see :func:`name_of`.
    """
    plan = _plan_of(type(event))
    if plan is None:
        return None
    fields = plan.read(event)
    return (fields.pop(_DECLARED) if _DECLARED in fields else plan.name), fields


def name_of(class_name: str) -> str:
    """Return the name of the events of a class.

    >>> name_of("OrderPaid"), name_of("HTTPRequestSent"), name_of("_PlanV2_chosen")
    ('order paid', 'http request sent', 'plan v2 chosen')
    """
    words = class_name.partition("[")[0]  # pydantic's Page[int]
    spaced = _WORDS.sub(" ", words[:_NAME_CHARS].replace("_", " "))
    return " ".join(spaced.split()).lower()


def fields_of(kind: type, value: object) -> dict[str, object] | None:
    """Return an object's fields under the names that its library writes as JSON; ``None``: it has none."""
    plan = _plan_of(kind)
    return None if plan is None else plan.read(value)


class _Plan(NamedTuple):
    """How the objects of one class are read.

    Attributes:
        name: of its events.
        fields: of each the name that is written, that of the attribute, and the class's member of that name.
        written: what is written for every object beside its fields.
        extra: where pydantic keeps what a class does not declare.
        unset: the value of a field that is not written.
    """

    name: str
    fields: tuple[tuple[str, str, object], ...]
    written: Mapping[str, object] = {}
    extra: object = None
    unset: object = _NOTHING

    def read(self, value: object) -> dict[str, object]:
        """Return the fields of an object."""
        try:
            held = object.__getattribute__(value, "__dict__")
        except AttributeError:  # an object with slots
            held = None
        own = held if type(held) is dict else {}
        found = dict(self.written)
        if self.extra is not None and type(extra := _held(value, self.extra)) is dict:
            found.update(extra)
        for name, attribute, member in self.fields:
            item = own[attribute] if attribute in own else _held(value, member)
            if item is not self.unset:
                found[name] = item
        return found


#: Plans by the ids of classes; the references tell a class from a later one with the same id.
_plans: dict[int, tuple[ReferenceType[type], _Plan | None]] = {}


def _plan_of(kind: type) -> _Plan | None:
    known = _plans.get(id(kind))
    if known is not None and known[0]() is kind:
        return known[1]
    plan = _planned(kind)
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    _plans[id(kind)] = (ref(kind), plan)
    return plan


def _planned(kind: type) -> _Plan | None:
    own = [_dict_of(base) for base in type.mro(kind)]
    declared = _member(own, _DECLARED)
    name = declared if type(declared) is str else name_of(type_name(kind))
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and msgspec.Struct in type.mro(kind):
        config = type.__getattribute__(kind, "__struct_config__")
        written = type.__getattribute__(kind, "__struct_encode_fields__")
        attributes = type.__getattribute__(kind, "__struct_fields__")
        tag = {} if config.tag is None else {config.tag_field: config.tag}
        fields = _with_members(zip(written, attributes, strict=True), own)
        return _Plan(name, fields, tag, unset=msgspec.UNSET)
    for marker, read in _READERS.items():
        listed = _member(own, marker)
        if isinstance(listed, dict | tuple):
            extra = _member(own, "__pydantic_extra__") if read is _of_pydantic else None
            return _Plan(name, _with_members(read(kind, listed), own), extra=extra)
    return None


def _with_members(
    fields: Iterable[tuple[str, str]], own: Sequence[Mapping[str, object]]
) -> tuple[tuple[str, str, object], ...]:
    return tuple((name, held, _member(own, held)) for name, held in islice(fields, NODES))


def _member(own: Iterable[Mapping[str, object]], name: str) -> object:
    return next((members[name] for members in own if name in members), None)


def _of_dataclass(kind: type, _declared: object) -> Iterator[tuple[str, str]]:
    # Those that are declared as ClassVar or InitVar are no fields.
    return ((field.name, field.name) for field in sys.modules["dataclasses"].fields(kind))


def _of_attrs(_kind: type, declared: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  attrs' own
    return ((field.name, field.name) for field in declared)


def _of_pydantic(kind: type, declared: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  pydantic's own
    config = _member(map(_dict_of, type.mro(kind)), "model_config")
    by_alias = type(config) is dict and config.get("serialize_by_alias") is True
    for name, field in declared.items():
        if getattr(field, "exclude", None) is not True:
            alias = getattr(field, "serialization_alias", None) if by_alias else None
            yield alias if type(alias) is str else name, name


_READERS: Mapping[str, Callable[[type, Any], Iterator[tuple[str, str]]]] = {
    "__pydantic_fields__": _of_pydantic,
    "__dataclass_fields__": _of_dataclass,
    "__attrs_attrs__": _of_attrs,
}


def _held(value: object, member: object) -> object:
    """Return what an object holds by a member of its class, without running a property's code.

    An object-relational mapper would query its database for such a value.
    """
    if type(member) is MemberDescriptorType:
        try:
            return member.__get__(value)
        except AttributeError:  # never set
            return "<error>"
    return "<error>" if member is None or "__get__" in _dict_of(type(member)) else member
