"""Sound cards without sound cards, for tests of everything down to libasound.

Three of them, from exact to realistic:

- ``FifoCard``: two FIFOs in place of a card's buffers. No daemon, exact to the bit, and the test owns the clock: the
  microphone gives what ``play`` put in and then blocks, the loudspeaker takes as fast as one writes.
- ``PulseCard``: a private PulseAudio with null sinks. Real time, resampling, a server that can freeze and die.
- ``JackCard``: a private JACK on its dummy driver. 48 kHz only, and its buffer overflows.

libasound reads its configuration once per process, so the ports live in a process of their own:
``card.process()`` is one, and ``process.microphone(24000)`` is a port in it, with the methods of the port itself.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import itertools
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import pytest

from device_agent.hardware.ports import Cut, never
from tests.support.paths import ROOT

HERE = Path(__file__).parent
PORTS = "device_agent.hardware.portaudio"

PATIENCE = 20.0
"""Seconds until a test gives up waiting for anything; on an idle machine all of that takes a hundredth."""

PIPE_BYTES = 4096
"""The smallest pipe there is: what the test puts in is soon what the card gives."""

BUFFER_BYTES = 2**18
"""More than any buffer of a loudspeaker: how full it may get, the port itself decides."""


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until *condition* is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {PATIENCE:g} s for {what}")
        time.sleep(0.01)


def cut_after(asked: int) -> Cut:
    """Return one that is true when it was *asked* so often; it can be sent to another process."""
    return functools.partial(next, iter([False] * asked + [True] * 1000))


class Remote:
    """An object in a ``CardProcess``; all calls on it are made by one thread there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ask(self, name: str, *arguments: object, timeout: float = PATIENCE) -> Any:
        """Call a method or get an attribute. Raises what that raises; TimeoutError after *timeout* seconds."""
        self.send(name, *arguments)
        return self.answer(timeout)

    def send(self, name: str, *arguments: object) -> None:
        """Call a method; get the answer later."""
        self._connection.send((name, arguments))

    def answer(self, timeout: float = PATIENCE) -> Any:
        """Wait for the answer to ``send``, or for the one that ``ask`` did not get in time."""
        if not self._connection.poll(timeout):
            raise TimeoutError(f"no answer in {timeout:g} s")
        fine, value = self._connection.recv()
        if not fine:
            raise value
        return value

    def leave(self) -> None:
        """Let the object go; a port is closed."""
        self._connection.close()


class RemoteMicrophone(Remote):
    """A Microphone in another process."""

    @property
    def overflows(self) -> int:
        return self.ask("overflows")

    def open(self) -> None:
        self.ask("open")

    def read(self, timeout: float = PATIENCE) -> bytes:
        return self.ask("read", timeout=timeout)

    def close(self) -> None:
        self.ask("close")


class RemoteSpeaker(Remote):
    """A Speaker in another process."""

    @property
    def underruns(self) -> int:
        return self.ask("underruns")

    @property
    def latency(self) -> float:
        return self.ask("latency")

    def open(self) -> None:
        self.ask("open")

    def write(self, pcm: bytes, cut: Cut = never, timeout: float = PATIENCE) -> None:
        self.ask("write", pcm, cut, timeout=timeout)

    def drain(self, cut: Cut = never) -> None:
        self.ask("drain", cut)

    def drop(self) -> None:
        self.ask("drop")

    def close(self) -> None:
        self.ask("close")


AnyRemote = TypeVar("AnyRemote", bound=Remote)


