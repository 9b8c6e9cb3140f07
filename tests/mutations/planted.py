"""Faults to plant in providers and the core, and the tests that have to notice each of them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PLANTED", "Planted"]

CONFORMANCE = "tests/conformance"
CLASSES = {
    "posthog": f"{CONFORMANCE}/test_posthog.py::TestPostHog",
    "mixpanel": f"{CONFORMANCE}/test_mixpanel.py::TestMixpanel",
    "amplitude": f"{CONFORMANCE}/test_amplitude.py::TestAmplitude",
    "webhook": f"{CONFORMANCE}/test_webhook.py::TestWebhook",
    "plain": f"{CONFORMANCE}/test_samples.py::TestSamplePlain",
    "sqlite": f"{CONFORMANCE}/test_samples.py::TestSampleSQLite",
}


@dataclass(frozen=True)
class Planted:
    """One fault: what is replaced in a provider's source, and which tests must fail for it."""

    name: str
    provider: str
    old: str
    new: str
    #: Names of the conformance suite's tests, or whole addresses of tests of ours.
    noticed_by: tuple[str, ...]
    file: str = "provider.py"
    #: Put in front of the module, behind its own ``from __future__`` line.
    imports: str = ""

    @property
    def tests(self) -> tuple[str, ...]:
        """The addresses of the tests that must fail."""
        return tuple(t if "::" in t else f"{CLASSES[self.provider]}::{t}" for t in self.noticed_by)


def _posthog(name: str, old: str, new: str, *noticed_by: str, **more: str) -> Planted:
    return Planted(name, "posthog", old, new, noticed_by, **more)


def _mixpanel(name: str, old: str, new: str, *noticed_by: str, **more: str) -> Planted:
    return Planted(name, "mixpanel", old, new, noticed_by, **more)


def _amplitude(name: str, old: str, new: str, *noticed_by: str, **more: str) -> Planted:
    return Planted(name, "amplitude", old, new, noticed_by, **more)


def _webhook(name: str, old: str, new: str, *noticed_by: str, **more: str) -> Planted:
    return Planted(name, "webhook", old, new, noticed_by, **more)


def _plain(name: str, old: str, new: str, *noticed_by: str, **more: str) -> Planted:
    return Planted(name, "plain", old, new, noticed_by, file="__init__.py", **more)


def _core(name: str, file: str, old: str, new: str, *noticed_by: str) -> Planted:
    return Planted(name, "core", old, new, noticed_by, file=file)


WIRE = "tests/plugins/test_{0}_wire.py::{1}".format
CONFIGURED = "tests/plugins/test_configuration.py::{0}".format
ANSWERED = "tests/plugins/test_answers.py::{0}".format
PROCESSED = "tests/unit/test_processors.py::{0}".format
REDACTED = "tests/unit/test_processors_redact.py::{0}".format
TYPED = "tests/unit/test_typed.py::{0}".format

KEYS = [
    _posthog(
        "a new id in the body of each try",
        "json_array(batch, self._head, tail)",
        'json_array(batch, self._head, b\',"sent":"%s"\' % uuid.uuid4().hex.encode() + tail)',
        "test_a_retry_sends_the_same_bytes_and_keys",
        "test_a_request_is_the_same_each_time",
        imports="import uuid",
    ),
    _posthog(
        "a new deduplication key for each call",
        "    key = record.message_id\n",
        "    key = str(uuid.uuid4())\n",
        "test_the_message_id_is_the_deduplication_key",
        "test_encoding_depends_on_the_record_alone",
        imports="import uuid",
    ),
    _mixpanel(
        "no deduplication key",
        'b\'%d,"$insert_id":"%s",\' % (record.time_ms, key.encode())',
        "b'%d,' % record.time_ms",
        "test_the_message_id_is_the_deduplication_key",
        "test_everything_is_delivered_once",
    ),
    _webhook(
        "a new webhook-id on each try",
        "    return str(uuid5(_BATCHES, ",
        "    return str(uuid.uuid4()) or str(uuid5(_BATCHES, ",
        "test_a_retry_sends_the_same_bytes_and_keys",
        WIRE("webhook", "test_webhook_id_is_the_same_on_every_try"),
        file="signing.py",
        imports="import uuid",
    ),
]

