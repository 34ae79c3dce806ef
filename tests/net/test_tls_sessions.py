"""What one TLS connection leaves to the next: a handshake that is shorter, and never one that believes more."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from device_agent.audio.playback_buffer import PlaybackBuffer
from device_agent.core.errors import ConfigError, LinkLost, LinkRefused
from device_agent.core.redaction import Secret
from device_agent.link import manager
from device_agent.link.outbox import Outbox
from device_agent.net import tls as ticket_office
from device_agent.net.dialer import Dialer
from device_agent.net.resolver import Address, ResolverCache
from device_agent.net.tls import MAX_TLS_ENTRIES, TlsContextCache
from device_agent.net.transport import Transport
from device_agent.services.xai import Xai
from tests.support.authority import Authority
from tests.support.net import PATIENCE_S, Door


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


HERE = ResolverCache(lambda _host, port: [Address(socket.AF_INET, ("127.0.0.1", port))])
NAMES = "DNS:one.example,DNS:two.example"


def calls(door: Door, tickets: TlsContextCache, ca_file: Path, host: str = "one.example") -> bool:
    """Call, listen and hang up; return whether the handshake was resumed."""
    with closing(Dialer("it", PATIENCE_S, ca_file=str(ca_file), transport=Transport(HERE, tickets))) as dial:
        line = dial.connect(f"wss://{host}:{door.port}")
        assert isinstance(line.sock, ssl.SSLSocket)
        assert line.recv(1) == b"x"
        assert line.sock.getpeercert()  # the certificate of the server stays known
        return bool(line.sock.session_reused)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_next_handshake_is_resumed_and_so_is_the_one_after_it(authority, version):
    context = authority.server(NAMES)
    context.maximum_version = version
    tickets = TlsContextCache()
    with Door(context) as door:
        assert [calls(door, tickets, authority.certificate) for _ in "1234"] == [False, True, True, True]


def test_a_ticket_that_is_refused_costs_nothing_but_a_whole_handshake(authority):
    """Another machine behind the same name, or the same one started anew, knows nothing of it."""
    tickets = TlsContextCache()
    with Door(authority.server(NAMES), authority.server(NAMES)) as door:
        assert [calls(door, tickets, authority.certificate) for _ in "123"] == [False, False, True]


def test_a_server_that_refuses_a_ticket_has_to_show_a_certificate_that_we_trust(authority, stranger):
    tickets, ours = TlsContextCache(), authority.server(NAMES)
    with Door(ours, stranger.server(NAMES), ours) as door:
        assert not calls(door, tickets, authority.certificate)
        with pytest.raises(LinkLost, match="its certificate is "):
            calls(door, tickets, authority.certificate)
        assert not calls(door, tickets, authority.certificate)  # the ticket was used: it is not shown again


def test_another_host_gets_a_handshake_of_its_own(authority):
    tickets = TlsContextCache()
    with Door(authority.server(NAMES)) as door:
        hosts = ["one.example", "two.example", "two.example", "one.example"]
        assert [calls(door, tickets, authority.certificate, host) for host in hosts] == [False, False, True, True]


def test_another_port_is_another_server(authority):
    tickets, context = TlsContextCache(), authority.server(NAMES)
    with Door(context) as door, Door(context) as other:
        assert not calls(door, tickets, authority.certificate)
        assert not calls(other, tickets, authority.certificate)
        assert calls(door, tickets, authority.certificate)


def test_another_file_of_authorities_is_another_belief(authority, tmp_path):
    """Even with the same contents: a ticket is used only with the file with which it was obtained."""
    tickets = TlsContextCache()
    copy = tmp_path / "copy.pem"
    copy.write_bytes(authority.certificate.read_bytes())
    with Door(authority.server(NAMES)) as door:
        assert not calls(door, tickets, authority.certificate)
        assert not calls(door, tickets, copy)
        assert calls(door, tickets, copy)
        assert calls(door, tickets, authority.certificate)


def test_authorities_that_were_edited_are_read_again_and_no_ticket_outlives_them(authority, stranger, tmp_path):
    tickets = TlsContextCache()
    ours = tmp_path / "ours.pem"
    ours.write_bytes(authority.certificate.read_bytes())
    with Door(authority.server(NAMES)) as door:
        assert [calls(door, tickets, ours) for _ in "12"] == [False, True]
        ours.write_bytes(stranger.certificate.read_bytes())
        with pytest.raises(LinkLost, match="its certificate is "):
            calls(door, tickets, ours)
        ours.write_bytes(stranger.certificate.read_bytes() + authority.certificate.read_bytes())
        assert [calls(door, tickets, ours) for _ in "12"] == [False, True]
        ours.unlink()
        with pytest.raises(LinkRefused, match="cannot be read"):
            calls(door, tickets, ours)


@pytest.mark.parametrize("place", ["file", "folder"])
def test_authorities_of_the_system_are_read_once_and_again_when_they_change(authority, tmp_path, monkeypatch, place):
    file, folder = tmp_path / "all.pem", tmp_path / "certs"
    file.write_bytes(authority.certificate.read_bytes())
    folder.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    tickets = TlsContextCache()
    first = tickets.context()
    assert tickets.context() is first
    if place == "file":
        os.utime(file, ns=(0, 0))
    else:
        (folder / "new.pem").touch()
    assert tickets.context() is not first


def test_a_file_that_is_of_no_use_is_said_each_time(tmp_path):
    file = tmp_path / "words.pem"
    file.write_text("my CA")
    tickets = TlsContextCache()
    for _ in "12":
        with pytest.raises(ConfigError, match="not a PEM file"):
            tickets.context(str(file))


def test_a_ticket_ends_with_the_certificate_that_it_came_with(authority, monkeypatch):
    tickets = TlsContextCache()
    with Door(authority.server(NAMES)) as door:
        assert not calls(door, tickets, authority.certificate)
        (kept,) = tickets._tickets.values()
        assert kept.until <= time.time() + ticket_office.TICKET_MAX_AGE_S
        monkeypatch.setattr(ticket_office, "_expires", lambda _tls: time.time() - 1)
        assert calls(door, tickets, authority.certificate)  # and leaves one that is old already
        assert not calls(door, tickets, authority.certificate)


def test_few_tickets_are_kept(authority):
    tickets = TlsContextCache()
    hosts = [f"{n}.example" for n in range(MAX_TLS_ENTRIES + 2)]
    with Door(authority.server(",".join(f"DNS:{host}" for host in hosts))) as door:
        for host in hosts:
            calls(door, tickets, authority.certificate, host)
        assert len(tickets._tickets) == MAX_TLS_ENTRIES
        assert calls(door, tickets, authority.certificate, hosts[-1])
        assert not calls(door, tickets, authority.certificate, hosts[0])


def test_a_connection_that_was_aborted_leaves_nothing(authority):
    tickets = TlsContextCache()
    with Door(authority.server(NAMES)) as door:
        dial = Dialer("it", PATIENCE_S, ca_file=str(authority.certificate), transport=Transport(HERE, tickets))
        dial.connect(f"wss://one.example:{door.port}")
        dial.abort()
        dial.close()
        assert not tickets._tickets
        assert not calls(door, tickets, authority.certificate)


# Ahead ----------------------------------------------------------------------------------------------------------------


def test_what_a_first_dial_needs_is_prepared_and_no_server_is_called(authority):
    asked = []
    looked_up = threading.Event()

    def ask(host: str, port: int) -> list[Address]:
        asked.append((host, port))
        looked_up.set()
        return [Address(socket.AF_INET, ("127.0.0.1", port))]

    tickets, book = TlsContextCache(), ResolverCache(ask)
    with Door(authority.server(NAMES)) as door:
        for url in (f"wss://one.example:{door.port}/v1", "ws://plain.example", "wss://127.0.0.1", "nonsense"):
            Transport(book, tickets).prepare(url, str(authority.certificate))
        assert looked_up.wait(PATIENCE_S)
        assert asked == [("one.example", door.port)]
        assert list(tickets._contexts) == [str(authority.certificate)]
        Transport(book, tickets).prepare("wss://one.example", "/nowhere/ca.pem")  # the dial will report it


def test_a_link_that_rests_prepares_for_the_first_press(authority, tmp_path, monkeypatch):
    monkeypatch.setattr("device_agent.link.policy.PREPARE_AFTER_S", 0.01)
    ours = tmp_path / "ours.pem"
    ours.write_bytes(authority.certificate.read_bytes())
    services = [Xai(url="wss://127.0.0.1:1/", ca_file=str(ours), key=Secret("k"))]
    outbox, stopping = Outbox(1 << 16), threading.Event()
    transport = Transport()
    rests = manager.LinkManager(services, outbox, PlaybackBuffer(24000), lambda _event: None, transport)
    thread = threading.Thread(target=rests.run, args=(stopping,))
    with closing(outbox):
        thread.start()
        ends = time.monotonic() + PATIENCE_S
        while str(ours) not in transport.tls._contexts and time.monotonic() < ends:
            stopping.wait(0.01)
        stopping.set()
        rests.wake()
        thread.join(PATIENCE_S)
    assert str(ours) in transport.tls._contexts
