"""The certificate of ``tls_sink()``: self-signed, trusted by nobody, for 127.0.0.1 and localhost.

THE KEY BELOW IS A TEST KEY. It is published with this package and protects nothing: never trust the
certificate outside of a test. Valid from 2020 to 2119.
"""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

__all__ = ["CERTIFICATE", "server_context"]

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBrTCCAVOgAwIBAgIBATAKBggqhkjOPQQDAjA3MTUwMwYDVQQDDCxhZ2VudF90
cmFja2luZyB0ZXN0IHNpbmsgLSBub3QgdG8gYmUgdHJ1c3RlZDAgFw0yMDAxMDEw
MDAwMDBaGA8yMTE5MTIzMTAwMDAwMFowNzE1MDMGA1UEAwwsYWdlbnRfdHJhY2tp
bmcgdGVzdCBzaW5rIC0gbm90IHRvIGJlIHRydXN0ZWQwWTATBgcqhkjOPQIBBggq
hkjOPQMBBwNCAAQqZKoN0ed5tc0S/OQsZmXwPJMV1XKiv0At1IXK+2ppxrFsZLtp
vfGcvUwPE56Yp4NaCvWBBBACNbf1T6NpBlvfo04wTDAPBgNVHRMBAf8EBTADAQH/
MBoGA1UdEQQTMBGHBH8AAAGCCWxvY2FsaG9zdDAdBgNVHQ4EFgQUPCGo8YwxeqwK
Vbndb/WBFLKqX5wwCgYIKoZIzj0EAwIDSAAwRQIhALK8jRCRe3fvyuLz5IbiirJT
f5A6eTqos4RdL33ucplTAiBvV8tfit3d+zHYFUkquqFa/4YyOcO0ELQ3tuqhUePA
Fw==
-----END CERTIFICATE-----
"""

_TEST_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgg78vCTl23f18Ogcs
iKQYWASt2RoLulqBc2vMcvNAE/ihRANCAAQqZKoN0ed5tc0S/OQsZmXwPJMV1XKi
v0At1IXK+2ppxrFsZLtpvfGcvUwPE56Yp4NaCvWBBBACNbf1T6NpBlvf
-----END PRIVATE KEY-----
"""


def server_context() -> ssl.SSLContext:
    """Return the server's side of TLS with the test certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # the ssl module reads certificates from files only
        chain = Path(folder) / "chain.pem"
        chain.write_text(_TEST_KEY + CERTIFICATE, encoding="ascii")
        context.load_cert_chain(chain)
    return context