SECRETS = [
    _posthog(
        "the key in the log at DEBUG",
        '        host = http_url("POSTHOG_HOST"',
        '        logging.getLogger("acme").debug("using %s", key)\n        host = http_url("POSTHOG_HOST"',
        "test_no_secret_reaches_the_log_the_output_or_the_listing",
        imports="import logging",
    ),
    _posthog(
        "the key in the repr",
        "    def configure(self) -> None:",
        "    def __repr__(self) -> str:\n"
        "        return f\"<PostHog {self.values['POSTHOG_API_KEY']}>\"\n\n"
        "    def configure(self) -> None:",
        "test_no_secret_is_shown_by_repr_or_str",
    ),
    _posthog(
        "the key in the address",
        'host) + "/batch/"',
        'host) + "/batch/?api_key=" + key',
        "test_no_secret_stands_in_an_address",
    ),
    _posthog(
        "a secret that is not declared as one",
        'EnvVar("POSTHOG_API_KEY", required=True, secret=True,',
        'EnvVar("POSTHOG_API_KEY", required=True,',
        "test_what_sounds_like_a_secret_is_declared_as_one",
        CONFIGURED("test_every_credential_is_declared_secret"),
    ),
    _posthog(
        "an error that quotes the key",
        '"POSTHOG_API_KEY is a personal key",',
        'f"POSTHOG_API_KEY {key} is a personal key",',
        CONFIGURED("test_bad_value_is_refused_without_being_told"),
    ),
    _mixpanel(
        "an error that quotes the token",
        '"MIXPANEL_TOKEN has a character that no token has",',
        'f"MIXPANEL_TOKEN {token} has a character that no token has",',
        "test_a_value_that_cannot_work_is_refused_without_being_told",
    ),
    _amplitude(
        "a verdict that quotes the answer",
        '        return Stop(\n            "Amplitude',
        '        return Stop(\n            str(body) + "Amplitude',
        "test_no_secret_is_told_by_a_verdict",
        ANSWERED("test_amplitude_names_the_wrong_key_and_we_do_not"),
        file="answers.py",
    ),
    _webhook(
        "the address printed",
        "        body = self._format.body(batch)\n",
        "        body = self._format.body(batch)\n        print(self._url)\n",
        "test_no_secret_reaches_the_log_the_output_or_the_listing",
    ),
]

IMPORTS = [
    _posthog(
        "an HTTP client imported at the module's level",
        "import re\n",
        "import re\nimport httpx  # noqa\n",
        "test_importing_it_imports_no_http_client_and_no_kit_of_a_vendor",
    ),
    _posthog(
        "a thread started at import",
        "import re\n",
        "import re\nimport threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        "test_importing_it_starts_nothing_and_changes_nothing",
    ),
    _posthog(
        "a socket made at import",
        "import re\n",
        "import re\nimport socket\n_SOCKET = socket.socket()\n",
        "test_importing_it_starts_nothing_and_changes_nothing",
    ),
    _posthog(
        "waiting at import",
        "import re\n",
        "import re\nimport threading\nthreading.Event().wait(1.5)\n",
        "test_importing_it_takes_no_time",
    ),
    _posthog(
        "logging configured at import",
        "import re\n",
        "import re\nimport logging\nlogging.basicConfig()\n",
        "test_importing_it_starts_nothing_and_changes_nothing",
    ),
    _posthog(
        "a signal handler set at import",
        "import re\n",
        "import re\nimport signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\n",
        "test_importing_it_starts_nothing_and_changes_nothing",
    ),
    _webhook(
        "a thread started by configure",
        "        self._format = FORMATS[chosen]\n",
        "        self._format = FORMATS[chosen]\n"
        "        threading.Thread(target=threading.Event().wait, args=(30,), daemon=True).start()\n",
        "test_making_it_starts_nothing_and_changes_nothing",
        imports="import threading",
    ),
]

