"""A provider that writes to a database: no HTTP, and still each record once."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from agent_tracking import EnvVar, Identity, Provider, RetryLater, TrackingEvent

TABLE = """CREATE TABLE IF NOT EXISTS records
    (id TEXT PRIMARY KEY, name TEXT, user TEXT, time TEXT, data TEXT) WITHOUT ROWID"""
# The message id is the key: what is handed over a second time is there already.
INSERT = "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?)"


class SQLiteProvider(Provider):
    """Buffers in ``track`` and ``identify``, writes one transaction in ``flush``."""

    name = "sample-sqlite"
    env = (EnvVar("SAMPLE_SQLITE_FILE", required=True, help="the database; made if it does not exist"),)

    def configure(self) -> None:
        """Begin with nothing buffered; the database is opened where it is used, on the lane's thread."""
        self._rows: list[tuple[str | None, ...]] = []

    def track(self, event: TrackingEvent) -> None:
        """Keep one row."""
        self._keep(event, event.name)

    def identify(self, identity: Identity) -> None:
        """Keep one row for what is known of a user."""
        self._keep(identity, "$identify")

    def flush(self) -> None:
        """Write the rows, all or none; while the database is locked: later, all of them again."""
        rows, self._rows = self._rows, []
        try:
            with closing(sqlite3.connect(self.values["SAMPLE_SQLITE_FILE"])) as database, database:
                database.execute(TABLE)
                database.executemany(INSERT, rows)
        except sqlite3.OperationalError as error:
            raise RetryLater(str(error)) from error

    def _keep(self, record: TrackingEvent | Identity, name: str) -> None:
        row = (record.message_id, name, record.user_id, record.iso, record.data_json.decode())
        self._rows.append(row)
