"""Whom we believe: the authorities that vouch for a service, and what to say where none does."""

from __future__ import annotations

import ssl
import time

from ..core.errors import ConfigError
from ..runtime.atomic_file import read_whole
from ..runtime.paths import expand_user

MAX_CA_FILE_BYTES = 1 << 20
"""Bytes of a file with authorities; all that a system trusts are a quarter of that."""
CERT_NOT_YET_VALID, CERT_EXPIRED, CERT_HOST_MISMATCH, CERT_UNKNOWN_CA = {9}, {10}, {62, 64}, {18, 19, 20, 21}
"""OpenSSL's codes for what is wrong with a certificate."""


def context(ca_file: str = "") -> ssl.SSLContext:
    """Return how to begin TLS: certificates are always verified, by *ca_file* alone where there is one.

    Raises ConfigError, which names the file.
    """
    if not ca_file:
        return ssl.create_default_context()
    path = expand_user(ca_file)
    try:
        # Read here, and not by OpenSSL: it would wait for ever for a pipe without a writer.
        pem = read_whole(path, MAX_CA_FILE_BYTES).decode("ascii", "replace").replace("\ufffd", "?")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"the CA file {path} cannot be read: {reason}") from error
    try:
        if not pem.strip():  # which the library would take for a wish for the authorities of the system
            raise ssl.SSLError("it is empty")
        made = ssl.create_default_context(cadata=pem)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{path} is not a PEM file with certificates; export the certificate of your CA as PEM"
        ) from error
    if not made.cert_store_stats()["x509_ca"]:
        raise ConfigError(
            f"{path} holds no CA certificate; use the certificate of the CA that signed the one of the service"
        )
    return made


def certificate_problem(error: ssl.SSLCertVerificationError, now: float) -> str:
    """Return what is wrong with a certificate and what to do; *now* is Unix time.

    Time helps with each of these: it sets a clock, renews a certificate, and ends a login page or a router without a
    line that answer in the place of everybody.
    """
    clock = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    code = error.verify_code
    if code in CERT_NOT_YET_VALID:
        return f"its certificate is not valid yet: the clock here says {clock} and is wrong until the network sets it"
    if code in CERT_EXPIRED:
        return f"its certificate has expired, or the clock here is ahead: it says {clock}"
    if code in CERT_HOST_MISMATCH:
        return "its certificate is for another host; is service.url right, and is there no login page in between?"
    if code in CERT_UNKNOWN_CA:
        return (
            "its certificate is not signed by a CA that this machine trusts; is there a login page in between? "
            "The CA of a service of your own belongs in service.ca_file"
        )
    return f"its certificate is not valid ({error.verify_message}); the clock here says {clock}"
