"""A press while nothing is connected: when does the service have the first sound of it, and where did the time go?

Everything is real but the distance: our program and the openai package's client, each in a network namespace with a
link of 40 ms round trip to the service in another one, over which every packet has to go, the question to the name
server and the greeting of TCP among them. The link is two TUN devices with a program in between that holds each packet
for half of the round trip. TLS is TLS 1.3 with a certificate of a CA that stands among those of the system.

The *limit* is what is left when computing takes no time: one round trip for TCP, one for TLS, one for the upgrade, and
half of one for the sound itself. There is no less: Python's ssl has no early data, a WebSocket may not be used before
it is accepted (RFC 6455, 4.1), and with TCP Fast Open an address without a server would win the race. TLS 1.2
costs another one the first time, and none once there is a ticket. So does a name that has to be looked up, and a
service that wants its settings confirmed before it hears a word (xAI).

Where namespaces or TUN devices cannot be made, nothing is measured: a proxy between two sockets could hold back bytes,
but neither a greeting nor a question.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from tests.bench.beside.figures import Row, machine, percentile, table
from tests.bench.faults import SERVICE, SPEAKER, Names, ip, over_there
from tests.support.authority import Authority

RATE = 24000
HOST = "speaker.test"
PATIENCE_S = 20.0
PREPARED_S = 4.0
"""How long a client has after its start before the first press."""
TALK_S, REST_S = 0.15, 0.35
"""How long a press lasts after its sound has arrived, and how long it is quiet before the next one."""
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


# The link -------------------------------------------------------------------------------------------------------------


class Distance:
    """Two TUN devices, *here* and there, and a thread that carries packets, each *half_s* after it was sent."""

    def __init__(self, half_s: float) -> None:
        self.half_s = half_s
        self._here = _tun("wlan0")
        with over_there():
            self._there = _tun("ap0")
        self._stopping, self._rope = os.pipe()
        self.asked: deque[float] = deque(maxlen=64)
        """When a name was asked for, on this side."""
        self.greeted: deque[float] = deque(maxlen=64)
        """When TCP sent a greeting, on this side."""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Distance:
        for name, ours, theirs, where in (("wlan0", SPEAKER, SERVICE, ()), ("ap0", SERVICE, SPEAKER, ("-n", "net"))):
            ip(*where, "addr", "add", ours, "peer", theirs, "dev", name)
            ip(*where, "link", "set", name, "up")
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        os.write(self._rope, b".")
        self._thread.join(PATIENCE_S)
        for each in (self._here, self._there, self._stopping, self._rope):
            os.close(each)

    def _run(self) -> None:
        ways: list[tuple[int, int, deque[tuple[float, bytes]]]] = [
            (self._here, self._there, deque()),
            (self._there, self._here, deque()),
        ]
        while True:
            due = min((queue[0][0] for _, _, queue in ways if queue), default=None)
            wait = None if due is None else max(0.0, due - time.monotonic())
            ready, _, _ = select.select([self._here, self._there, self._stopping], [], [], wait)
            if self._stopping in ready:
                return
            now = time.monotonic()
            for comes, goes, queue in ways:
                if comes in ready:
                    packet = os.read(comes, 65536)
                    queue.append((now + self.half_s, packet))
                    if comes == self._here:
                        self._note(packet, now)
                while queue and queue[0][0] <= now:
                    with suppress(OSError):  # the other side is gone
                        os.write(goes, queue.popleft()[1])

    def _note(self, packet: bytes, now: float) -> None:
        if packet[0] >> 4 != 4:
            return
        inner = packet[4 * (packet[0] & 15) :]
        if packet[9] == socket.IPPROTO_UDP and inner[2:4] == b"\0\x35":
            self.asked.append(now)
        elif packet[9] == socket.IPPROTO_TCP and inner[13] & 0x12 == 0x02:
            self.greeted.append(now)


def _tun(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


@contextmanager
def namespaces() -> Iterator[None]:
    """Make the other namespace, and a name server as the only source of names; we live in one of our own already."""
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    Path("/run/netns").mkdir()
    ip("link", "set", "lo", "up")
    ip("netns", "add", "net")
    ip("-n", "net", "link", "set", "lo", "up")
    for file, text in (("/etc/resolv.conf", f"nameserver {SERVICE}\n"), ("/etc/nsswitch.conf", "hosts: dns\n")):
        ours = Path(tempfile.mkdtemp(dir="/run"), "file")
        ours.write_text(text)
        subprocess.run(["mount", "--bind", str(ours), file], check=True)
    yield


# The service ----------------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """One connection: the moments at which the service had what (``time.monotonic``), 0.0 before."""

    accepted: float = 0.0
    secured: float = 0.0
    asked: float = 0.0
    """The request for an upgrade."""
    settings: float = 0.0
    sound: float = 0.0
    resumed: bool = False


class Service:
    """Greets, confirms the settings, and listens; hangs up when a turn ends. Any thread may call anything."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server((SERVICE, 0))
        self.port = self._listener.getsockname()[1]
        self._changed = threading.Condition()
        self._calls: list[Call] = []

    def __enter__(self) -> Service:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def heard(self, since: float) -> Call:
        """Wait for the first sound over a connection that was made *since*; return it."""

        def found() -> Call | None:
            return next((call for call in self._calls if call.accepted >= since and call.sound), None)

        with self._changed:
            call = self._changed.wait_for(found, PATIENCE_S)
        if call is None:
            raise RuntimeError("no sound arrived at the service")
        return call

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                call = Call(accepted=time.monotonic())
                with self._changed:
                    self._calls.append(call)
                    del self._calls[:-8]
                threading.Thread(target=self._serve, args=(sock, call), daemon=True).start()

    def _serve(self, sock: socket.socket, call: Call) -> None:
        sock.settimeout(PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError, ConnectionError), sock, self._context.wrap_socket(sock, server_side=True) as tls:
            call.secured, call.resumed = time.monotonic(), bool(tls.session_reused)
            stream = tls.makefile("rb")
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += stream.readline() or b"\r\n\r\n"
            call.asked = time.monotonic()
            key = next(line[19:] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))
            accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
            created = _frame({"type": "session.created", "session": {"id": "s", "type": "realtime"}})
            tls.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + created
            )
            self._listen(call, tls, stream.read)

    def _listen(self, call: Call, tls: ssl.SSLSocket, read: Callable[[int], bytes]) -> None:
        while message := _message(read):
            if b'"session.update"' in message[:64]:
                call.settings = time.monotonic()
                tls.sendall(_frame({"type": "session.updated", "session": {"id": "s", "type": "realtime"}}))
            elif b"audio_buffer.append" in message[:64] and not call.sound:
                with self._changed:
                    call.sound = time.monotonic()
                    self._changed.notify_all()
            elif b"audio_buffer.clear" in message[:64] or b"audio_buffer.commit" in message[:64]:
                tls.sendall(b"\x88\x02\x03\xe8")
                return