VARIABLES = [
    _mixpanel(
        "a variable that is not declared",
        '        host = http_url("MIXPANEL_HOST", self.values["MIXPANEL_HOST"])\n',
        '        host = http_url("MIXPANEL_HOST", os.environ.get("MIXPANEL_REGION") or self.values["MIXPANEL_HOST"])\n',
        "test_it_reads_its_variables_from_values_alone",
        imports="import os",
    ),
    _amplitude(
        "a required variable declared as optional",
        'EnvVar("AMPLITUDE_API_KEY", required=True,',
        'EnvVar("AMPLITUDE_API_KEY",',
        CONFIGURED("test_missing_variable_is_named"),
    ),
    _amplitude(
        "a variable missing from the declaration",
        '        EnvVar(\n            "AMPLITUDE_HOST",',
        '        EnvVar(\n            "AMPLITUDE_SERVER",',
        "test_with_its_variables_it_is_active",
    ),
    _posthog(
        "the application's host used for events",
        '"eu.posthog.com": "https://eu.i.posthog.com",',
        '"eu.posthog.com": "https://eu.posthog.com",',
        CONFIGURED("test_host"),
    ),
]

EVENTS = [
    _posthog(
        "the time of sending in place of the event's",
        '"timestamp":"{record.iso}"',
        '"timestamp":"{iso_text(time.time())}"',
        "test_encoding_depends_on_the_record_alone",
        imports="import time\nfrom agent_tracking.clock import iso_text",
    ),
    _posthog(
        "no time",
        ',"timestamp":"{record.iso}"',
        "",
        "test_every_field_of_an_event_is_sent",
        WIRE("posthog", "test_id_and_time_stand_beside_the_properties"),
    ),
    _amplitude(
        "seconds in place of milliseconds",
        "(record.time_ms, key.encode())",
        "(record.time_ms // 1000, key.encode())",
        "test_everything_is_delivered_once",
    ),
    _mixpanel(
        "seconds in place of milliseconds",
        "(record.time_ms, key.encode())",
        "(record.time_ms // 1000, key.encode())",
        WIRE("mixpanel", "test_event"),
    ),
    _posthog(
        "a placeholder for nobody",
        "_quote((distinct_id or key)[:ID_LENGTH])",
        '_quote((distinct_id or "anonymous")[:ID_LENGTH])',
        "test_nobody_gets_no_invented_name",
    ),
    _amplitude(
        "one device for nobody",
        "_quote((device or record.message_id)[:CHARACTERS])",
        '_quote((device or "server-side")[:CHARACTERS])',
        "test_nobody_gets_no_invented_name",
    ),
    _amplitude(
        "user ids of digits sent as numbers",
        "b',\"user_id\":' + _quote(user[:CHARACTERS])",
        "b',\"user_id\":' + (user.encode() if user.isdigit() else _quote(user[:CHARACTERS]))",
        "test_ids_are_sent_as_text",
    ),
    _posthog(
        "a caller's property beside ours of the same name",
        '    return (b"$" in data or',
        '    return False and (b"$" in data or',
        "test_payloads_are_valid_json",
        file="reserved.py",
    ),
    _mixpanel(
        "a caller's property beside a reserved one",
        "    if _special(data) != _NOTHING_SPECIAL:",
        "    if False:",
        "test_payloads_are_valid_json",
        WIRE("mixpanel", "test_property_never_overwrites_a_reserved_one"),
        file="limits.py",
    ),
    _mixpanel(
        "a caller's property in place of a reserved one",
        '        b"}}",\n    )\n    return Payload(b"".join(parts), "import", key)\n',
        '        b"}}",\n    )\n    made = msgspec.json.decode(b"".join(parts))\n'
        '    made["properties"] |= msgspec.json.decode(record.data_json)\n'
        '    return Payload(msgspec.json.encode(made), "import", key)\n',
        "test_properties_never_overwrite_what_the_provider_says",
        WIRE("mixpanel", "test_property_never_overwrites_a_reserved_one"),
    ),
    _posthog(
        "bytes that depend on the process",
        "for key, value in given.items()\n        if key not in ours",
        "for key, value in [(key, given[key]) for key in set(given)]\n        if key not in ours",
        "test_encoding_depends_on_no_process",
        file="reserved.py",
    ),
    _posthog(
        "a mutable default that all records share",
        "def _event(record: Record, name: bytes, distinct_id: str | None, properties: bytes) -> Payload:\n",
        "def _event(record, name, distinct_id, properties, known={}):\n"
        "    distinct_id = known.setdefault('id', distinct_id)\n",
        "test_every_field_of_an_event_is_sent",
    ),
    _posthog(
        "the record changed in place",
        "        if isinstance(record, Identity):\n            return _identify(record)\n",
        '        msgspec.structs.force_setattr(record, "anonymous_id", "seen")\n'
        "        if isinstance(record, Identity):\n            return _identify(record)\n",
        "test_encoding_leaves_the_record_as_it_is",
        "test_records_are_left_as_they_are",
    ),
    _amplitude(
        "a session that is not the vendor's kind",
        "    if _EPOCH_MS.fullmatch(session):",
        "    if session.isdigit():",
        WIRE("amplitude", "test_session_is_a_session_only_if_it_is_a_time"),
    ),
    _amplitude(
        "a name that becomes empty",
        '(name.lstrip("$") or "_")',
        'name.lstrip("$")',
        "test_hostile_events_are_delivered_or_rejected",
    ),
    _webhook(
        "an encoder that knows ASCII only",
        "ids = b',\"userId\":' + _quote(record.user_id)",
        "ids = b',\"userId\":\"' + record.user_id.encode('ascii') + b'\"'",
        "test_hostile_records_are_encoded_or_rejected",
        "test_payloads_are_valid_json",
        file="formats.py",
    ),
]

