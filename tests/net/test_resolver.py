"""Name resolution, also where the name servers do not answer."""

from __future__ import annotations

import re
import socket
import threading
import time

import pytest

from device_agent.core.errors import LinkLost
from device_agent.net import resolver
from device_agent.net.resolver import (
    MAX_LOOKUPS,
    MAX_RESOLVED_NAMES,
    RESOLVED_MAX_AGE_S,
    Address,
    Lookup,
    ResolverCache,
    interleaved,
)
from tests.support.net import PATIENCE_S, Directory

V4, OTHER = Address(socket.AF_INET, ("127.0.0.1", 80)), Address(socket.AF_INET, ("127.0.0.2", 80))
V6 = Address(socket.AF_INET6, ("::1", 80, 0, 0))


def soon(seconds: float = PATIENCE_S) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(resolver, "KNOWN_NAME_WAIT_S", 0.05)
    monkeypatch.setattr(resolver, "LOOKUP_RETRY_S", 0.02)


def test_a_name_has_addresses_and_the_families_take_turns():
    found = Lookup("x", 80, ResolverCache(Directory([V6, V6, V4, OTHER]).ask)).answer(soon())
    assert found == [V6, V4, V6, OTHER] == interleaved([V6, V6, V4, OTHER])


@pytest.mark.parametrize(("number", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_a_number_is_not_looked_up(number, family):
    directory = Directory()
    (address,) = Lookup(number, 80, ResolverCache(directory.ask)).answer(soon())
    assert (address.family, *address.sockaddr[:2]) == (family, number, 80)
    assert not directory.asked.acquire(blocking=False)


def test_the_system_is_asked_aside():
    try:
        told = {found[4][:2] for found in socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)}
    except socket.gaierror as error:  # a machine without /etc/hosts
        with pytest.raises(OSError, match=re.escape(str(error.strerror))):
            Lookup("localhost", 80, ResolverCache()).answer(soon())
    else:
        assert {address.sockaddr[:2] for address in Lookup("localhost", 80, ResolverCache()).answer(soon())} == told


@pytest.mark.parametrize("name", ["a..b", "x" * 70, "", "nothing here"])
def test_what_is_no_name_is_an_error_of_the_system(name):
    with pytest.raises(OSError, match="name|Name|No address"):
        Lookup(name, 80, ResolverCache()).answer(soon())


def test_a_look_up_that_hangs_costs_no_more_than_the_patience_and_a_few_threads(hasty):
    directory = Directory()
    book = ResolverCache(directory.ask)
    for _ in range(3):
        with pytest.raises(TimeoutError, match="look-up of x does not answer"):
            Lookup("x", 80, book).answer(soon(0.15))
    with pytest.raises(TimeoutError, match=f"{MAX_LOOKUPS} earlier ones hang"):
        Lookup("y", 80, book).answer(soon(0.05))
    assert directory.waiting == MAX_LOOKUPS
    directory.say(*[[V4]] * 3, *[[OTHER]] * 2)  # they end, and there is room again
    assert Lookup("z", 80, book).answer(soon()) in ([V4], [OTHER])


def test_a_network_that_comes_back_is_asked_again(hasty):
    directory = Directory()
    inquiry = Lookup("x", 80, ResolverCache(directory.ask))
    said = threading.Thread(target=lambda: [directory.asked.acquire(timeout=PATIENCE_S) for _ in "12"] and
                            directory.say([V4]), daemon=True)  # fmt: skip
    said.start()  # to the second question, while the first hangs
    assert inquiry.answer(soon()) == [V4]
    unasked = socket.gaierror(socket.EAI_AGAIN, "nobody to ask")
    assert Lookup("y", 80, ResolverCache(Directory(unasked, unasked, [OTHER]).ask)).answer(soon()) == [OTHER]


def test_that_no_name_server_could_be_asked_is_said_in_the_end(hasty):
    with pytest.raises(socket.gaierror, match="nobody to ask"):
        Lookup(
            "x", 80, ResolverCache(Directory(*[socket.gaierror(socket.EAI_AGAIN, "nobody to ask")] * 99).ask)
        ).answer(soon(0.1))


@pytest.mark.parametrize("trouble", [None, socket.EAI_NONAME, socket.EAI_AGAIN])
def test_what_was_found_lately_is_good_enough_when_no_answer_comes(hasty, trouble):
    directory = Directory([V4])
    book = ResolverCache(directory.ask)
    assert Lookup("x", 80, book).answer(soon()) == [V4]
    if trouble is not None:
        directory.say(*[socket.gaierror(trouble, "no")] * 9)
    assert Lookup("x", 80, book).answer(soon()) == [V4]
    with pytest.raises(OSError, match="no"):
        Lookup("other", 80, book).answer(soon(0.05))


def test_a_new_answer_goes_before_an_old_one():
    directory = Directory([V4], [OTHER])
    book = ResolverCache(directory.ask)
    assert [Lookup("x", 80, book).answer(soon()) for _ in "12"] == [[V4], [OTHER]]


def test_what_was_found_long_ago_is_not_used_and_few_names_are_remembered():
    book = ResolverCache()
    book.store("x", 80, [V4], 1000.0)
    assert book.cached("x", 80, 1000.0 + RESOLVED_MAX_AGE_S) == [V4]
    assert book.cached("x", 80, 1001.0 + RESOLVED_MAX_AGE_S) == []
    for n in range(MAX_RESOLVED_NAMES):
        book.store(f"name {n}", 80, [OTHER], 1000.0)
    assert book.cached("x", 80, 1000.0) == []
    assert book.cached("name 0", 80, 1000.0) == [OTHER]


def test_what_is_known_is_told_at_once_and_news_when_there_are_some():
    book = ResolverCache(Directory([OTHER]).ask)
    book.store("x", 80, [V4], time.monotonic())
    rung = threading.Event()
    inquiry = Lookup("x", 80, book)
    assert inquiry.refresh(rung.set) == [V4]
    assert rung.wait(PATIENCE_S)
    assert inquiry.news() == inquiry.news() == inquiry.answer(soon()) == [OTHER]
    assert book.cached("x", 80, time.monotonic()) == [OTHER]


def test_a_caller_that_waits_after_all_waits_for_the_lookup_that_is_under_way():
    directory = Directory()
    book = ResolverCache(directory.ask)
    book.store("x", 80, [V4], time.monotonic())
    inquiry = Lookup("x", 80, book)
    inquiry.refresh(lambda: None)
    assert directory.asked.acquire(timeout=PATIENCE_S)
    assert inquiry.news() == []
    directory.say([OTHER])
    assert inquiry.answer(soon()) == [OTHER]
    assert not directory.asked.acquire(blocking=False)


def test_of_a_stranger_nothing_is_known_and_nothing_asked():
    directory = Directory()
    assert Lookup("x", 80, ResolverCache(directory.ask)).refresh(lambda: None) == []
    assert not directory.asked.acquire(blocking=False)


def test_a_name_is_looked_up_ahead_once_and_a_number_never():
    directory = Directory([V4])
    book = ResolverCache(directory.ask)
    book.prefetch("127.0.0.1", 80)
    book.prefetch("x", 80)
    while not (known := book.cached("x", 80, time.monotonic())):
        threading.Event().wait(0.01)
    book.prefetch("x", 80)
    assert known == [V4]
    assert directory.asked.acquire(blocking=False)
    assert not directory.asked.acquire(blocking=False)


def test_an_aborted_lookup_does_not_go_on_with_what_was_known(hasty):
    book = ResolverCache(Directory().ask)
    book.store("x", 80, [V4], time.monotonic())
    inquiry = Lookup("x", 80, book)
    inquiry.refresh(lambda: None)
    inquiry.abort()
    assert inquiry.news() == []
    with pytest.raises(LinkLost, match="aborted"):
        inquiry.answer(soon())


def test_abort_ends_the_wait():
    directory = Directory()
    inquiry = Lookup("x", 80, ResolverCache(directory.ask))
    threading.Thread(
        target=lambda: directory.asked.acquire(timeout=PATIENCE_S) and inquiry.abort(), daemon=True
    ).start()
    with pytest.raises(LinkLost, match="aborted"):
        inquiry.answer(soon())


def test_a_system_without_room_for_a_thread_is_no_crash(monkeypatch, hasty):
    def start(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(TimeoutError):
        Lookup("x", 80, ResolverCache()).answer(soon(0.05))


@pytest.mark.parametrize(
    ("place", "near"),
    [
        *[(each, True) for each in ("127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.0.9", "100.64.0.1")],
        *[(each, True) for each in ("::1", "fe80::1%lo", "fd00::1", "::ffff:192.168.1.1", "::")],
        *[(each, False) for each in ("8.8.8.8", "172.32.0.1", "100.128.0.1", "224.0.0.1", "198.18.0.1", "192.0.2.1")],
        *[
            (each, False)
            for each in ("2001:4860::1", "::ffff:8.8.8.8", "2002:808:808::", "2001:0:1::", "64:ff9b::808:808")
        ],
    ],
)
def test_plain_words_may_go_to_private_places_alone(place, near):
    assert Address(socket.AF_INET6 if ":" in place else socket.AF_INET, (place, 80)).private is near