def _frame(event: object) -> bytes:
    data = json.dumps(event).encode()
    return bytes([0x81, len(data)]) + data


def _message(read: Callable[[int], bytes]) -> bytes:
    """Return the next text, b"" at the end."""
    while True:
        head = read(2)
        if len(head) < 2 or head[0] & 15 == 8:
            return b""
        size = head[1] & 127
        if size > 125:
            size = int.from_bytes(read(2 if size == 126 else 8), "big")
        mask = read(4)
        data = np.frombuffer(read(size), np.uint8)
        text = (data ^ np.resize(np.frombuffer(mask, np.uint8), size)).tobytes()
        if head[0] & 15 == 1:
            return text


# The clients ----------------------------------------------------------------------------------------------------------

CONFIG = """
service:
  name: {service}
  url: {url}
talk:
  silence_ms: 5000
microphone:
  device: wav:{microphone}
speaker:
  device: wav:{speaker}
button:
  pin:
light:
  pin:
cues:
  volume: 0
"""


def quiet_room(path: Path, seconds: float) -> None:
    """Write so many *seconds* of the noise of a room."""
    noise = np.random.default_rng(7).integers(-3, 4, round(seconds * RATE)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(noise.tobytes())


class Client:
    """A program that a line on its input presses, and the next one releases."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], ready: str) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._process = subprocess.Popen(command, env={**os.environ, **env}, text=True, **pipes)  # type: ignore[call-overload]
        self._ready = threading.Event()
        self.said: deque[str] = deque(maxlen=40)
        self._reader = threading.Thread(target=self._read, args=(ready,), daemon=True)

    def __enter__(self) -> Client:
        self._reader.start()
        if not self._ready.wait(PATIENCE_S):
            raise RuntimeError("not ready: " + "".join(self.said))
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        self._process.kill()
        self._process.wait()

    def type(self) -> float:
        """Press or release; return when."""
        now = time.monotonic()
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return now

    def _read(self, ready: str) -> None:
        for line in self._process.stdout:
            self.said.append(line)
            if ready in line:
                self._ready.set()


STEPS = ("look-up", "TCP", "TLS", "upgrade", "settings", "sound")


@dataclass
class Press:
    """What one press took, in ms: all of it, and its steps."""

    whole: float
    steps: dict[str, float]
    asked: bool
    """A name was looked up before TCP's greeting."""
    resumed: bool


def presses(client: Client, service: Service, distance: Distance, count: int) -> Iterator[Press]:
    time.sleep(PREPARED_S)
    for _ in range(count):
        time.sleep(REST_S)
        distance.asked.clear()
        distance.greeted.clear()
        began = client.type()
        call = service.heard(began)
        greeted = distance.greeted[0]
        moments = [began, greeted, call.accepted, call.secured, call.asked, call.settings, call.sound]
        steps = {
            name: 1000 * (after - before) for name, before, after in zip(STEPS, moments, moments[1:], strict=False)
        }
        asked = bool(distance.asked) and distance.asked[0] + 2 * distance.half_s <= greeted
        yield Press(1000 * (call.sound - began), steps, asked, call.resumed)
        time.sleep(TALK_S)
        client.type()


def round_trip(service: Service) -> float:
    """Return how long the link takes, in ms: the median of what TCP needs to greet."""
    times = []
    for _ in range(20):
        began = time.monotonic()
        socket.create_connection((SERVICE, service.port)).close()
        times.append(1000 * (time.monotonic() - began))
    return median(times)


def measure(half_s: float, count: int, folder: Path, *, old: bool) -> list[Row]:
    authority = Authority(folder / "authority")
    trusted = folder / "trusted.pem"
    known = ssl.get_default_verify_paths().cafile
    trusted.write_bytes((Path(known).read_bytes() if known else b"") + authority.certificate.read_bytes())
    quiet_room(folder / "room.wav", 60 + 2 * count)
    shown = authority.server(f"DNS:{HOST}")
    if old:
        shown.maximum_version = ssl.TLSVersion.TLSv1_2
    with namespaces(), Distance(half_s) as distance:
        with over_there():
            service, names = Service(shown), Names()
        with service, names:
            url = f"wss://{HOST}:{service.port}/v1/realtime"
            env = {"SSL_CERT_FILE": str(trusted), "BENCH_URL": url, "STATE_DIRECTORY": str(folder)}
            env |= {"OPENAI_API_KEY": "sk-bench", "XAI_API_KEY": "xai-bench", "OPENBLAS_NUM_THREADS": "1"}
            least = round_trip(service)
            found = {}
            for name, command, ready in clients(folder, url):
                with Client(command, env, ready) as client:
                    try:
                        found[name] = list(presses(client, service, distance, count))
                    except RuntimeError as error:
                        raise RuntimeError(f"{name}: {error}\n{''.join(client.said)}") from error
                print(f"{name}: {summary(found[name])}", flush=True)
    return rows(found, least)


OURS, WAITING, PACKAGE = "ours", "ours, waiting", "openai_push_to_talk"


def clients(folder: Path, url: str) -> Iterator[tuple[str, list[str], str]]:
    for name, service in ((OURS, "openai"), (WAITING, "xai")):
        config = folder / f"{service}.yaml"
        files = {"microphone": folder / "room.wav", "speaker": folder / f"{service}.wav"}
        config.write_text(CONFIG.format(service=service, url=url, **files))
        yield name, [sys.executable, "-m", "device_agent", "run", "--config", str(config)], "ready: frames of"
    yield PACKAGE, [sys.executable, str(Path(__file__).parent / "beside" / "cold_openai.py")], "ready"


def summary(found: Sequence[Press]) -> str:
    steps = ", ".join(f"{step} {median(press.steps[step] for press in found):.1f}" for step in STEPS)
    return (
        f"median {median(press.whole for press in found):.1f} ms ({steps}); first {found[0].whole:.1f};"
        f" worst {max(press.whole for press in found):.1f}; of {len(found)},"
        f" {sum(press.asked for press in found)} waited for a name, {sum(press.resumed for press in found)} resumed TLS"
    )


WAYS = {"look-up": 0.0, "TCP": 1.5, "TLS": 1.0, "upgrade": 0.0, "settings": 1.0, "sound": 0.0}
"""How many round trips a step takes at the least, as the service sees it: TCP's third packet travels with the beginning
of TLS, the end of TLS with the request, and the settings with the sound."""


def rows(found: Mapping[str, Sequence[Press]], least: float) -> list[Row]:
    whole = {name: [press.whole for press in each] for name, each in found.items()}
    what = "cold press to the first sound at the service"
    count = len(whole[OURS])
    limit = least * sum(WAYS.values())
    made = [
        Row(f"{what}, {title}", "ms", take(whole[OURS]), {PACKAGE: take(whole[PACKAGE])}, limit, count, note)
        for title, take, note in (
            ("median", median, f"{least:.1f} ms round trip; the package's client has no sound card to open"),
            ("99 %", lambda values: percentile(values, 99), ""),
        )
    ]
    made.append(
        Row(f"{what}, the first after the start", "ms", whole[OURS][0], {PACKAGE: whole[PACKAGE][0]}, limit, 1, "")
    )
    for step in STEPS:
        ours, theirs = (median(press.steps[step] for press in found[name]) for name in (OURS, PACKAGE))
        note = NOTES.get(step, "")
        made.append(Row(f"- of it {step}", "ms", ours, {PACKAGE: theirs}, least * WAYS[step], count, note))
    note = "settings confirmed before the first sound, as xAI wants it; the package's client knows no such service"
    for title, take in (("median", median), ("99 %", lambda values: percentile(values, 99))):
        figure = f"{what}, xAI, {title}"
        made.append(Row(figure, "ms", take(whole[WAITING]), {PACKAGE: None}, limit + least, count, note))
        note = ""
    return made


NOTES = {
    "look-up": "from the press to TCP's greeting: the look-up, and all that is done before anybody is called",
    "TCP": "until the service has the third packet of the greeting",
    "upgrade": "the request comes with the last word of TLS",
    "sound": "comes with the settings, or, where these have to be confirmed, a round trip later",
}


INSIDE = ["unshare", "-rnm", "--kill-child"]


def can_be_measured() -> bool:
    """Whether there are namespaces and TUN devices here."""
    try:
        subprocess.run([*INSIDE, "ip", "tuntap", "add", "dev", "wlan0", "mode", "tun"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no namespaces or TUN devices here ({error}): the cold press is left out", file=sys.stderr)
        return False
    return True


def in_a_namespace(words: Sequence[str]) -> list[Row]:
    """Measure in a process of its own."""
    with tempfile.NamedTemporaryFile("r") as file:
        subprocess.run([*INSIDE, sys.executable, "-m", "tests.bench.cold", "--inside", file.name, *words], check=True)
        return [Row(**row) for row in json.load(file)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="presses of each client")
    parser.add_argument("--round-trip", type=float, default=40.0, metavar="MS")
    parser.add_argument("--tls-1.2", dest="old", action="store_true", help="the service speaks no TLS 1.3")
    parser.add_argument("--short", action="store_true", help="ten presses of each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    count = 10 if options.short else options.count
    if options.inside:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(options.round_trip / 2000, count, Path(folder), old=options.old)
        options.inside.write_text(json.dumps([asdict(row) for row in found]))
        return 0
    words = ["--count", str(count), "--round-trip", str(options.round_trip), *["--tls-1.2"] * options.old]
    made = in_a_namespace(words) if can_be_measured() else []
    if made:
        print(table(made))
    if options.json:
        document = {"machine": machine(), "rows": [asdict(row) for row in made]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