LIMITS = [
    _mixpanel(
        "gzip where the backend takes none",
        'Endpoint("engage", records=2000, record_bytes=1_000_000, body_bytes=1_990_000)',
        'Endpoint("engage", records=2000, record_bytes=1_000_000, body_bytes=1_990_000, gzip=True)',
        "test_bodies_are_compressed_only_where_an_endpoint_says_so",
        WIRE("mixpanel", "test_profiles_are_never_compressed"),
    ),
    _mixpanel(
        "a batch that is too large",
        'Endpoint("import", records=2000,',
        'Endpoint("import", records=5000,',
        WIRE("mixpanel", "test_limits_are_below_the_servers"),
    ),
    _mixpanel(
        "a record that is too large",
        'Endpoint("import", records=2000, record_bytes=1_000_000,',
        'Endpoint("import", records=2000, record_bytes=10_000_000,',
        "test_its_endpoints_can_be_kept_to",
        WIRE("mixpanel", "test_limits_are_below_the_servers"),
    ),
    _mixpanel(
        "profiles behind events",
        '        Endpoint("engage", records=2000, record_bytes=1_000_000, body_bytes=1_990_000),\n'
        '        Endpoint("import", records=2000, record_bytes=1_000_000, body_bytes=1_990_000, gzip=True),\n',
        '        Endpoint("import", records=2000, record_bytes=1_000_000, body_bytes=1_990_000, gzip=True),\n'
        '        Endpoint("engage", records=2000, record_bytes=1_000_000, body_bytes=1_990_000),\n',
        WIRE("mixpanel", "test_profiles_come_before_events"),
    ),
    _amplitude(
        "ids of fewer than five characters refused",
        ',"options":{"min_id_length":1}',
        "",
        WIRE("amplitude", "test_short_ids_are_allowed_for"),
    ),
    _mixpanel(
        "the wrong address",
        '"import": f"{host}/import?strict=1"',
        '"import": f"{host}/events?strict=1"',
        "test_everything_is_delivered_once",
        WIRE("mixpanel", "test_events_are_sent_with_the_token_as_user_name"),
    ),
    _mixpanel(
        "the vendor's checks not asked for",
        'f"{host}/import?strict=1"',
        'f"{host}/import"',
        WIRE("mixpanel", "test_events_are_sent_with_the_token_as_user_name"),
    ),
    _posthog(
        "a batch turned round in place",
        "        return Request(self._url, headers=self._headers, body=json_array(batch, self._head, tail))",
        "        batch.reverse()\n"
        "        return Request(self._url, headers=self._headers, body=json_array(batch, self._head, tail))",
        "test_a_batch_is_left_as_it_is",
        "test_a_request_is_the_same_each_time",
    ),
]

