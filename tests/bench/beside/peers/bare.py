"""The least that one could write with our own libraries: websocket-client, PyAudio's blocking calls, a thread for each.

It follows the examples of https://websocket-client.readthedocs.io and https://people.csail.mit.edu/hubert/pyaudio/, and
the guide to Realtime WebSockets at https://platform.openai.com/docs/guides/realtime-websocket. No reconnecting, no
volume, no check of anything, and what is already in the card's buffer at a press is heard.
"""

import base64
import json
import os
import queue
import signal
import sys
import threading
from contextlib import suppress

import pyaudio
import websocket

RATE = 24000
FRAME = 480  # samples, 20 ms
SETTINGS = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


class Client:
    """A microphone, a loudspeaker and a connection, each with a thread."""

    def __init__(self, ws: websocket.WebSocket) -> None:
        self.ws = ws
        self.sound = pyaudio.PyAudio()
        self.held = False
        self.replying = self.wanted = False
        self.frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def say(self, kind: str, **fields: object) -> None:
        self.ws.send(json.dumps({"type": kind, **fields}))

    def listen(self) -> None:
        """Send what the microphone hears while the button is held."""
        stream = self.sound.open(RATE, 1, pyaudio.paInt16, input=True, frames_per_buffer=FRAME)
        while True:
            frame = stream.read(FRAME, exception_on_overflow=False)
            if self.held:
                self.say("input_audio_buffer.append", audio=base64.b64encode(frame).decode())

    def play(self) -> None:
        """Play what there is."""
        stream = self.sound.open(RATE, 1, pyaudio.paInt16, output=True, frames_per_buffer=FRAME)
        while True:
            stream.write(self.frames.get())

    def receive(self) -> None:
        """Queue what the service says, in pieces that a press may come between."""
        while True:
            event = json.loads(self.ws.recv())
            match event["type"]:
                case "session.created":
                    self.say("session.update", session=SETTINGS)
                case "session.updated":
                    print("ready", flush=True)
                case "response.created":
                    self.replying = self.wanted = True
                case "response.output_audio.delta" if self.wanted:
                    pcm = base64.b64decode(event["delta"])
                    for start in range(0, len(pcm), 2 * FRAME):
                        self.frames.put(pcm[start : start + 2 * FRAME])
                case "response.done":
                    self.replying = False
                case "error":
                    print(event["error"]["message"], file=sys.stderr)

    def press(self) -> None:
        """Be silent, and begin to listen."""
        self.wanted = False
        with suppress(queue.Empty):  # not by asking whether it is empty: the loudspeaker takes from it, too
            while True:
                self.frames.get_nowait()
        if self.replying:
            self.say("response.cancel")
        self.held = True

    def release(self) -> None:
        """Ask for a reply."""
        self.held = False
        self.say("input_audio_buffer.commit")
        self.say("response.create")


def main() -> None:
    url = os.environ["BENCH_URL"] + "?model=gpt-realtime"
    ws = websocket.create_connection(url, header=[f"Authorization: Bearer {os.environ['OPENAI_API_KEY']}"])
    client = Client(ws)
    for work in (client.listen, client.play, client.receive):
        threading.Thread(target=work, daemon=True).start()
    for _line in sys.stdin:
        (client.release if client.held else client.press)()


if __name__ == "__main__":
    # A thread may be inside PortAudio, which must not be closed from here.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    main()
    os._exit(0)
