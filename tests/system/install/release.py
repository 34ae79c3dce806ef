"""A release, built and tried: sdist, wheel, and a package for each Debian; each is installed in a clean Debian.

    python tests/system/install/release.py [--into FOLDER]

The version has to be the newest in CHANGELOG.md, and the checkout without changes. Everything is built in clean rooms
(``clean-room.sh``), looked into, and installed in others; the demo has to run from each. Prints how long each step
takes. Ends with 0 when there is a release in FOLDER. Wants root, mmdebstrap and git.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]
SUITES = ("bookworm", "trixie")
COMPILES = "libportaudio2 portaudio19-dev libasound2-dev gcc python3-dev python3-venv"
"""What PyAudio is compiled with, and Python's environments."""
BUILD = (
    "python3 -m venv /tmp/build && /tmp/build/bin/pip install -q build && /tmp/build/bin/python -m build -q -o build"
)
INSTALLED = "cd / && device-agent --version && device-agent demo --save /tmp/reply.wav"
"""The program is tried where the checkout is not."""


class Broken(Exception):
    """This is no release."""


def main() -> int:
    """Build all, try all; return the exit status."""
    parser = argparse.ArgumentParser(description="Build a release and try it.")
    parser.add_argument("--into", type=Path, default=PROJECT / "build" / "release", help="default: %(default)s")
    into: Path = parser.parse_args().into.resolve()
    if os.geteuid() != 0:
        print("this makes Debians in folders: run it with sudo", file=sys.stderr)
        return 2
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    try:
        release(into)
    except Broken as error:
        print(f"NO RELEASE: {error}")
        return 1
    for path in sorted(into.iterdir()):
        print(f"{path.stat().st_size >> 10:7} KiB  {path}")
    return 0


def release(into: Path) -> None:
    """Take all steps. Raises Broken at the first that fails."""
    version = _say("the version", check_version)
    _say("sdist and wheel", lambda: room("bookworm", f"sudo apt-get -qq install -y {COMPILES} && {BUILD}", keep=into))
    _say("what is in them", lambda: check_contents(into, version))
    for suite in SUITES:
        _say(f"a package for {suite}", lambda suite=suite: room(suite, "make deb", keep=into))  # type: ignore[misc]
    _say("what is in those", lambda: check_packages(into, version))
    for suite in SUITES:
        for kind in (f"device_agent-{version}-py3-none-any.whl", f"device_agent-{version}.tar.gz"):
            _say(f"{kind} on {suite}", lambda suite=suite, kind=kind: room(suite, *pip(kind), take=into))  # type: ignore[misc]
        _say(f"the package on {suite}", lambda suite=suite: room(suite, *apt(suite, version), take=into))  # type: ignore[misc]


def _say(what: str, step: Callable[[], str]) -> str:
    began = time.monotonic()
    said = step()
    print(f"{what:45}{time.monotonic() - began:6.0f} s  {said}", flush=True)
    return said


def room(suite: str, *commands: str, keep: Path | None = None, take: Path | None = None) -> str:
    """Run *commands* in a clean room; return which version of the program answered, if one did. Raises Broken."""
    given = {"KEEP": str(keep)} if keep else {"TAKE": str(take)} if take else {}
    done = subprocess.run(
        [HERE / "clean-room.sh", suite, *commands],
        env=os.environ | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise Broken(f"{' && '.join(commands)} on {suite} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return next((line for line in done.stdout.splitlines() if line.startswith("device-agent ")), "")


def pip(name: str) -> tuple[str, ...]:
    """Return the commands that install one of Python's packages into an environment, and try it."""
    return (
        f"sudo apt-get -qq install -y {COMPILES}",
        f"python3 -m venv /tmp/speaker && /tmp/speaker/bin/pip install -q build/{name}[simulator]",
        f"PATH=/tmp/speaker/bin:$PATH; {INSTALLED}",
    )


def apt(suite: str, version: str) -> tuple[str, ...]:
    """Return the commands that install Debian's package, and try it."""
    return (f"sudo apt-get -qq install -y ./build/{package(suite, version)}", INSTALLED)


def package(suite: str, version: str) -> str:
    """Return the name of the file of a Debian package for this kind of processor."""
    arch = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    return f"device-agent_{version}+deb{ {'bookworm': 12, 'trixie': 13}[suite] }_{arch}.deb"


# What is in it --------------------------------------------------------------------------------------------------------


def check_version() -> str:
    """Return the version. Raises Broken where it is not the newest in CHANGELOG.md, or something is not committed."""
    version = re.search('__version__ = "(.*)"', (PROJECT / "device_agent/__init__.py").read_text())[1]  # type: ignore[index]
    newest = re.search(r"^## (\S+)", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]  # type: ignore[index]
    if newest != version:
        raise Broken(f"the version is {version}, and the newest in CHANGELOG.md is {newest}")
    if changed := _git("status", "--porcelain"):
        raise Broken(f"not committed:\n{changed}")
    return version


def check_contents(into: Path, version: str) -> str:
    """Raise Broken unless sdist and wheel hold all of the program, and the wheel nothing else."""
    program = {name for name in _git("ls-files", "device_agent").split("\n") if not name.endswith(".md")}
    with zipfile.ZipFile(into / f"device_agent-{version}-py3-none-any.whl") as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    _same("the wheel", held, program)
    with tarfile.open(into / f"device_agent-{version}.tar.gz") as sdist:
        source = {name.partition("/")[2] for name in sdist.getnames()}
    _holds("the sdist", source, {*program, "README.md", "LICENSE", "setup.cfg", "pyproject.toml"})
    return f"{len(held)} files in the wheel, {len(source)} in the sdist"


def check_packages(into: Path, version: str) -> str:
    """Raise Broken unless each package holds the program, its unit and its configuration."""
    sizes = []
    for suite in SUITES:
        listed = subprocess.check_output(["dpkg-deb", "--contents", into / package(suite, version)], text=True)
        names = {line.split(maxsplit=5)[5].split(" -> ")[0].lstrip(".") for line in listed.splitlines()}
        modules = {name.rsplit("/site-packages/")[-1] for name in names}
        _holds(package(suite, version), modules, set(_git("ls-files", "device_agent/*.py").split("\n")))
        _holds(package(suite, version), names, {"/usr/bin/device-agent", "/etc/device-agent/config.yaml"})
        if not any(name.endswith("/system/device-agent.service") for name in names):
            raise Broken(f"{package(suite, version)} has no unit")
        sizes.append(f"{len(names)} paths for {suite}")
    return ", ".join(sizes)


def _same(what: str, held: set[str], wanted: set[str]) -> None:
    _holds(what, held, wanted)
    if more := held - wanted:
        raise Broken(f"{what} holds {_some(more)}")


def _holds(what: str, held: set[str], wanted: set[str]) -> None:
    if missing := wanted - held:
        raise Broken(f"{what} lacks {_some(missing)}")


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:5])


def _git(*words: str) -> str:
    return subprocess.check_output(["git", "-C", PROJECT, *words], text=True).strip()


if __name__ == "__main__":
    sys.exit(main())