ANSWERS = [
    _posthog(
        "a refusal swallowed",
        "        if response.status == 401:",
        "        if response.status == 400:\n            return Delivered()\n        if response.status == 401:",
        "test_a_refusal_is_no_delivery",
        "test_a_record_that_is_refused_costs_no_other",
    ),
    _posthog(
        "a web page with 200 taken for a delivery",
        'ours = isinstance(body, dict) and body.get("status") in ("Ok", 1)',
        "ours = True or body",
        "test_a_success_in_other_words_is_no_delivery",
        "test_a_captive_portal_is_no_delivery",
    ),
    _posthog(
        "a wrong key tried again",
        '            return Stop("PostHog refused',
        '            return Retry() or Stop("PostHog refused',
        "test_a_wrong_key_stops_it",
        "test_what_no_retry_changes_is_not_retried",
    ),
    _posthog(
        "a whole batch dropped for one record",
        "        return super().judge(response, batch)",
        "        return Drop() if response.status == 400 else super().judge(response, batch)",
        "test_a_record_that_is_refused_costs_no_other",
        imports="from agent_tracking.http_provider import Drop",
    ),
    _posthog(
        "a whole batch dropped because it is too large",
        "        return super().judge(response, batch)",
        '        return Drop(reason="too-large") if response.status == 413 else super().judge(response, batch)',
        "test_a_request_that_is_too_large_is_split",
        "test_a_batch_that_is_too_large_is_sent_in_parts",
        imports="from agent_tracking.http_provider import Drop",
    ),
    _posthog(
        "a passing failure dropped",
        "        return super().judge(response, batch)",
        "        return Drop() if response.status == 502 else super().judge(response, batch)",
        "test_a_passing_failure_is_retried",
        "test_a_fault_that_passes_loses_nothing",
        imports="from agent_tracking.http_provider import Drop",
    ),
    _mixpanel(
        "a whole batch dropped on a partial failure",
        "return Drop(refused, rest=Retry(after=0) if profiles else Delivered())",
        "return Drop()",
        "test_a_record_that_is_refused_costs_no_other",
    ),
    _mixpanel(
        "what was taken sent again on a partial failure",
        "rest=Retry(after=0) if profiles else Delivered())",
        "rest=Retry(after=0))",
        "test_a_record_that_is_refused_costs_no_other",
    ),
    _mixpanel(
        "a failure behind a 200 taken for a delivery",
        "    return Delivered() if status else Split()",
        "    return Delivered()",
        ANSWERED("test_mixpanel_profile_that_fails_behind_a_200_is_searched_by_halving"),
    ),
    _amplitude(
        "what was not taken counted as delivered on a partial failure",
        "    rest: Verdict = Retry(after=0)",
        "    rest: Verdict = Delivered()",
        "test_a_record_that_is_refused_costs_no_other",
        file="answers.py",
    ),
    _amplitude(
        "an answer of another shape breaks the reader",
        "    if not isinstance(body, dict):\n        return None\n",
        "",
        "test_every_answer_has_a_verdict",
        file="answers.py",
    ),
    _webhook(
        "a redirect followed",
        "        if status == 410:",
        '        if 300 <= status < 400 and "location" in response.headers:\n'
        '            self._url = self._url.partition("/webhook")[0] + response.headers["location"]\n'
        "            return Retry(after=0)\n"
        "        if status == 410:",
        "test_what_no_retry_changes_is_dropped_and_counted",
        imports="from agent_tracking.http_provider import Retry",
    ),
    _webhook(
        "a receiver that is gone asked again",
        '            return Stop("the webhook answered 410',
        '            return Retry() or Stop("the webhook answered 410',
        "test_what_no_retry_changes_is_not_retried",
        imports="from agent_tracking.http_provider import Retry",
    ),
]

