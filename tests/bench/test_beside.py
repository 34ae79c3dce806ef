"""The yard, in which the agent is measured beside other clients: a loose rule would flatter one of them."""

from __future__ import annotations

import base64
import json
import os
import random
import ssl
import time

import numpy as np
import pytest
from websockets.sync.client import connect

from tests.bench.beside.card import BLOCK, BLOCK_S, Ledger, Loudspeaker, noise
from tests.bench.beside.figures import Row, markdown, merge, middle, percentile, read, shown, table, write
from tests.bench.beside.service import PAUSE_S, RATE, Came, Shape, Went, frame, header, parsed, unmasked, voice
from tests.bench.beside.usage import usage
from tests.bench.beside.yard import Log, Other, lags, sounded
from tests.bench.compare import FIGURES, Found, imports, rows
from tests.support.authority import Authority


def sound(came: float, pcm: bytes) -> Came:
    return Came(came, 1, "input_audio_buffer.append", len(pcm), base64.b64encode(pcm).decode())


def given(blocks: int) -> Ledger:
    """Return a ledger of a quiet room whose block number n was given at second n."""
    ledger, pcm = Ledger(), noise().tobytes()
    for number in range(blocks):
        ledger.add(pcm[number * BLOCK : (number + 1) * BLOCK], float(number))
    return ledger


# Figures --------------------------------------------------------------------------------------------------------------


def test_a_percentile_is_a_value_that_was_measured():
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.0
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile(range(1, 101), 99) == 99
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


def test_what_was_not_measured_is_not_counted():
    assert middle([None, 3.0, 1.0, 2.0]) == 2.0
    assert middle([None, None]) is None


def test_the_best_peer_is_the_one_with_the_least_and_ours_is_compared_with_it():
    row = Row("CPU", "s", 1.0, {"a": 4.0, "b": 2.0, "c": None})
    assert row.best == 2.0
    assert row.ratio == 0.5
    assert Row("CPU", "s", None, {"a": 4.0}).ratio is None
    assert Row("CPU", "s", 1.0, {"c": None}).ratio is None
    assert Row("CPU", "s", 1.0, {"a": 0.0}).ratio is None


def test_numbers_have_three_digits_that_count():
    assert [shown(value) for value in (0.04123, 1.2345, 45.67, 789.4, 12345.0, 0.0, None, 9.999)] == [
        "0.0412", "1.23", "45.7", "789", "12300", "0", "-", "10.00",
    ]  # fmt: skip


def test_a_table_has_a_column_for_each_peer_of_any_row():
    some = [Row("first", "ms", 1.0, {"a": 2.0}), Row("second", "MB", 3.0, {"b": None}, limit=1.0, note="why not")]
    lines = table(some).splitlines()
    assert lines[0].split() == ["figure", "unit", "ours", "a", "b", "ours", "/", "best", "limit"]
    assert lines[1].split() == ["first", "ms", "1.00", "2.00", "-", "0.500", "-"]
    assert lines[2].split() == ["second", "MB", "3.00", "-", "-", "-", "1.00"]
    assert lines[-1] == "  second: why not"
    assert markdown(some).splitlines()[2] == "| first | ms | 1.00 | 2.00 | - | 0.500 | - |"


def test_rows_are_the_same_after_a_file(tmp_path):
    kept = [Row("first", "ms", 1.25, {"a": None, "b": 2.0}, 0.5, 7, "a note")]
    write(tmp_path / "rows.json", kept, {"cores": 2})
    assert read(tmp_path / "rows.json") == ({"cores": 2}, kept)


def test_a_later_part_adds_to_an_earlier_one_and_takes_nothing_away():
    before = [Row("first", "ms", 1.0, {"a": 2.0, "b": None}, n=3), Row("second", "ms", 5.0)]
    after = [Row("first", "ms", None, {"b": 4.0, "a": None, "c": None}, n=2), Row("third", "ms", 6.0)]
    assert merge(before, after) == [
        Row("first", "ms", 1.0, {"a": 2.0, "b": 4.0, "c": None}, n=3),
        Row("second", "ms", 5.0),
        Row("third", "ms", 6.0),
    ]


# What was given, and what came ----------------------------------------------------------------------------------------


def test_a_message_is_as_late_as_its_last_sample():
    ledger = given(50)
    messages = [
        sound(12.5, bytes(ledger.given[10 * BLOCK : 13 * BLOCK])),
        sound(13.25, bytes(ledger.given[13 * BLOCK : 14 * BLOCK])),
    ]
    assert lags(ledger, messages) == ([0.5, 0.25], 0)


