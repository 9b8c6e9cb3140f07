"""The samples of third parties, proved as their authors would: HTTP, files, a database, coroutines."""

from __future__ import annotations

import json
import socketserver
import sqlite3
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from agent_tracking_sample_async import SocketProvider
from agent_tracking_sample_http import SampleHTTPProvider
from agent_tracking_sample_older import TallyProvider
from agent_tracking_sample_plain import LineProvider
from agent_tracking_sample_sqlite import SQLiteProvider

from agent_tracking.testing import Capabilities, ProviderConformance


class TestSampleHTTP(ProviderConformance):
    provider = SampleHTTPProvider
    capabilities = Capabilities(gzip=True)
    exceptions = {
        "test_a_value_that_cannot_work_is_refused_without_being_told": "it shows the least that is needed,"
        " and checks no value: the transport refuses a key with a line break",
    }

    def make_environ(self, place):
        return {"SAMPLE_HTTP_KEY": "t0ps3cret-of-the-tests", "SAMPLE_HTTP_URL": place}


class InAFolder(ProviderConformance):
    """What lives in a folder is out of reach while the folder has another name."""

    @contextmanager
    def outage(self, place):
        away = Path(f"{place}-away")
        Path(place).rename(away)
        try:
            yield
        finally:
            away.rename(place)


class TestSamplePlain(InAFolder):
    provider = LineProvider
    capabilities = Capabilities(identities=False)

    def make_environ(self, place):
        return {"SAMPLE_PLAIN_FILE": f"{place}/lines"}

    def delivered(self, place):
        return [json.loads(line)["id"] for line in Path(place, "lines").read_text().splitlines()]


class TestSampleSQLite(InAFolder):
    provider = SQLiteProvider

    def make_environ(self, place):
        return {"SAMPLE_SQLITE_FILE": f"{place}/records.db"}

    def delivered(self, place):
        with closing(sqlite3.connect(f"{place}/records.db")) as database:
            return [row[0] for row in database.execute("SELECT id FROM records")]


class TestSampleOlder(InAFolder):
    provider = TallyProvider
    capabilities = Capabilities(identities=False)

    def make_environ(self, place):
        return {"SAMPLE_OLDER_FILE": f"{place}/number"}

    def delivered(self, place):
        return int(Path(place, "number").read_text())


class TestSampleAsync(ProviderConformance):
    provider = SocketProvider
    capabilities = Capabilities(identities=False)

    @pytest.fixture(autouse=True)
    def _server(self):
        with Lines() as self.lines:
            yield

    def make_environ(self, place):
        return {"SAMPLE_ASYNC_HOST": "127.0.0.1", "SAMPLE_ASYNC_PORT": str(self.lines.server_address[1])}

    def delivered(self, place):
        return [json.loads(line)["id"] for line in self.lines.taken]

    @contextmanager
    def outage(self, place):
        self.lines.takes = False
        try:
            yield
        finally:
            self.lines.takes = True


class Lines(socketserver.ThreadingTCPServer):
    """Takes lines until the sender has said all, and answers how many it took."""

    daemon_threads = True
    takes = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken = []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        lines = self.rfile.readlines()
        if not self.server.takes:
            lines = []
        self.server.taken += lines
        self.wfile.write(b"%d\n" % len(lines))
