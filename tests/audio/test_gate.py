"""Which frames are a turn. Frames are one byte here: "s" is speech, "." is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.audio.gate import (
    ATTACK_FRAMES,
    ATTACK_WINDOW_FRAMES,
    MAX_TURN_FRAMES,
    NO_SPEECH_TIMEOUT_FRAMES,
    RELEASE_TAIL_FRAMES,
    EchoPresence,
    Gate,
    GatePolicy,
)
from device_agent.core.actions import GateMode
from device_agent.core.events import NoSpeech, TalkEnded, TalkStarted

SILENCE, PREROLL = 10, 4


def gate(attention: GateMode = GateMode.BUTTON, *, device_ends: bool = True) -> Gate:
    made = Gate(lambda frame: frame in b"sS", GatePolicy(SILENCE, PREROLL, device_ends))
    made.set_mode(attention)
    return made


def hear(gate: Gate, sound: str, own: EchoPresence = EchoPresence.NONE) -> str:
    """Feed *sound*, maybe our *own*; return what goes up: < for TalkStarted, > for TalkEnded, x for NothingSaid."""
    words = {TalkStarted: "<", TalkEnded: ">", NoSpeech: "x"}
    up = [item for frame in sound for item in gate.feed(frame.encode(), own)]
    return "".join(item.decode() if isinstance(item, bytes) else words[type(item)] for item in up)


def test_a_closed_gate_lets_nothing_through():
    assert hear(gate(), "sssssssssssss.....ssss") == ""


def test_held_the_button_frames_the_turn_with_a_little_before_and_after():
    g = gate()
    hear(g, "abcdef")
    g.press()
    during = hear(g, "s" * 20)
    g.release()
    after = hear(g, "123456789")
    assert during == "<cdef" + "s" * 20
    assert after == "123456"[: RELEASE_TAIL_FRAMES + 1] + ">"


def test_silence_does_not_end_a_turn_while_the_button_is_held():
    g = gate()
    g.press()
    assert ">" not in hear(g, "s" * 20 + "." * 500)


def test_tapped_the_turn_lasts_until_the_user_is_silent():
    g = gate()
    g.press()
    hear(g, ".")
    g.release(tapped=True)
    assert hear(g, "..sssssss..sss" + "." * 30) == "..sssssss..sss" + "." * SILENCE + ">"


def test_a_press_shorter_than_a_frame_still_counts():
    g = gate()
    g.press()
    g.release(tapped=True)
    assert hear(g, ".ssssss").startswith("<.")


def test_a_tap_that_we_hear_of_late_is_a_tap():
    g = gate()
    g.press()
    hear(g, "." * 100)
    g.release(tapped=True)
    assert hear(g, "." * 20 + "s" * 20) == "." * 20 + "s" * 20


def test_a_button_that_was_held_before_we_heard_of_it_ends_its_turn():
    g = gate()
    g.press()
    g.release()
    assert hear(g, "s" * 20).endswith(">")


def test_a_tap_that_no_speech_follows_is_forgotten():
    g = gate()
    g.press()
    g.release(tapped=True)
    assert hear(g, "." * 2 * NO_SPEECH_TIMEOUT_FRAMES) == "<" + "." * (NO_SPEECH_TIMEOUT_FRAMES + 1) + "x"


def test_a_click_after_a_tap_is_no_speech_and_a_syllable_is():
    click, syllable = gate(), gate()
    for g in (click, syllable):
        g.press()
        g.release(tapped=True)
    assert hear(click, "." + "s" * (ATTACK_FRAMES - 1) + "." * NO_SPEECH_TIMEOUT_FRAMES).endswith("x")
    assert hear(syllable, "." + "s" * ATTACK_FRAMES + "." * NO_SPEECH_TIMEOUT_FRAMES).endswith(">")


def test_a_held_button_is_believed_even_when_the_speech_was_not_recognised():
    g = gate()
    g.press()
    hear(g, "." * 21)
    g.release()
    assert hear(g, "." * 10).endswith(">")


def test_speech_opens_a_gate_that_listens_a_little_in_the_past():
    up = hear(gate(GateMode.VOICE), "abcdefghijklmno" + "s" * ATTACK_FRAMES)
    assert up == "<" + ("abcdefghijklmno" + "s" * ATTACK_FRAMES)[-(PREROLL + ATTACK_WINDOW_FRAMES) :]


def test_a_click_is_no_speech():
    assert hear(gate(GateMode.VOICE), "..s...." * 10 + "ss...." * 10) == ""


def test_a_breath_between_two_words_does_not_end_the_turn():
    up = hear(gate(GateMode.VOICE), "s" * 20 + "." * (SILENCE - 1) + "s" * 5 + "." * 20)
    assert up.count("<") == up.count(">") == 1


def test_the_wait_for_more_speech_is_told():
    g = gate(GateMode.VOICE)
    ended = [item for frame in "s" * 20 + "." * 20 for item in g.feed(frame.encode()) if isinstance(item, TalkEnded)]
    assert ended == [TalkEnded(silence=SILENCE * 0.02)]


def test_to_our_own_voice_the_gate_is_deaf_and_keeps_nothing_of_it_but_obeys_the_button():
    g = gate(GateMode.VOICE)
    hear(g, "s")
    assert hear(g, "s" * 50, EchoPresence.ACTIVE) == ""
    g.press()
    assert hear(g, "S") == "<S"


def test_a_press_while_our_own_voice_sounds_begins_with_the_frame_of_the_press():
    g = gate()
    hear(g, "ss", EchoPresence.ACTIVE)
    g.press()
    assert hear(g, "S", EchoPresence.ACTIVE) == "<S"


def test_while_our_voice_dies_away_a_first_syllable_is_kept_although_no_speech_counts():
    g = gate(GateMode.VOICE)
    hear(g, "s" * 50, EchoPresence.ACTIVE)
    assert hear(g, "s" * 50 + "S", EchoPresence.TAIL) == ""
    g.press()
    assert hear(g, "S") == "<" + "s" * (PREROLL - 1) + "SS"


def test_our_own_voice_is_not_the_speech_of_the_user_after_a_tap():
    g = gate()
    g.press()
    g.release(tapped=True)
    assert hear(g, "." * 21 + "s" * NO_SPEECH_TIMEOUT_FRAMES, EchoPresence.ACTIVE).endswith("x")


def test_what_was_heard_before_a_pause_is_no_preroll_after_it():
    g = gate(GateMode.VOICE)
    hear(g, "ss..s")
    assert list(g.finish()) == []
    g.press()
    assert hear(g, "S") == "<S"


def test_what_went_up_is_no_preroll_of_the_next_turn():
    g = gate()
    for up in ("<ab>", "<cd>"):
        g.press()
        begin, end = up[1:3]
        hear(g, begin)
        g.close()
        assert hear(g, end) == end + ">"
    g.press()
    assert hear(g, "e") == "<e"


@pytest.mark.parametrize("between", ["a pause", "our own voice", "nobody listens", "other ears"])
def test_half_a_syllable_before_and_half_after_are_no_speech(between):
    g = gate(GateMode.VOICE)
    assert hear(g, "s" * (ATTACK_FRAMES - 1)) == ""
    match between:
        case "a pause":
            assert list(g.finish()) == []
        case "our own voice":
            hear(g, "s", EchoPresence.TAIL)
        case "nobody listens":
            g.set_mode(GateMode.BUTTON)
            hear(g, "s")
            g.set_mode(GateMode.VOICE)
        case "other ears":
            g.tune(None, GatePolicy(SILENCE, PREROLL))
    assert hear(g, "s" * (ATTACK_FRAMES - 1)) == ""
    assert hear(g, "s").startswith("<")


def test_when_the_service_ends_turns_the_gate_waits_to_be_closed():
    g = gate(GateMode.VOICE, device_ends=False)
    assert ">" not in hear(g, "s" * 20 + "." * 200)
    g.close()
    assert hear(g, "abc") == "a>"


def test_closing_a_closed_gate_does_not_close_the_next_turn():
    g = gate()
    g.close()
    hear(g, "...")
    g.press()
    assert hear(g, "ss") == "<...ss"


def test_a_press_cancels_a_close_that_did_not_happen_yet():
    g = gate(GateMode.VOICE)
    hear(g, "s" * 20)
    g.close()
    g.press()
    assert hear(g, "s" * 20) == "s" * 20


def test_a_turn_has_a_longest_length():
    g = gate()
    g.press()
    assert hear(g, "s" * (MAX_TURN_FRAMES + 50)) == "<" + "s" * (MAX_TURN_FRAMES + 1) + ">"


def test_a_recording_that_ends_in_the_middle_of_a_turn_ends_it():
    g = gate(GateMode.VOICE)
    hear(g, "s" * 20)
    assert list(g.finish()) == [TalkEnded(0.0)]
    assert list(g.finish()) == []


HANDS = st.lists(st.sampled_from(["press", "release", "close", "voice", "button", "s", "S", "."]), max_size=300)


@given(HANDS, st.booleans())
def test_markers_frame_the_sound_whatever_the_hands_do(hands, device_ends):
    g = gate(device_ends=device_ends)
    up = ""
    for hand in hands:
        if hand in "sS.":
            up += hear(g, hand, EchoPresence.ACTIVE if hand == "S" else EchoPresence.NONE)
        elif hand in {"voice", "button"}:
            g.set_mode(GateMode(hand))
        else:
            getattr(g, hand)()
    is_open = False
    for item in up:
        assert (item == "<") != is_open  # a turn begins with its marker, and sound is only in turns
        is_open = item not in ">x"


# Other rules ----------------------------------------------------------------------------------------------------------


def test_from_the_next_turn_on_other_rules_hold():
    g = gate(GateMode.VOICE)
    g.tune(None, GatePolicy(3, 1))
    assert hear(g, "abcdefghijkl" + "s" * ATTACK_FRAMES) == "<" + "ijkl" + "s" * ATTACK_FRAMES, "preroll and the window"
    assert hear(g, "...ss") == "...>"


def test_other_rules_keep_what_was_just_heard():
    g = gate()
    hear(g, "abc")
    g.tune(None, GatePolicy(3, 3))
    g.press()
    assert hear(g, "d") == "<abcd"


def test_a_turn_that_is_open_ends_by_the_rules_it_began_with():
    g = gate(GateMode.VOICE)
    hear(g, "s" * 20)
    g.tune(lambda frame: frame == b"!", GatePolicy(3, 1))
    assert hear(g, "." * (SILENCE - 1)) == "." * (SILENCE - 1)
    assert hear(g, "s") == "s"
    assert hear(g, "." * SILENCE).endswith(">")
    assert hear(g, "s" * 20) == "", "who is heard by other ears is no speech any more"
    assert hear(g, "!" * 20).startswith("<")


def test_it_shows_when_the_user_may_be_about_to_speak():
    g = gate(GateMode.VOICE)
    assert not g.engaged
    hear(g, "..s")
    assert g.engaged
    hear(g, "." * ATTACK_WINDOW_FRAMES)
    assert not g.engaged
    g.press()
    assert g.engaged
    hear(g, ".")
    assert g.engaged
    g.close()
    hear(g, ".")
    assert not g.engaged


def test_of_two_edits_in_a_row_the_last_one_counts():
    g = gate(GateMode.VOICE)
    g.tune(lambda frame: frame == b"!", GatePolicy(3, 1))
    g.tune(None, GatePolicy(4, 1))
    hear(g, ".")
    hear(g, "s" * 20)
    assert hear(g, "....") == "....>"