def test_a_message_need_not_begin_where_a_block_does():
    ledger = given(50)
    assert lags(ledger, [sound(12.5, bytes(ledger.given[10 * BLOCK + 200 : 11 * BLOCK + 200]))]) == ([1.5], 0)


def test_one_sample_that_differs_is_not_what_was_given():
    ledger = given(50)
    pcm = bytearray(ledger.given[10 * BLOCK : 11 * BLOCK])
    pcm[500] ^= 1
    assert lags(ledger, [sound(12.0, bytes(pcm)), sound(12.0, b"")]) == ([], 2)


def test_nothing_is_found_before_what_came_earlier():
    ledger = given(50)
    late, early = bytes(ledger.given[20 * BLOCK : 21 * BLOCK]), bytes(ledger.given[10 * BLOCK : 11 * BLOCK])
    assert lags(ledger, [sound(21.0, late), sound(21.0, early)]) == ([1.0], 1)


def test_what_was_given_before_is_not_looked_at():
    ledger = given(50)
    assert ledger.place(19.5) == 20 * BLOCK
    early = sound(30.0, bytes(ledger.given[10 * BLOCK : 11 * BLOCK]))
    assert lags(ledger, [early], ledger.place(19.5)) == ([], 1)


def test_half_a_sample_is_no_place_to_be_found_at():
    ledger = Ledger()
    ledger.add(bytes([1, 2, 3, 4, 5, 6, 2, 3]) + bytes(BLOCK - 8), 0.0)
    assert ledger.find(bytes([4, 5])) is None
    assert ledger.find(bytes([2, 3])) == 8  # and not where it is first
    assert ledger.find(bytes([1, 2])) == 2


def test_no_two_blocks_of_a_minute_are_alike():
    pcm = noise().tobytes()
    blocks = {pcm[start : start + BLOCK] for start in range(0, len(pcm), BLOCK)}
    assert len(blocks) == len(pcm) / BLOCK > 60 / BLOCK_S


# What was heard -------------------------------------------------------------------------------------------------------


def test_a_reply_sounds_when_its_first_sample_does():
    wave = bytes(2 * 1200) + voice(3, 0.5) + bytes(2 * 1200)
    log = Log(went=[Went(100.01, 100.02, 1, 3, 0, 2400), Went(100.02, 100.03, 1, 3, 2400, 2400)])
    assert sounded(Loudspeaker(100.0, wave), log, 3) == pytest.approx(0.04)
    assert sounded(Loudspeaker(100.0, wave), log, 4) is None
    assert sounded(Loudspeaker(100.0, bytes(len(wave))), log, 3) is None


def test_the_beginning_of_a_reply_does_not_depend_on_how_long_it_is():
    assert voice(5, 2.0).startswith(voice(5, 0.1))
    assert voice(6, 0.1) != voice(5, 0.1)
    assert np.all(np.frombuffer(voice(5, 2.0), np.int16) != 0)


