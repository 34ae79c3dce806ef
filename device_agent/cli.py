"""Command line: the options of each command, and its exit status.

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
from argparse import ArgumentParser, Namespace
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

DEFAULT_LOG_LEVELS = {"run": "info", "ask": "error", "check": "error"}
"""Default log level of a command; of the others: warning."""
EX_FAILED, EX_USAGE, EX_STOPPED = 1, 2, 130


def entry() -> NoReturn:
    """Run the command line of this process, and end the process."""
    open_missing()
    faulthandler.enable()  # prints all stacks when a library crashes, or on SIGABRT by the watchdog of systemd
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    # numpy would start a thread for each core, which spins for 0.1 s and is not needed: it is not loaded yet.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # an ordinary exit could wait for a thread that hangs in a driver, or belongs to a library


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    parser = _parser()
    options, unknown = parser.parse_known_args(argv)
    if unknown:  # reported by the command's own parser, which shows its usage
        getattr(options, "parser", parser).error(f"unknown arguments: {' '.join(unknown)}")
    if "command" not in options:
        parser.print_help(sys.stderr)
        return EX_USAGE
    start_log(options.log or options.default_log)
    command: Callable[[Namespace], int] = options.command
    try:
        return command(options)
    except AgentError as error:
        print(printable(str(error), keep="\n"), file=sys.stderr)
        return os.EX_CONFIG if isinstance(error, ConfigError) else EX_FAILED
    except BrokenPipeError:  # the reader has closed the pipe; the end of the process must not write to it either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_FAILED
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return EX_STOPPED


# Commands, each with its options --------------------------------------------------------------------------------------


def run(options: Namespace) -> int:
    """Run the speaker until it is stopped. The installed service runs this command."""
    from .app.daemon import run as run_daemon

    return run_daemon(_path(options))


def demo(options: Namespace) -> int:
    """Hear a spoken answer to a spoken question, from a simulated service: needs no key and no account."""
    from .commands.demo import converse, rehearse

    if options.mic:
        return converse(load(_path(options)) if options.config or config_path().exists() else Config())
    return rehearse(options.save)


def _demo_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--mic", action="store_true", help="talk through the sound card instead of a recorded question")
    save = "WAV file to record into (default: %(default)s)"
    add("--save", type=Path, default=Path("demo-reply.wav"), metavar="FILE", help=save)
    _config_option(parser)


def ask(options: Namespace) -> int:
    """Ask one question, as text or as a recording, and print the answer."""
    from .commands.ask import ask as ask_once

    if bool(options.text) == bool(options.audio):
        options.parser.error(
            'give a text or a recording: device-agent ask "What time is it?", or: device-agent ask --audio FILE'
        )
    config = load(_path(options))
    return ask_once(config, " ".join(options.text), options.audio, save=options.save, text_only=options.text_only)


def _ask_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    save = "record the answer into this WAV file instead of playing it"
    add("text", nargs="*", help="what to ask")
    add("--audio", type=Path, metavar="FILE", help="ask with the recording in this WAV file")
    add("--save", type=Path, metavar="FILE", help=save)
    add("--text-only", action="store_true", help="get the answer as text only, if the service can do that")
    _config_option(parser)


def token(options: Namespace) -> int:
    """Fetch a short-lived token with the key, and print it, for use by a token server."""
    from .commands.token import fetch_token

    print(fetch_token(load(_path(options))))
    return 0


def simulate(options: Namespace) -> int:
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


def _simulate_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    host = "address to listen on (default: %(default)s, for this machine only)"
    manner = "behave like another kind of server; names are below"
    add("--service", choices=SERVICES, default="xai", help="service to simulate (default: %(default)s)")
    add("--host", default="127.0.0.1", help=host)
    add("--port", type=_port, default=9100, help="port to listen on (default: %(default)s; 0: a free one)")
    add("--manner", action="append", default=[], metavar="NAME", help=manner)
    add("--fault", action="append", default=[], metavar="NAME", help="cause a fault; names are below")


def _manners_and_faults() -> str:
    from .simulator import FAULTS, VARIANTS, listed

    head = "Names for --manner (in brackets: only for these services):"
    return f"{head}\n{listed(VARIANTS)}\n\nNames for --fault:\n{listed(FAULTS)}\n"


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= 65535):
        raise argparse.ArgumentTypeError(f"should be a whole number from 0 to 65535, not {text!r}")
    return int(text)


def check(options: Namespace) -> int:
    """Test everything that the configuration names, and say what to do about each fault."""
    from .doctor.doctor import check as check_all

    return check_all(_path(options), sys.stdout, offline=options.offline, quiet=options.quiet, as_json=options.json)


def _check_options(parser: ArgumentParser) -> None:
    parser.add_argument("--offline", action="store_true", help="skip what needs the network")
    parser.add_argument("--quiet", action="store_true", help="play no sound")
    parser.add_argument("--json", action="store_true", help="print one JSON document, for programs")
    _config_option(parser)


def status(options: Namespace) -> int:
    """Show what the running device-agent is doing and has done."""
    from .status.command import status as show_status

    return show_status(sys.stdout, as_json=options.json, watch=options.watch)


def _status_options(parser: ArgumentParser) -> None:
    as_json = "print JSON, for programs; with --watch one line for each update"
    parser.add_argument("--watch", action="store_true", help="keep showing it, until q or Ctrl-C")
    parser.add_argument("--json", action="store_true", help=as_json)


def devices(_options: Namespace) -> int:
    """List the sound devices of this machine, and how to choose one."""
    from .doctor.list_devices import show_devices

    return show_devices(sys.stdout)


def key(options: Namespace) -> int:
    """Store the key of a voice service on an installed speaker, typed or from a file. It needs sudo."""
    from .commands.key import put_key

    return put_key(options.service or "", options.file, if_none=options.if_none, restart=not options.no_restart)


def _key_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    service = f"service that the key is for: {', '.join(SERVICES)}; default: the first one in {INSTALLED_CONFIG}"
    add("service", nargs="?", choices=SERVICES, metavar="SERVICE", help=service)
    add("--file", default="", metavar="FILE", help="read the key from FILE, or from - (standard input)")
    add("--if-none", action="store_true", help="do nothing if a usable key is stored already")
    add("--no-restart", action="store_true", help="do not restart a running speaker; it keeps its old key")


def config(options: Namespace) -> int:
    """Show the configuration with all values, and where each value comes from."""
    from .config.show import as_json, as_yaml

    show = as_json if options.json else as_yaml
    print(printable(show(_path(options)), keep="\n"), end="")
    return 0


def _show_options(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    _config_option(parser)


def show_help(options: Namespace) -> int:
    """Show the commands, or the options of one of them."""
    (options.commands[options.about] if options.about else options.whole).print_help()
    return 0


def _config_option(parser: ArgumentParser) -> None:
    default = "configuration (default: /etc/device-agent/config.yaml, else ./config.yaml)"
    parser.add_argument("--config", type=Path, metavar="FILE", help=default)


def _path(options: Namespace) -> Path:
    """Return the configuration to read, and print which one it is unless --config names it."""
    if options.config:
        return Path(options.config)
    path = config_path()
    both = path == INSTALLED_CONFIG and LOCAL_CONFIG.exists()
    other = " (for the one in this folder: --config config.yaml)" if both else ""
    print(printable(f"configuration: {path}{other}"), file=sys.stderr)
    return path


# The parser -----------------------------------------------------------------------------------------------------------

COMMANDS = {
    run: _config_option,
    demo: _demo_options,
    ask: _ask_options,
    token: _config_option,
    simulate: _simulate_options,
    check: _check_options,
    status: _status_options,
    devices: None,
    key: _key_options,
    config: _show_options,
}
"""Each command, and what adds its options."""


class _Command(ArgumentParser):
    """Parser of one command. *more* makes the end of its help when the help is printed."""

    more: Callable[[], str] | None = None

    def format_help(self) -> str:
        return super().format_help() + (f"\n{self.more()}" if self.more else "")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="device-agent", description="A smart speaker for realtime voice services.")
    parser.add_argument("--version", action="version", version=f"device-agent {__version__}")
    default = "least level to log (default: info for run, error for ask and check, else warning)"
    parser.add_argument("--log", choices=LOG_LEVELS, help=default)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Command)

    def add(command: Callable[[Namespace], int], name: str) -> _Command:
        words = (command.__doc__ or "").strip()
        sub = commands.add_parser(name, help=words.rstrip("."), description=words)
        sub.set_defaults(command=command, parser=sub, default_log=DEFAULT_LOG_LEVELS.get(name, "warning"))
        return sub

    for command, add_options in COMMANDS.items():
        sub = add(command, command.__name__)
        if add_options:
            add_options(sub)
    commands.choices["simulate"].more = _manners_and_faults
    sub = add(show_help, "help")
    sub.add_argument("about", nargs="?", choices=list(commands.choices), metavar="COMMAND")
    sub.set_defaults(commands=commands.choices, whole=parser)
    return parser
