"""TLS: which servers are trusted, with real certificates, and messages that say what to do."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from device_agent.config import model
from device_agent.config.load import load as load_config
from device_agent.core.errors import ConfigError, LinkLost, LinkRefused
from device_agent.net import tls as trust
from device_agent.net.dialer import Dialer
from device_agent.net.http_post import Post
from device_agent.net.models import Endpoint, Request
from device_agent.net.resolver import Address, ResolverCache
from device_agent.net.transport import Transport
from device_agent.net.websocket import WebSocket
from tests.support.authority import FAR, FUTURE, LONG_AGO, PAST, Authority
from tests.support.websocket_peer import Peer


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


def upgrades(context: ssl.SSLContext) -> Peer:
    peer = Peer(lambda sock: peer.upgrade(sock), context)
    return peer


def wire(peer: Peer, ca_file: Path | str = "") -> WebSocket:
    return WebSocket(
        Endpoint("the peer", f"wss://127.0.0.1:{peer.port}/", {"Authorization": "Bearer sk-1234"}), 5, str(ca_file)
    )


def said(peer: Peer, ca_file: Path | str = "") -> str:
    """Return why the certificate of *peer* is not taken: time may help, and the key was not shown."""
    with peer, pytest.raises(LinkLost) as lost:
        wire(peer, ca_file).open()
    assert peer.request == b""
    return str(lost.value)


def test_a_server_with_a_certificate_of_our_ca_is_trusted(authority):
    with upgrades(authority.server()) as peer:
        opened = wire(peer, authority.certificate)
        opened.open()
        opened.close()
        assert b"Bearer sk-1234" in peer.request


def test_a_post_believes_it_too(authority):
    def act(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        while sock.recv(4096):
            pass

    with Peer(act, authority.server()) as peer:
        assert Post(Request(f"https://127.0.0.1:{peer.port}/", {}), 5, str(authority.certificate)).send() == {}


def test_a_name_is_compared_as_well(authority):
    book = ResolverCache(lambda _host, port: [Address(socket.AF_INET, ("127.0.0.1", port))])
    with Peer(lambda _sock: None, authority.server("DNS:speaker.example")) as peer:
        dial = Dialer("it", 5, ca_file=str(authority.certificate), transport=Transport(book))
        tls = dial.connect(f"wss://speaker.example:{peer.port}").sock
        assert isinstance(tls, ssl.SSLSocket)
        assert tls.getpeercert()["subjectAltName"] == (("DNS", "speaker.example"),)  # type: ignore[index]
        dial.close()


def test_no_other_server_is_trusted_where_there_is_a_ca_of_our_own(authority, stranger):
    assert "service.ca_file" in said(upgrades(stranger.server()), authority.certificate)
    assert "service.ca_file" in said(upgrades(authority.server()))


def test_another_host_is_said(authority):
    assert "for another host" in said(upgrades(authority.server("DNS:other.example")), authority.certificate)
    assert "for another host" in said(upgrades(authority.server("IP:127.0.0.2")), authority.certificate)


def test_an_expired_certificate_or_a_clock_that_is_ahead_is_said(authority):
    text = said(upgrades(authority.server(begins=LONG_AGO, ends=PAST)), authority.certificate)
    assert "has expired, or the clock here is ahead: it says 20" in text


def test_a_clock_that_is_behind_is_said_and_time_helps(authority):
    text = said(upgrades(authority.server(begins=FUTURE, ends=FAR)), authority.certificate)
    assert "not valid yet: the clock here says 20" in text
    assert "until the network sets it" in text


def test_the_clock_is_told_as_it_is():
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 9, "certificate is not yet valid"
    assert "says 1970-01-01 00:01 UTC" in trust.certificate_problem(error, 60.0)
    error.verify_code, error.verify_message = 23, "certificate revoked"
    assert "is not valid (certificate revoked)" in trust.certificate_problem(error, 60.0)


@pytest.mark.filterwarnings("ignore:.*TLSv1_1")
def test_an_old_protocol_is_not_spoken(authority):
    context = authority.server()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    assert "does not speak TLS, or no version that works here" in said(upgrades(context), authority.certificate)


@pytest.fixture
def loaded(tmp_path):
    def load(ca_file: Path | str) -> model.Config:
        path = tmp_path / "config.yaml"
        path.write_text(f"service:\n  ca_file: {ca_file}\n")
        return load_config(path)

    return load


def test_a_ca_file_is_read_with_the_configuration(loaded, authority):
    assert loaded(authority.certificate).service.ca_file == str(authority.certificate)


def test_a_ca_file_that_is_of_no_use_is_named(loaded, authority, tmp_path):
    certificate, key = authority.issue()
    (tmp_path / "words.pem").write_text("my CA")
    for path, reason in [
        (tmp_path / "nothing.pem", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "words.pem", "not a PEM file"),
        (key, "not a PEM file"),
        (certificate, "holds no CA certificate"),
    ]:
        with pytest.raises(ConfigError, match=reason) as wrong:
            loaded(path)
        assert str(path) in str(wrong.value)
        assert ":2:" in str(wrong.value)


def test_a_ca_file_that_went_away_is_refused_before_anything_is_said(authority, tmp_path):
    with upgrades(authority.server()) as peer:
        with pytest.raises(LinkRefused, match=r"gone\.pem cannot be read"):
            wire(peer, tmp_path / "gone.pem").open()
        assert peer.request == b""