def test_silence_begins_behind_the_last_sample_before_a_gap():
    wave = voice(1, 0.5) + bytes(2 * RATE // 2) + voice(2, 0.5)
    heard = Loudspeaker(10.0, wave)
    assert heard.silent(10.2) == pytest.approx(10.5)
    assert heard.silent(10.6) is None  # it was silent already
    assert Loudspeaker(10.0, wave + bytes(RATE)).silent(10.6) is None  # whatever comes later
    assert heard.silent(11.2) is None  # unknown: the recording ends with the sound
    assert heard.longest_gap(10.0, 11.5) == pytest.approx(0.5)
    assert heard.longest_gap(10.0, 10.5) == 0.0


# The service ----------------------------------------------------------------------------------------------------------


def test_pieces_come_at_their_pace_late_by_the_jitter_and_in_order():
    chance = random.Random(1)
    assert Shape(seconds=0.3, think_s=0.1).schedule(chance) == pytest.approx([0.1, 0.1, 0.1])
    assert Shape(seconds=0.3, pace=2, think_s=0.1).schedule(chance) == pytest.approx([0.1, 0.15, 0.2])
    late = Shape(seconds=5.0, pace=1, jitter_ms=300, think_s=0.0).schedule(chance)
    assert late == sorted(late)
    assert all(0 <= at - 0.1 * number <= 0.3 for number, at in enumerate(late))
    assert max(at - 0.1 * number for number, at in enumerate(late)) > 0.2


def test_a_frame_is_read_when_all_of_its_head_is_there():
    payload, mask = b'{"type":"x"}' * 20, b"abcd"
    masked = unmasked(payload, mask)
    whole = bytearray(bytes([0x81, 0x80 | 126]) + len(payload).to_bytes(2, "big") + mask + masked)
    assert header(whole[:3]) is None
    assert header(whole) == (0x81, 8, len(payload))
    assert unmasked(masked, mask) == payload
    with pytest.raises(ValueError, match="masks"):
        header(bytearray(frame(b"as a server")))


def test_the_sound_of_a_message_is_found_whatever_its_order():
    event = json.dumps({"audio": "AAAA", "type": "input_audio_buffer.append"}).encode()
    assert parsed(1.0, 2, b"abcd", unmasked(event, b"abcd")) == Came(
        1.0, 2, "input_audio_buffer.append", len(event), "AAAA"
    )


def test_the_service_answers_a_turn_and_keeps_the_times():
    with Other() as other:
        other.replies(Shape(seconds=0.2, think_s=0.0))
        began = time.monotonic()
        with connect(other.url, compression=None) as client:
            assert json.loads(client.recv())["type"] == "session.created"
            client.send(json.dumps({"type": "session.update", "session": {"audio": {"input": {}}}}))
            assert json.loads(client.recv())["type"] == "session.updated"
            client.send(json.dumps({"audio": "A" * 1280, "type": "input_audio_buffer.append"}))
            client.send(json.dumps({"type": "input_audio_buffer.commit"}))
            client.send(json.dumps({"type": "response.create"}))
            events = []
            while not events or events[-1]["type"] != "response.done":
                events.append(json.loads(client.recv(timeout=20)))
        said = b"".join(base64.b64decode(each["delta"]) for each in events if each["type"].endswith("audio.delta"))
        assert said == voice(1, 0.2)
        heard, committed = other.happened("heard", began), other.happened("committed", began)
        log = other.log()
        assert [each.type.partition(".")[2] for each in log.came] == ["update", "append", "commit", "create"]
        assert [(each.first, each.count) for each in log.went] == [(0, 2400), (2400, 2400)]
        assert began < heard.at <= committed.at < log.went[0].at <= log.went[0].done
        assert other.log().came == []


def test_a_frame_behind_the_end_of_its_turn_does_not_hide_the_next_turn():
    append = json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 1280})
    with Other() as other:
        other.replies(Shape(seconds=0.1, think_s=2 * PAUSE_S))
        with connect(other.url, compression=None) as client:
            client.send(json.dumps({"type": "input_audio_buffer.commit"}))
            client.send(append)
            client.send(json.dumps({"type": "response.create"}))
            while json.loads(client.recv(timeout=20))["type"] != "response.done":
                pass
            pressed = time.monotonic()
            client.send(append)
            assert other.happened("heard", pressed, 5.0).at > pressed


def test_the_service_speaks_tls(tmp_path):
    authority = Authority(tmp_path / "authority")
    (tmp_path / "both.pem").write_text("".join(path.read_text() for path in authority.issue()))
    trust = ssl.create_default_context(cafile=str(authority.certificate))
    with Other("--cert", str(tmp_path / "both.pem")) as other:
        other.replies(Shape(seconds=0.3, think_s=0.0))
        with connect(other.url, ssl=trust, compression=None) as client:
            client.send(json.dumps({"type": "response.create"}))
            kinds: list[str] = []
            while not kinds or kinds[-1] != "response.done":
                kinds.append(json.loads(client.recv(timeout=20))["type"])
        assert kinds.count("response.output_audio.delta") == 3


# The bench ------------------------------------------------------------------------------------------------------------


def test_the_kernel_tells_what_a_process_has_used():
    before = usage(os.getsid(0))
    assert os.getpid() in before.tasks
    assert before.rss > before.pss > 0
    assert usage(os.getsid(0), memory=False).rss == 0


def test_imports_are_added_up_however_deep():
    text = "import time: self [us] | cumulative | imported package\nimport time:       100 |        100 |   a\n"
    assert imports(text + "WARNING something else\nimport time:      1900 |       2000 | b\n") == 2.0


def test_a_figure_that_no_client_has_is_no_row_and_one_that_a_client_lacks_is_none():
    found = {"ours": Found(), "a": Found(), "b": Found()}
    for value in (3.0, 1.0, 2.0):
        found["ours"].add(ready=value)
    found["a"].add(ready=4.0)
    (row,) = rows(found, {"ready": 0.5})
    assert (row.ours, row.peers, row.limit, row.n) == (2.0, {"a": 4.0, "b": None}, 0.5, 3)


def test_no_two_rows_have_one_name():
    assert len({figure.title for figure in FIGURES}) == len(FIGURES)
