"""A record while processors change it: its data is decoded once at most, and encoded again in the end."""

from __future__ import annotations

from typing import Any

import msgspec

from agent_tracking.events import Identity, Record

__all__ = ["Draft"]

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Draft:
    """One record on its way through the processors.

    What is changed beside the data goes into ``record``. Data are never changed in place: they may be
    shared with other records.
    """

    __slots__ = ("_changed", "_data", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self._data: dict[str, Any] | None = None
        self._changed = False

    @property
    def text(self) -> bytes | None:
        """The data as JSON text, to look for something in it; ``None`` when they have changed since."""
        return None if self._changed else self.record.data_json

    @property
    def data(self) -> dict[str, Any]:
        """The properties or traits."""
        if self._data is None:
            self._data = _decode(self.record.data_json)
        return self._data

    @data.setter
    def data(self, data: dict[str, Any]) -> None:
        self._data = data
        self._changed = True

    def write(self, text: bytes) -> None:
        """Take over data as JSON text, an object without double keys."""
        field = "traits_json" if type(self.record) is Identity else "properties_json"
        self.record = msgspec.structs.replace(self.record, **{field: text})
        self._changed = False

    def settle(self) -> Record:
        """Return the record as it is now."""
        if self._changed:
            self.write(_encode(self._data))
        return self.record

    def become(self, record: Record) -> None:
        """Go on with what a function of the application returned."""
        if record.data_json is not self.record.data_json:
            self._data = None
            self._changed = False
        self.record = record