PLAIN = [
    _plain(
        "a buffer that a forked child inherits",
        "        self._lines: list[str] = []\n",
        "        self._lines = _LINES\n",
        "test_a_child_does_not_deliver_what_its_parent_has_buffered",
        "test_two_of_it_share_nothing",
        imports="_LINES: list[str] = []",
    ),
    _plain(
        "nothing delivered in a forked child",
        "        lines, self._lines = self._lines, []\n",
        "        lines, self._lines = self._lines, []\n        if os.getpid() != _PID:\n            return\n",
        "test_parent_and_child_of_a_fork_deliver_their_own",
        imports="import os\n\n_PID = os.getpid()",
    ),
    _plain(
        "a buffer that is never emptied",
        "lines, self._lines = self._lines, []",
        "lines = self._lines",
        "test_a_second_flush_sends_nothing_again",
    ),
    _plain(
        "an outage swallowed",
        '        with open(self.values["SAMPLE_PLAIN_FILE"], "a", encoding="utf-8") as file:\n'
        "            file.writelines(lines)",
        "        try:\n"
        '            with open(self.values["SAMPLE_PLAIN_FILE"], "a", encoding="utf-8") as file:\n'
        "                file.writelines(lines)\n"
        "        except OSError:\n"
        "            pass",
        "test_what_an_outage_held_up_is_delivered_when_it_is_over",
    ),
    _plain(
        "records kept over an outage and handed over again",
        '        with open(self.values["SAMPLE_PLAIN_FILE"], "a", encoding="utf-8") as file:\n'
        "            file.writelines(lines)",
        "        try:\n"
        '            with open(self.values["SAMPLE_PLAIN_FILE"], "a", encoding="utf-8") as file:\n'
        "                file.writelines(lines)\n"
        "        except OSError:\n"
        "            self._lines = lines\n"
        "            raise",
        "test_what_an_outage_held_up_is_delivered_when_it_is_over",
    ),
    _plain(
        "an argument that the hook does not have",
        "def track(self, event: TrackingEvent) -> None:",
        "def track(self, event: TrackingEvent, request: object) -> None:",
        "test_its_hooks_match_the_specifications",
    ),
    Planted(
        "a locked database swallowed",
        "sqlite",
        "            raise RetryLater(str(error)) from error\n",
        "            print(type(error))\n",
        ("test_what_an_outage_held_up_is_delivered_when_it_is_over",),
        file="__init__.py",
    ),
]

PROCESSORS = [
    _core(
        "a record sent although its redaction failed",
        "processors/pipeline.py",
        "        return step.required\n",
        "        return False\n",
        PROCESSED("test_what_keeps_secrets_drops_the_record_when_it_fails"),
        "tests/integration/test_processors.py::test_when_a_redaction_fails_nothing_of_the_record_is_sent",
    ),
    _core(
        "what is no refusal taken for consent",
        "processors/permission.py",
        'return None if answer is True else "no-consent"',
        'return "no-consent" if answer is False else None',
        PROCESSED("test_only_true_is_consent"),
    ),
    _core(
        "a sample that each process draws anew",
        "processors/sampling.py",
        'int.from_bytes(blake2b(held.encode(), digest_size=8).digest(), "big")',
        "hash(held) % 2**64",
        PROCESSED("test_every_process_keeps_the_same_users"),
    ),
    _core(
        "the inside of lists not redacted",
        "processors/redaction.py",
        "            clean = [self._value(item, detectors) for item in value]\n",
        "            clean = value\n",
        REDACTED("test_what_is_found_by_its_form_goes_and_the_text_around_it_stays"),
        REDACTED("test_what_stands_under_a_key_that_sounds_secret_goes_as_a_whole"),
    ),
    _core(
        "any long number taken for a card's",
        "processors/detectors.py",
        " and _luhn(digits)",
        "",
        REDACTED("test_every_card_number_with_a_right_check_digit_is_found_and_no_other"),
    ),
    _core(
        "a bound property over a typed event's field",
        "salvage.py",
        "        body = {**under, **(body or {})}\n",
        "        body = {**(body or {}), **under}\n",
        TYPED("test_properties_are_added_and_win"),
    ),
]

PLANTED = (*KEYS, *SECRETS, *IMPORTS, *VARIABLES, *EVENTS, *LIMITS, *ANSWERS, *PLAIN, *PROCESSORS)