class CardProcess:
    """A process that has a card."""

    def __init__(self, directory: Path, env: dict[str, str]) -> None:
        self._remotes: list[Remote] = []
        room = Path(tempfile.mkdtemp(dir=directory))
        self._address = str(room / "socket")
        self._log = room / "stderr"
        with self._log.open("wb") as log:
            command = [sys.executable, str(HERE / "card_child.py"), self._address]
            self._process = subprocess.Popen(command, env=os.environ | env, stderr=log, stdin=subprocess.DEVNULL)
        wait_for(self._listening, "the process of the card")

    @property
    def pid(self) -> int:
        return self._process.pid

    def object(self, what: str, *arguments: object) -> Remote:
        """Return a new object of the class "module:Class" there, or the module "module"."""
        return self._made(Remote, what, *arguments)

    def microphone(self, rate: int, device: str = "default", channel: int | None = None) -> RemoteMicrophone:
        return self._made(RemoteMicrophone, f"{PORTS}:PortAudioMicrophone", rate, device, channel)

    def speaker(self, rate: int, device: str = "default") -> RemoteSpeaker:
        return self._made(RemoteSpeaker, f"{PORTS}:PortAudioSpeaker", rate, device)

    def exit(self, status: int) -> int:
        """Let the process call os._exit, whatever its threads are stuck in; return its real exit status."""
        leaving = self.object("os")
        with suppress(EOFError, ConnectionError):
            leaving.ask("_exit", status)
        return self._process.wait(PATIENCE)

    def stderr(self) -> str:
        """Return what the process has written to its standard error."""
        return self._log.read_text()

    def close(self) -> None:
        """Close all ports there and end the process."""
        for remote in self._remotes:
            remote.leave()
        dismiss(self._process)

    def _listening(self) -> bool:
        with suppress(FileNotFoundError, ConnectionRefusedError), Client(self._address, "AF_UNIX"):
            return True
        return False

    def _made(self, kind: type[AnyRemote], what: str, *arguments: object) -> AnyRemote:
        remote = kind(Client(self._address, "AF_UNIX"))
        self._remotes.append(remote)
        remote.ask(what, *arguments)
        return remote


