"""The commands. Thin: each finds what it needs, calls it, and turns the outcome into words and an exit status.

Exit status: 0 done, 1 something failed, 2 wrong usage, 78 (EX_CONFIG) a wrong configuration, 130 stopped by Ctrl-C.
Output for people goes to standard output, the log to standard error.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from . import __version__
from .config.load import load
from .config.model import Config
from .core.errors import AgentError, ConfigError
from .core.printable import printable
from .runtime.logs import LOG_LEVELS, start_log
from .runtime.paths import INSTALLED_CONFIG, LOCAL_CONFIG, config_path
from .runtime.streams import open_missing
from .services.registry import SERVICES

log = logging.getLogger(__name__)

USUAL_LOG = {"run": "info", "ask": "error", "check": "error"}
"""What a command logs unless --log says otherwise; the others: warning."""
EX_FAILED, EX_USAGE, EX_STOPPED = 1, 2, 130


def entry() -> NoReturn:
    """Run the command line of this process, and end the process."""
    open_missing()
    faulthandler.enable()  # shows where every thread is when a library crashes, or the watchdog of systemd bites
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # and when somebody asks
    # numpy would begin a thread for each core, which spin for 0.1 s and are never needed: it is not loaded yet.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # an ordinary exit would touch what threads may hold that hang in a driver, or are a library's own


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    parser = _parser()
    options, unknown = parser.parse_known_args(argv)
    if unknown:  # said by the command itself, which shows its own usage
        getattr(options, "parser", parser).error(f"unknown arguments: {' '.join(unknown)}")
    if "command" not in options:
        parser.print_help(sys.stderr)
        return EX_USAGE
    start_log(options.log or options.usual_log)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except AgentError as error:
        print(printable(str(error), keep="\n"), file=sys.stderr)
        return os.EX_CONFIG if isinstance(error, ConfigError) else EX_FAILED
    except BrokenPipeError:  # who read our output has seen enough; the end of the process must not write either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_FAILED
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return EX_STOPPED


def run(options: argparse.Namespace) -> int:
    """Run the speaker until it is stopped. The installed service runs this command."""
    from .app.daemon import run as run_daemon

    return run_daemon(_path(options))


def demo(options: argparse.Namespace) -> int:
    """Hear a spoken answer to a spoken question, from a simulated service: needs no key and no account."""
    from .commands.demo import converse, rehearse

    if options.mic:
        return converse(load(_path(options)) if options.config or config_path().exists() else Config())
    return rehearse(options.save)


def ask(options: argparse.Namespace) -> int:
    """Ask one question, as text or as a recording, and print the answer."""
    from .commands.ask import ask as ask_once

    if bool(options.text) == bool(options.audio):
        options.parser.error(
            'give a text or a recording: device-agent ask "What time is it?", or: device-agent ask --audio FILE'
        )
    config = load(_path(options))
    return ask_once(config, " ".join(options.text), options.audio, save=options.save, text_only=options.text_only)


def token(options: argparse.Namespace) -> int:
    """Fetch a short-lived token with the key, and print it, for use by a token server."""
    from .commands.token import fetch_token

    print(fetch_token(load(_path(options))))
    return 0


def simulate(options: argparse.Namespace) -> int:
    """Simulate a voice service on this machine."""
    from .simulator import FAULTS, VARIANTS, listed, serve

    for asked, table in ((options.manner, VARIANTS), (options.fault, FAULTS)):
        if "list" in asked:
            print(listed(table))
            return 0
    try:
        serve(options.service, options.host, options.port, manner=options.manner, faults=options.fault)
    except ValueError as error:
        print(f"{error}; --manner list and --fault list show the names", file=sys.stderr)
        return EX_USAGE
    except OSError as error:
        print(f"cannot listen on {options.host} port {options.port}: {error.strerror}", file=sys.stderr)
        return EX_FAILED
    return 0


def check(options: argparse.Namespace) -> int:
    """Test everything that the configuration names, and say what to do about each fault."""
    from .doctor.doctor import check as check_all

    return check_all(_path(options), sys.stdout, offline=options.offline, quiet=options.quiet, as_json=options.json)


def status(options: argparse.Namespace) -> int:
    """Show what the running device-agent is doing and has done."""
    from .status.command import status as show_status

    return show_status(sys.stdout, as_json=options.json, watch=options.watch)


def devices(_options: argparse.Namespace) -> int:
    """List the sound devices of this machine, and how to choose one."""
    from .doctor.list_devices import show_devices

    return show_devices(sys.stdout)


def key(options: argparse.Namespace) -> int:
    """Store the key of a voice service on an installed speaker, typed or from a file. It needs sudo."""
    from .commands.key import put_key

    return put_key(options.service or "", options.file, if_none=options.if_none, restart=not options.no_restart)


def config(options: argparse.Namespace) -> int:
    """Show the configuration with all values, and where each value comes from."""
    from .config.show import as_json, as_yaml

    show = as_json if options.json else as_yaml
    print(printable(show(_path(options)), keep="\n"), end="")
    return 0


def show_help(options: argparse.Namespace) -> int:
    """Show the commands, or the options of one of them."""
    (options.commands[options.about] if options.about else options.whole).print_help()
    return 0


def _path(options: argparse.Namespace) -> Path:
    """Return which configuration to read; say so where --config does not: there may be one here and one in /etc."""
    if options.config:
        return Path(options.config)
    path = config_path()
    other = (
        " (for the one in this folder: --config config.yaml)"
        if path == INSTALLED_CONFIG and LOCAL_CONFIG.exists()
        else ""
    )
    print(printable(f"configuration: {path}{other}"), file=sys.stderr)
    return path


class _Command(argparse.ArgumentParser):
    """The arguments of one command. *more* makes the end of its help, only when that is asked for."""

    more: Callable[[], str] | None = None

    def format_help(self) -> str:
        return super().format_help() + (f"\n{self.more()}" if self.more else "")


def _manners_and_faults() -> str:
    from .simulator import FAULTS, VARIANTS, listed

    head = "Names for --manner (in brackets: only for these services):"
    return f"{head}\n{listed(VARIANTS)}\n\nNames for --fault:\n{listed(FAULTS)}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="device-agent", description="A smart speaker for realtime voice services.")
    parser.add_argument("--version", action="version", version=f"device-agent {__version__}")
    parser.add_argument(
        "--log",
        choices=LOG_LEVELS,
        help="least level to log (default: info for run, error for ask and check, else warning)",
    )
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Command)

    def add(command: Callable[[argparse.Namespace], int], name: str = "") -> _Command:
        name, words = name or command.__name__, (command.__doc__ or "").strip()
        sub = commands.add_parser(name, help=words.rstrip("."), description=words)
        sub.set_defaults(command=command, parser=sub, usual_log=USUAL_LOG.get(name, "warning"))
        return sub

    def add_config(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="configuration (default: /etc/device-agent/config.yaml, else ./config.yaml)",
        )

    add_config(add(run))

    sub = add(demo)
    sub.add_argument("--mic", action="store_true", help="talk through the sound card instead of a recorded question")
    sub.add_argument(
        "--save",
        type=Path,
        default=Path("demo-reply.wav"),
        metavar="FILE",
        help="WAV file to record into (default: %(default)s)",
    )
    add_config(sub)

    sub = add(ask)
    sub.add_argument("text", nargs="*", help="what to ask")
    sub.add_argument("--audio", type=Path, metavar="FILE", help="ask with the recording in this WAV file")
    sub.add_argument(
        "--save", type=Path, metavar="FILE", help="record the answer into this WAV file instead of playing it"
    )
    sub.add_argument("--text-only", action="store_true", help="get the answer as text only, if the service can do that")
    add_config(sub)

    add_config(add(token))

    sub = add(simulate)
    sub.add_argument("--service", choices=SERVICES, default="xai", help="service to simulate (default: %(default)s)")
    sub.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, for this machine only)"
    )
    sub.add_argument("--port", type=_port, default=9100, help="port to listen on (default: %(default)s; 0: a free one)")
    sub.add_argument(
        "--manner",
        action="append",
        default=[],
        metavar="NAME",
        help="behave like another kind of server; names are below",
    )
    sub.add_argument("--fault", action="append", default=[], metavar="NAME", help="cause a fault; names are below")
    sub.more = _manners_and_faults

    sub = add(check)
    sub.add_argument("--offline", action="store_true", help="skip what needs the network")
    sub.add_argument("--quiet", action="store_true", help="play no sound")
    sub.add_argument("--json", action="store_true", help="print one JSON document, for programs")
    add_config(sub)

    sub = add(status)
    sub.add_argument("--watch", action="store_true", help="keep showing it, until q or Ctrl-C")
    sub.add_argument(
        "--json", action="store_true", help="print JSON, for programs; with --watch one line for each update"
    )

    add(devices)

    sub = add(key)
    sub.add_argument(
        "service",
        nargs="?",
        choices=SERVICES,
        metavar="SERVICE",
        help=f"service that the key is for: {', '.join(SERVICES)}; default: the first one in {INSTALLED_CONFIG}",
    )
    sub.add_argument("--file", default="", metavar="FILE", help="read the key from FILE, or from - (standard input)")
    sub.add_argument("--if-none", action="store_true", help="do nothing if a usable key is stored already")
    sub.add_argument("--no-restart", action="store_true", help="do not restart a running speaker; it keeps its old key")

    sub = add(config)
    sub.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_config(sub)

    sub = add(show_help, "help")
    sub.add_argument("about", nargs="?", choices=list(commands.choices), metavar="COMMAND")
    sub.set_defaults(commands=commands.choices, whole=parser)
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= 65535):
        raise argparse.ArgumentTypeError(f"should be a whole number from 0 to 65535, not {text!r}")
    return int(text)