class Card:
    """What all cards have: a directory, an environment, processes; everything is gone after the ``with``."""

    def __init__(self) -> None:
        self.env = {"PYTHONPATH": str(ROOT)}
        """What a process needs to find this card, and this package."""
        self._ends = ExitStack()
        self._directory = Path(tempfile.mkdtemp(prefix="card-"))

    def __enter__(self) -> Self:
        self._ends.callback(shutil.rmtree, self._directory, ignore_errors=True)
        try:
            self._begin()
        except BaseException:
            self._ends.close()
            raise
        return self

    def _begin(self) -> None:
        """Set the card up."""

    def __exit__(self, *reason: object) -> None:
        self._ends.close()

    def process(self, **env: str) -> CardProcess:
        """Start a process with this card, and with *env* more in its environment."""
        process = CardProcess(self._directory, self.env | env)
        self._ends.callback(process.close)
        return process

    def program(self, code: str) -> subprocess.Popen[str]:
        """Start a Python program with this card."""
        command = [sys.executable, "-c", code]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        program = subprocess.Popen(command, env=os.environ | self.env, text=True, **streams)
        self._ends.callback(program.communicate)
        self._ends.callback(program.kill)
        return program

    def run(self, code: str) -> tuple[str, str]:
        """Run a Python program with this card to its end; return what it wrote to standard output and error."""
        return self.program(code).communicate(timeout=PATIENCE)

    def _configure(self, text: str) -> None:
        """Make *text* ALSA's whole configuration: without the usual one there are no other devices."""
        (self._directory / "asound.conf").write_text(text)
        self.env["ALSA_CONFIG_PATH"] = str(self._directory / "asound.conf")

    def _daemon(self, *command: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self._directory / f"{command[0]}.log").open("wb") as log:
            daemon = subprocess.Popen(
                command, env=os.environ | env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._ends.callback(dismiss, daemon)
        return daemon


def dismiss(process: subprocess.Popen[bytes]) -> None:
    """Let a process tidy up and end, whatever state it is in."""
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(PATIENCE / 4)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(PATIENCE)


def need(*programs: str) -> None:
    """Skip the test where one of the programs is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")


FIFO_CONF = """
pcm.null {{ type null }}
pcm.desk_microphone {{
    type asym
    capture.pcm {{ type file slave.pcm {{ type null }} file "/dev/null" infile "{microphone}" format "raw" }}
}}
pcm.desk_speaker {{ type asym playback.pcm {{ type null }} }}
pcm.!default {{ type asym capture.pcm desk_microphone playback.pcm desk_speaker }}
"""


class FifoCard(Card):
    """Two FIFOs. Carries raw sound: any rate opens, unless *only_rate* or *only_channels* says which one does.

    *rate* is what the card's microphone is opened at, in Hz, *channels* how many are interleaved there; a card says
    that it has so many, and *vague* as one behind a plugin it says 128. Where *paced*, it has a clock like a real one:
    it takes and gives 20 ms every 20 ms, silence where nothing was played. Then it may be one that wakes late: of all
    that it plays after it had nothing to play, *swallows* seconds are silence.
    """

    def __init__(
        self,
        rate: int = 24000,
        channels: int = 1,
        *,
        only_rate: int = 0,
        only_channels: int = 0,
        vague: bool = False,
        paced: bool = False,
        swallows: float = 0.0,
    ) -> None:
        super().__init__()
        self._frame = bytes(2 * channels * (rate // 50))
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._moving = threading.Event()
        self._moving.set()
        self._stop = threading.Event()
        self._paced = paced
        self._swallows = self._swallowing = 2 * channels * round(swallows * rate)  # bytes
        self._heard = bytearray()
        self._lock = threading.Lock()
        self._configure(FIFO_CONF.format(microphone=self._path("microphone")))
        self.env |= {
            "LD_PRELOAD": shim(),
            "CARD_MICROPHONE": self._path("microphone"),
            "CARD_SPEAKER": self._path("speaker"),
            "CARD_UNPLUGGED": self._path("unplugged"),
            "CARD_VANISHED": self._path("vanished"),
        }
        self.env |= {"CARD_RATE": str(only_rate), "CARD_CHANNELS": str(only_channels)}
        self.env["CARD_MOST"] = "0" if vague else str(max(channels, only_channels))

    def _begin(self) -> None:
        # A whole step of a card with many channels has to fit in.
        self._microphone = self._fifo("microphone", max(PIPE_BYTES, 2 * len(self._frame)))
        self._speaker = self._fifo("speaker", BUFFER_BYTES)
        for work in (self._give, self._take):
            thread = threading.Thread(target=work, name=f"card {work.__name__}")
            thread.start()
            self._ends.callback(thread.join, PATIENCE)
        self._ends.callback(self._stop.set)

    def play(self, pcm: bytes) -> None:
        """Let the microphone hear *pcm*; returns at once. It ends with a full 20 ms, filled up with silence."""
        for start in range(0, len(pcm), len(self._frame)):
            self._queue.put(pcm[start : start + len(self._frame)].ljust(len(self._frame), b"\0"))

    def hush(self) -> None:
        """Stop the speech: what ``play`` put in and the microphone has not given yet is never heard."""
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def heard(self) -> bytes:
        """Return what has come out of the loudspeaker since the last call."""
        if not self._paced:
            wait_for(lambda: self.holds == 0, "the loudspeaker's FIFO to run empty")
        with self._lock:
            heard = bytes(self._heard)
            self._heard.clear()
        return heard

    @property
    def holds(self) -> int:
        """How many bytes are in the loudspeaker's buffer."""
        size = fcntl.ioctl(self._speaker, termios.FIONREAD, b"\0" * 4)
        return int.from_bytes(size, sys.byteorder)

    @property
    def asleep(self) -> bool:
        """Whether a card that wakes late would swallow what it gets next."""
        return 0 < self._swallows == self._swallowing

    def stall(self) -> None:
        """Freeze: the microphone gives nothing, the loudspeaker takes nothing, and there is no error."""
        with self._lock:
            self._moving.clear()

    def resume(self) -> None:
        """Undo ``stall``."""
        self._moving.set()

    def unplug(self) -> None:
        """Pull the cable; everything says so at once."""
        Path(self._path("unplugged")).touch()

    def vanish(self) -> None:
        """Pull the cable of a card whose driver does not tell: nothing moves any more, and there is no error."""
        Path(self._path("vanished")).touch()

    def replug(self) -> None:
        """Put the cable back."""
        for flag in ("unplugged", "vanished"):
            Path(self._path(flag)).unlink(missing_ok=True)

    def _path(self, name: str) -> str:
        return str(self._directory / name)

    def _fifo(self, name: str, size: int) -> int:
        os.mkfifo(self._path(name))
        # For both ends, so that neither side ever waits for the other to open, or sees an end.
        descriptor = os.open(self._path(name), os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)
        self._ends.callback(os.close, descriptor)
        return descriptor

    def _give(self) -> None:
        """The microphone's thread."""
        while self._tick():
            try:
                frame = self._queue.get_nowait() if self._paced else self._queue.get(timeout=0.02)
            except queue.Empty:
                frame = self._frame if self._paced else b""
            while frame and not self._stop.is_set():
                if self._moving.wait(0.02) and select.select([], [self._microphone], [], 0.02)[1]:
                    frame = frame[os.write(self._microphone, frame) :]

    def _take(self) -> None:
        """The loudspeaker's thread."""
        while self._tick():
            if self._moving.wait(0.02) and select.select([self._speaker], [], [], 0 if self._paced else 0.02)[0]:
                # The card may be told to forget what it holds between the two calls.
                with self._lock, suppress(BlockingIOError):
                    if self._moving.is_set():
                        self._heard += self._played()
            else:
                self._swallowing = self._swallows  # it has nothing to play, and falls asleep

    def _played(self) -> bytes:
        """Return what comes out of the loudspeaker in this step."""
        piece = os.read(self._speaker, len(self._frame))
        lost = min(len(piece), self._swallowing)
        self._swallowing -= lost
        return bytes(lost) + piece[lost:]

    def _tick(self) -> bool:
        """Wait for the next 20 ms, where the card has a clock; return whether to go on."""
        if self._paced:
            now = time.monotonic()
            self._stop.wait(0.02 - now % 0.02)
        return not self._stop.is_set()


@functools.cache
def shim() -> str:
    """Build the library that can unplug a card, once; return its path. Skips the test where there is no compiler."""
    need("gcc")
    directory = tempfile.mkdtemp(prefix="card-shim-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    library = f"{directory}/card_shim.so"
    command = ["gcc", "-shared", "-fPIC", "-o", library, str(HERE / "card_shim.c")]
    built = subprocess.run(
        [*command, "-ldl", "-Wl,--no-as-needed", "-lasound"], capture_output=True, text=True, check=False
    )
    if built.returncode:
        pytest.skip(f"needs ALSA's headers (libasound2-dev): {built.stderr.splitlines()[0]}")
    return library


PULSE_CONF = """
pcm.desk_microphone {{ type asym capture.pcm {{ type pulse server "unix:{socket}" device vmic handle_underrun 0 }} }}
pcm.desk_speaker {{ type asym playback.pcm {{ type pulse server "unix:{socket}" device vspk handle_underrun 0 }} }}
pcm.!default {{ type asym capture.pcm desk_microphone playback.pcm desk_speaker }}
"""

PULSE_MODULES = """
load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=vspk rate={rate} channels=1 format=s16le norewinds=1
load-module module-null-sink sink_name=vroom rate={rate} channels=1 format=s16le norewinds=1
load-module module-remap-source source_name=vmic master=vroom.monitor remix=no
set-default-sink vspk
set-default-source vmic
"""


class PulseCard(Card):
    """A PulseAudio of our own, in real time at *rate* Hz. Needs no D-Bus and no rights."""

    def __init__(self, rate: int = 48000) -> None:
        need("pulseaudio", "pactl", "pacat", "parec")
        super().__init__()
        here, socket = str(self._directory), str(self._directory / "native")
        self._rate = rate
        self._home = {
            "HOME": here,
            "PULSE_RUNTIME_PATH": here,
            "XDG_RUNTIME_DIR": here,
            "PULSE_SERVER": f"unix:{socket}",
        }
        self._modules = self._directory / "default.pa"
        self._modules.write_text(PULSE_MODULES.format(socket=socket, rate=rate))
        self._configure(PULSE_CONF.format(socket=socket))

    def _begin(self) -> None:
        self._start()

    def _start(self) -> None:
        flags = ["--daemonize=no", "--system=false", "--exit-idle-time=-1", "--use-pid-file=no"]
        flags += ["--realtime=no", "--high-priority=no"]
        self._server = self._daemon("pulseaudio", "-n", "-F", str(self._modules), *flags, env=self._home)
        wait_for(self._ready, "PulseAudio")

    def play(self, pcm: bytes) -> None:
        """Let the microphone hear *pcm*, beginning now; returns at once."""
        path = self._directory / "played"
        path.write_bytes(pcm)
        with path.open("rb") as file:
            # A large buffer: what PulseAudio has in hand arrives without gaps, even where this machine stumbles.
            self._client("pacat", "-p", "-d", "vroom", "--latency-msec=2000", stdin=file)

    @contextmanager
    def listening(self) -> Iterator[Path]:
        """Record the loudspeaker into a file while in the ``with``."""
        path = self._directory / "heard"
        with path.open("wb") as file:
            recorder = self._client("parec", "-d", "vspk.monitor", "--latency-msec=20", stdout=file)
            wait_for(lambda: path.stat().st_size, "the recording to begin")
            yield path
            recorder.terminate()
            recorder.wait(PATIENCE)

    def freeze(self) -> None:
        """Let the server hang without a word."""
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo ``freeze``."""
        self._server.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Let the server die."""
        self._server.kill()
        self._server.wait(PATIENCE)

    def restart(self) -> None:
        """Let another one take its place."""
        self._start()

    def _client(self, *command: str, **streams: IO[bytes]) -> subprocess.Popen[bytes]:
        format_ = [f"--rate={self._rate}", "--channels=1", "--format=s16le", "--raw"]
        # What it says on standard error is that the server died, which the test knows: it killed it.
        client = subprocess.Popen(
            [*command, *format_], env=os.environ | self._home, stderr=subprocess.DEVNULL, **streams
        )
        self._ends.callback(client.wait, PATIENCE)
        self._ends.callback(client.kill)
        return client

    def _ready(self) -> bool:
        asked = subprocess.run(
            ["pactl", "info"], env=os.environ | self._home, capture_output=True, timeout=PATIENCE, check=False
        )
        return asked.returncode == 0


JACK_CONF = """
pcm.!default {
    type jack
    playback_ports { 0 system:playback_1 }
    capture_ports { 0 system:capture_1 }
}
"""


class JackCard(Card):
    """A JACK of our own on its dummy driver: nothing but 48 kHz, mono, in real time; gives silence."""

    def __init__(self) -> None:
        need("jackd", "jack_wait")
        super().__init__()
        name = f"test{os.getpid()}x{next(_serial)}x"
        self.env |= {"JACK_DEFAULT_SERVER": name, "JACK_NO_AUDIO_RESERVATION": "1", "JACK_NO_START_SERVER": "1"}
        self._configure(JACK_CONF)

    def _begin(self) -> None:
        self._ends.callback(self._sweep)
        self._server = self._start()

    def kill(self) -> None:
        """Let the server die."""
        self._server.kill()
        self._server.wait(PATIENCE)
        # A server that died keeps its place among the eight that a machine can have, until one of its name is back.
        self._ends.callback(self._start)

    def _start(self) -> subprocess.Popen[bytes]:
        name = self.env["JACK_DEFAULT_SERVER"]
        dummy = ["-d", "dummy", "-r", "48000", "-p", "480", "-C", "1", "-P", "1"]
        server = self._daemon("jackd", "--no-realtime", "-n", name, *dummy, env=self.env)
        wait_for(self._ready, "JACK")
        return server

    def _sweep(self) -> None:
        """Remove what clients that were killed leave in shared memory."""
        for path in Path("/dev/shm").glob(  # noqa: S108  JACK's own
            f"jack*_{self.env['JACK_DEFAULT_SERVER']}*"
        ):
            path.unlink()

    def _ready(self) -> bool:
        command = ["jack_wait", "-s", self.env["JACK_DEFAULT_SERVER"], "-c"]
        answer = subprocess.run(
            command, env=os.environ | self.env, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        return "not running" not in answer.stdout


_serial = itertools.count()
