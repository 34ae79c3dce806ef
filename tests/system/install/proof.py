"""The installer, for real: what README promises about installing, step by step in clean Debians.

    python tests/system/install/proof.py [--suite bookworm] [--arch amd64] [--only PART] [--keep FOLDER]

In a Debian of nothing but apt: install, a first turn, again, upgrades that work and that do not, uninstall, and what is
left; the same as a package; and both under a systemd that runs. Ends with 0 when all of it held. Wants root, the
network, mmdebstrap, and for another kind of processor qemu-user-static and binfmt_misc.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from readme import prepare, walk
from root import Broken, Root, base, unpacked, wait_for

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]
SHIPPED = (
    "device_agent",
    "systemd",
    "config.yaml",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
)
INSTALL, UNINSTALL = "/src/systemd/install.sh", "/src/systemd/uninstall.sh"
CONFIG, KEY, STATE = "/etc/device-agent/config.yaml", "/etc/credstore/device-agent.api_key", "/var/lib/device-agent"
NOTHING_TO_DO = "nothing to do: it is installed as it should be"
QUESTION = "(not shown while you type; press return if you have none yet)"
QUIET = "service: {url: 'ws://127.0.0.1:9/'}\nbutton: {pin: }\nlight: {pin: }\n"
"""Settings with which it can run anywhere: it connects when it hears speech, and there is none."""
DEBIANS = {f"{CONFIG}.dpkg-dist", "/etc/systemd/system/multi-user.target.wants/device-agent.service"}
"""What Debian's own tools keep of a package that was removed, until it is purged."""
RECOMMENDED = re.compile("ca-certificates|openssl|libssl")
"""What apt keeps because it recommends it itself."""
OLD, NEW, NEXT = "0.0.8", "0.0.9", "9.9.9"


# The source, as one downloads it, and as it was and will be -----------------------------------------------------------


def ship(root: Root, version: str = "", edits: dict[str, Callable[[str], str]] | None = None) -> None:
    """Put the source into /src: this one, or one that calls itself *version* and differs by *edits*."""
    target = root.file("/src")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in SHIPPED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)
    changes = dict(edits or {})
    if version:
        changes["device_agent/__init__.py"] = lambda text: re.sub(
            '__version__ = ".*"', f'__version__ = "{version}"', text
        )
    for name, change in changes.items():
        file = target / name
        before = file.read_text()
        file.write_text(change(before))
        if file.read_text() == before:
            raise Broken(f"nothing changed in {name}")


def with_line(line: str) -> Callable[[str], str]:
    return lambda text: f"{text}{line}\n"


def in_use(root: Root) -> str:
    return root.run("readlink", "/opt/device-agent")


def trees(root: Root) -> set[str]:
    return {path.name for path in root.file("/opt/device-agent-versions").iterdir() if path.is_dir()} - {"cache"}


def expect(what: str, seen: object, expected: object) -> None:
    """Raise Broken unless both are the same."""
    if seen != expected:
        raise Broken(f"{what}: {seen!r}, and not {expected!r}")


def mode(root: Root, path: str) -> str:
    about = root.file(path).lstat()
    return f"{about.st_mode & 0o7777:o} {about.st_uid}:{about.st_gid}"


# Without a systemd that runs ------------------------------------------------------------------------------------------


def installs(root: Root) -> str:
    """One command, on a Debian that has nothing yet."""
    ship(root, OLD, {"config.yaml": with_line("# a default of old")})
    said = root.run(INSTALL, EXTRAS="simulator,echo")
    for words in ("No systemd runs here", "There is no key yet", "Next: sudo device-agent check"):
        if words not in said:
            raise Broken(f"it does not say {words!r}:\n{said}")
    expect("the command", root.run("device-agent", "--version"), f"device-agent {OLD}")
    expect("the unit", root.run("systemctl", "is-enabled", "device-agent"), "enabled")
    groups = root.run("id", "--groups", "--name", "device-agent").split()
    expect("the groups of its user", groups, ["device-agent", "audio", "gpio"])
    expect("the settings", mode(root, CONFIG), "644 0:0")
    return f"{len(trees(root))} tree, {_megabytes(root)} MB in /opt"


def _megabytes(root: Root) -> int:
    return int(root.run("du", "-sm", "/opt").split()[0])


def takes_a_turn(root: Root) -> str:
    """device-agent demo."""
    said = root.run("sh", "-c", "cd /tmp && device-agent demo && rm demo-reply.wav")
    found = re.search(r"likeness of ([0-9.]+)", said)
    if found is None:
        raise Broken(said)
    fit = float(found[1])
    if fit < 0.3:  # a busy machine tears a gap into it, and what comes late is less alike; something else has 0.1
        raise Broken(said)
    first = next(line for line in said.splitlines() if "end of speech to first sound" in line)
    return re.sub(" +", " ", first.strip()) + f", likeness {fit}"


def was_compiled(root: Root) -> str:
    """Which libraries were compiled here: their wheels are for this Linux and not for many."""
    names = set()
    for path in root.file("/opt").glob("**/*.dist-info/WHEEL"):
        if re.search(r"^Tag: \S+-linux_", path.read_text(), re.MULTILINE):
            names.add(path.parent.name.partition("-")[0])
    return ", ".join(sorted(names)) or "nothing"


def runs(root: Root) -> str:
    """device-agent run, with sound files and a simulator."""
    shutil.copy(HERE / "turn.py", root.file("/tmp/turn.py"))  # noqa: S108  no other user is there
    try:
        return root.run("/opt/device-agent/bin/python", "/tmp/turn.py").splitlines()[-1]  # noqa: S108
    finally:
        root.file("/tmp/turn.py").unlink()  # noqa: S108


def does_nothing_twice(root: Root) -> str:
    """Installed again: not one file is written."""
    before = root.state()
    if NOTHING_TO_DO not in (said := root.run(INSTALL)):
        raise Broken(said)
    expect("files", {path for path, about in root.state().items() if before.get(path) != about}, set())
    return f"{len(before)} files as they were"


def upgrades(root: Root) -> str:
    """A newer version: unedited settings become its own, and it has the extras of the old one."""
    old = in_use(root)
    ship(root, NEW)
    root.run(INSTALL)
    expect("the version", root.run("device-agent", "--version"), f"device-agent {NEW}")
    expect("the settings", root.file(CONFIG).read_text(), (PROJECT / "config.yaml").read_text())
    root.run("/opt/device-agent/bin/python", "-c", "import livekit.rtc")
    expect("new settings beside", root.file(f"{CONFIG}.new").exists(), False)
    expect("trees", trees(root), {Path(in_use(root)).name})
    return f"{Path(old).name} became {Path(in_use(root)).name}"


def adds_extras(root: Root) -> str:
    """To those that are there: by name, and where the settings need one; and takes one away."""
    edited = root.file(CONFIG).read_text()
    for extras, settings, expected in (
        ("mqtt", edited, "simulator,echo,mqtt"),
        ("-mqtt", f"{QUIET}metrics: {{port: 9105}}\n", "simulator,echo,metrics"),
    ):
        root.file(CONFIG).write_text(settings)
        said = root.run(INSTALL, EXTRAS=extras)
        made_from = root.file("/opt/device-agent-versions") / Path(in_use(root)).name / "share/device-agent/made-from"
        expect("extras", f"extras {expected}" in made_from.read_text().splitlines(), True)
        if settings != edited and "metrics.port in /etc/device-agent/config.yaml needs" not in said:
            raise Broken(said)
    root.file(CONFIG).write_text(edited)
    if "there is no extra mqt" not in root.run(INSTALL, EXTRAS="mqt", fails=True):
        raise Broken("it takes an extra that there is not")
    return "mqtt, metrics"


def leaves_the_source_alone(root: Root) -> str:
    """Nothing of root's is left in what was downloaded."""
    left = {str(path) for path in root.file("/src").rglob("*") if path.name in ("__pycache__", "build")}
    left |= {str(path) for path in root.file("/src").rglob("*.egg-info")}
    expect("what is left in the source", left, set())
    return "as it was downloaded"


def keeps_what_the_owner_wrote(root: Root) -> str:
    """Edited settings stay; the new ones lie beside them while they differ."""
    with open(root.file(CONFIG), "a") as file:
        file.write("# the owner's own words\n")
    edited = root.file(CONFIG).read_text()
    ship(root, edits={"config.yaml": with_line("# a default to come")})
    said = root.run(INSTALL)
    expect("the settings", root.file(CONFIG).read_text(), edited)
    expect("those beside", root.file(f"{CONFIG}.new").read_text(), root.file("/src/config.yaml").read_text())
    if f"{CONFIG}.new" not in said:
        raise Broken(said)
    shutil.copy(root.file(f"{CONFIG}.new"), root.file(CONFIG))
    root.run(INSTALL)
    expect("new settings beside, when they are the same", root.file(f"{CONFIG}.new").exists(), False)
    root.file(CONFIG).write_text(edited)
    ship(root)
    root.run(INSTALL)
    return "kept through two upgrades"


def survives_a_failure(root: Root) -> str:
    """A version that cannot be built, or that does not start at all: nothing changes."""
    before, tree = root.state(), in_use(root)
    ship(root, NEXT, {"setup.cfg": lambda text: text.replace("PyYAML >=6.0", "PyYAML >=600")})
    unbuilt = root.run(INSTALL, fails=True).splitlines()[-1]
    ship(root, NEXT, {"device_agent/cli.py": lambda text: text + "\nimport no_such_thing\n"})
    root.run(INSTALL, fails=True)
    changed = {path for path, about in root.state().items() if before.get(path) != about}
    expect("changed files", changed - {str(root.file("/opt/device-agent-versions"))}, set())
    expect("the tree", (in_use(root), trees(root)), (tree, {Path(tree).name}))
    return unbuilt


def refuses_wrong_settings(root: Root) -> str:
    """A version that does not understand the owner's settings is not put into place."""
    tree, edited = in_use(root), root.file(CONFIG).read_text()
    root.file(CONFIG).write_text(edited.replace("  name: xai", "  nmae: xai", 1))
    ship(root, NEXT)
    said = root.run(INSTALL, fails=True)
    root.file(CONFIG).write_text(edited)
    expect("the tree", (in_use(root), trees(root)), (tree, {Path(tree).name}))
    ship(root)
    return next(line for line in said.splitlines() if "nmae" in line)


def clears_up_after_a_power_cut(root: Root) -> str:
    """Half a tree, from an installation that was cut off, does not stay."""
    shutil.copytree(root.file("/src"), root.file("/opt/device-agent-versions/9.9.9.half"))
    root.run(INSTALL)
    expect("trees", trees(root), {Path(in_use(root)).name})
    return "swept away"


def keeps_a_key(root: Root) -> str:
    """From a file: only root reads it, and no output shows it; the same one again changes nothing."""
    secret = f"xai-{secrets.token_hex(16)}"
    root.file("/root/xai.key").write_text(f"{secret}\n")
    said = root.run(INSTALL, KEY_FILE="/root/xai.key")
    expect("the key", (root.file(KEY).read_text(), mode(root, KEY)), (f"{secret}\n", "600 0:0"))
    expect("its folder", mode(root, "/etc/credstore"), "700 0:0")
    again = root.run(INSTALL, KEY_FILE="/root/xai.key")
    root.file("/root/xai.key").unlink()
    if secret in said + again or "There is no key" in said or NOTHING_TO_DO not in again:
        raise Broken(said + again)
    root.run(INSTALL, KEY_FILE="/root/xai.key", fails=True)
    for wrong, words in ((f'"{secret}"', "quotes"), (f"XAI_API_KEY={secret}", "a name in front of the key")):
        root.file("/root/xai.key").write_text(wrong)
        refused = root.run(INSTALL, KEY_FILE="/root/xai.key", fails=True)
        if words not in refused or secret in refused:
            raise Broken(refused)
    root.file("/root/xai.key").unlink()
    expect("the key, after wrong ones", root.file(KEY).read_text(), f"{secret}\n")
    return "mode 600 of root"


def uninstalls(root: Root) -> str:
    """What the owner wrote is what stays."""
    with root.file(CONFIG).open("a") as settings:
        settings.write("# of the owner\n")
    root.file(STATE).mkdir(mode=0o700)
    root.file(f"{STATE}/memory.json").write_text("{}")
    root.run("chown", "-R", "device-agent:", STATE)
    said = root.run(UNINSTALL)
    kept = {CONFIG, KEY, STATE}
    expect("what it says", {line.removeprefix("Kept: ") for line in said.splitlines() if line.startswith("Kept")}, kept)
    expect("what is left", root.files() - root.clean, kept | {"/etc/device-agent", f"{STATE}/memory.json"})
    if "not installed" not in root.run(UNINSTALL):
        raise Broken("it does not know that it is gone")
    return ", ".join(sorted(kept))


def purges(root: Root) -> str:
    """Nothing at all stays: no file, no user, no group, and no system package that it brought."""
    root.run(UNINSTALL, PURGE="1")
    root.run("apt-get", "-qq", "-y", "--purge", "autoremove", DEBIAN_FRONTEND="noninteractive")
    expect("what is left", root.files() - root.clean, set())
    left = {name for kind in ("passwd", "group") for name in root.names(kind) if name in ("device-agent", "gpio")}
    expect("users and groups", left, set())
    installed = set(root.run("dpkg-query", "--show", "--showformat=${Package}\n").split())
    brought = {name for name in installed - root.packages if not RECOMMENDED.match(name)}
    expect("packages", brought, set())
    return "as clean as before"


def asks_for_a_key(root: Root) -> str:
    """On a terminal, while there is no usable one, and without showing it."""
    secret = f"xai-{secrets.token_hex(16)}"
    said = _typed(root, f'"{secret}"', secret)
    if QUESTION not in said or "quotes" not in said or secret in said:
        raise Broken(said)
    expect("the key", (root.file(KEY).read_text(), mode(root, KEY)), (f"{secret}\n", "600 0:0"))
    if QUESTION in (again := _typed(root)):
        raise Broken(f"it asks again:\n{again}")
    root.file(KEY).unlink()
    if QUESTION not in (again := _typed(root, "")):
        raise Broken(f"it does not ask, and there is no key:\n{again}")
    root.run(UNINSTALL, PURGE="1")
    return "asked while there is none, not shown"


def takes_over(root: Root) -> str:
    """An environment that was made by hand in our place makes room."""
    root.run("python3", "-m", "venv", "--without-pip", "/opt/device-agent")
    root.run(INSTALL)
    expect("the version", root.run("device-agent", "--version"), f"device-agent {_version()}")
    expect("trees", trees(root), {Path(in_use(root)).name})
    root.run(UNINSTALL, PURGE="1")
    return "it became a tree, and was swept away"


def _typed(root: Root, *answers: str) -> str:
    """Install at a terminal, and type one of *answers* each time when asked; return all that the terminal showed."""
    shown, left = b"", list(answers)
    process, terminal = pty.fork()
    if process == 0:
        command = root.inside(INSTALL)
        os.execvp(command[0], command)  # noqa: S606  there is no shell, and none is wanted
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the terminal is closed
            break
        if left and shown.count(QUESTION.encode()) > len(answers) - len(left):
            os.write(terminal, left.pop(0).encode() + b"\n")
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    expect(f"its end:\n{shown.decode()}", status, 0)
    return shown.decode()


def _version() -> str:
    return re.search('__version__ = "(.*)"', (PROJECT / "device_agent/__init__.py").read_text())[1]  # type: ignore[index]


# As a package ---------------------------------------------------------------------------------------------------------


def builds_a_package(root: Root) -> str:
    """make deb, in two versions."""
    sizes = []
    packages = root.file("/packages")
    packages.mkdir()
    for version in (NEW, ""):
        ship(root, version, {"config.yaml": with_line("# a default of old")} if version else None)
        root.run("/src/systemd/deb.sh")
        for package in root.file("/src/build").glob("*.deb"):
            sizes.append(f"{package.name} {package.stat().st_size >> 10} kB")
            package.rename(packages / package.name)
    return ", ".join(sizes)


def installs_the_package(root: Root) -> str:
    """apt brings what it needs."""
    root.run("apt-get", "-qq", "update")
    said = _apt(root, "install", f"/packages/{_package(root, NEW)}")
    if "There is no key yet" not in said:
        raise Broken(said)
    expect("the command", root.run("device-agent", "--version"), f"device-agent {NEW}")
    expect("the unit", root.run("systemctl", "is-enabled", "device-agent"), "enabled")
    expect("the groups", root.run("id", "-Gn", "device-agent").split(), ["device-agent", "audio", "gpio"])
    return f"{_megabytes(root)} MB in /opt"


def _package(root: Root, version: str) -> str:
    return next(
        path.name for path in root.file("/packages").iterdir() if path.name.startswith(f"device-agent_{version}+")
    )


def _apt(root: Root, *words: str, fails: bool = False) -> str:
    options = ("-qq", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold")
    return root.run("apt-get", *options, *words, fails=fails, DEBIAN_FRONTEND="noninteractive")


def does_not_mix(root: Root) -> str:
    """The source is not installed beside the package."""
    ship(root)
    return root.run(INSTALL, fails=True)


def upgrades_the_package(root: Root) -> str:
    """Unedited settings follow, edited ones stay, and of the old tree nothing does."""
    _apt(root, "install", f"/packages/{_package(root, _version())}")
    expect("the version", root.run("device-agent", "--version"), f"device-agent {_version()}")
    expect("the settings", root.file(CONFIG).read_text(), (PROJECT / "config.yaml").read_text())
    expect("trees", trees(root), {Path(in_use(root)).name})
    with open(root.file(CONFIG), "a") as file:
        file.write("# the owner's own words\n")
    _apt(root, "install", "--allow-downgrades", f"/packages/{_package(root, NEW)}")
    if "the owner's own words" not in root.file(CONFIG).read_text():
        raise Broken("the settings are the new ones")
    return in_use(root)


def removes_the_package(root: Root) -> str:
    """Settings, key and memory stay, and then go."""
    root.file("/etc/credstore").mkdir(mode=0o700, exist_ok=True)
    root.file(KEY).write_text("a-key\n")
    root.file(STATE).mkdir()
    _apt(root, "remove", "device-agent")
    expect("what is left", root.files() - root.clean, {KEY, STATE, *DEBIANS})
    expect("the settings", root.file(CONFIG).exists(), True)
    _apt(root, "purge", "device-agent")
    _apt(root, "--purge", "autoremove")
    expect("what is left of it", root.files() - root.clean, set())
    expect("its user", "device-agent" in root.names("passwd"), False)
    return "nothing is left after a purge"


def refuses_to_be_a_second_one(root: Root) -> str:
    """The package is not installed beside the source."""
    ship(root)
    root.run(INSTALL)
    said = _apt(root, "install", f"/packages/{_package(root, _version())}", fails=True)
    return next(line for line in said.splitlines() if "make uninstall" in line)


# Under a systemd that runs --------------------------------------------------------------------------------------------


def boots(root: Root) -> str:
    """What was installed before the machine booted runs now."""
    took = wait_for("the service", lambda: _unit(root, "ActiveState") == "active")
    return f"{_unit(root, 'StatusText')!r} {took:.1f} s after systemd"


def _unit(root: Root, name: str) -> str:
    return root.run("systemctl", "show", "--value", f"--property={name}", "device-agent")


def is_not_disturbed(root: Root) -> str:
    """Installed again, it goes on in peace."""
    before = _unit(root, "MainPID")
    root.run(INSTALL)  # lays new settings beside those of the owner
    expect("nothing to do", NOTHING_TO_DO in root.run(INSTALL), True)
    expect("the process", _unit(root, "MainPID"), before)
    return f"process {before} as before"


def restarts(root: Root) -> str:
    """An upgrade restarts it."""
    ship(root, NEXT)
    before = _unit(root, "MainPID")
    root.run(INSTALL)
    expect("the service", _unit(root, "ActiveState"), "active")
    after = _unit(root, "MainPID")
    expect("its program", Path(in_use(root)).name in root.run("cat", f"/proc/{after}/cmdline"), True)
    return f"process {before} became {after}"


def comes_back(root: Root) -> str:
    """A new version that does not start: the old one runs again, and says so."""
    before, settings = in_use(root), root.file(CONFIG).read_text()
    ship(
        root,
        "9.9.10",
        {"device_agent/app/daemon.py": lambda text: text + "\nraise SystemExit('a mistake of tomorrow')\n"},
    )
    said = root.run(INSTALL, fails=True)
    expect("the tree", (in_use(root), trees(root)), (before, {Path(before).name}))
    expect("the settings", root.file(CONFIG).read_text(), settings)
    expect("the service", _unit(root, "ActiveState"), "active")
    ship(root, NEXT)
    return said.splitlines()[-1]


def takes_another_key(root: Root) -> str:
    """One command stores a key, and the speaker uses it; the same one again disturbs nothing."""
    secret = secrets.token_hex(16)
    root.file("/root/new.key").write_text(f"{secret}\n")
    before = _unit(root, "MainPID")
    said = root.run("device-agent", "key", "--file", "/root/new.key")
    after = _unit(root, "MainPID")
    again = root.run("device-agent", "key", "--file", "/root/new.key")
    root.file("/root/new.key").unlink()
    expect("the key", (root.file(KEY).read_text(), mode(root, KEY)), (f"{secret}\n", "600 0:0"))
    expect("what it is shown", secret in root.run("cat", "/run/credentials/device-agent.service/api_key"), True)
    expect("another process", (after != before, _unit(root, "MainPID")), (True, after))
    if secret in said + again or "was restarted" not in said or "nothing to do" not in again:
        raise Broken(said + again)
    return f"process {before} became {after}"


def lets_no_second_one_in(root: Root) -> str:
    """A second agent, started by hand, says which one runs."""
    said = root.run("device-agent", "run", "--config", CONFIG, fails=True)
    expect("it names", f"as process {_unit(root, 'MainPID')}." in said, True)
    return said.splitlines()[-1]


def stays_off(root: Root) -> str:
    """A service that the owner switched off is still off after an upgrade."""
    root.run("systemctl", "disable", "--now", "device-agent")
    ship(root)
    root.run(INSTALL)
    expect("the service", (_unit(root, "ActiveState"), _unit(root, "UnitFileState")), ("inactive", "disabled"))
    root.run("systemctl", "enable", "--now", "device-agent")
    return "still disabled"


def ends(root: Root) -> str:
    """Uninstalled, it is gone; and only what it remembers and its settings stay."""
    root.run(UNINSTALL)
    expect("the unit", _unit(root, "LoadState"), "not-found")
    expect("its processes", root.run("find", "/proc", "-maxdepth", "1", "-user", "device-agent"), "")
    return f"left: {', '.join(path for path in (CONFIG, KEY, STATE) if root.file(path).exists())}"


def runs_as_a_package(root: Root) -> str:
    """The package starts it, restarts it and stops it."""
    _apt(root, "install", f"/packages/{_package(root, NEW)}")
    wait_for("the service", lambda: _unit(root, "ActiveState") == "active")
    before = _unit(root, "MainPID")
    _apt(root, "install", f"/packages/{_package(root, _version())}")
    wait_for("another process", lambda: _unit(root, "ActiveState") == "active" and _unit(root, "MainPID") != before)
    after = _unit(root, "MainPID")
    _apt(root, "remove", "device-agent")
    expect("the service", _unit(root, "ActiveState"), "inactive")
    return f"process {before} became {after}, and none"


# ----------------------------------------------------------------------------------------------------------------------

Step = Callable[[Root], str]
BY_HAND: tuple[Step, ...] = (
    installs,
    leaves_the_source_alone,
    takes_a_turn,
    runs,
    does_nothing_twice,
    upgrades,
    adds_extras,
    keeps_what_the_owner_wrote,
    survives_a_failure,
    refuses_wrong_settings,
    clears_up_after_a_power_cut,
    keeps_a_key,
    uninstalls,
    purges,
    asks_for_a_key,
    takes_over,
)
PACKAGE: tuple[Step, ...] = (
    installs_the_package,
    takes_a_turn,
    runs,
    does_not_mix,
    upgrades_the_package,
    takes_a_turn,
    removes_the_package,
    refuses_to_be_a_second_one,
)
BOOTED: tuple[Step, ...] = (
    boots,
    is_not_disturbed,
    takes_another_key,
    lets_no_second_one_in,
    restarts,
    comes_back,
    stays_off,
    ends,
)
SHORT: tuple[Step, ...] = (installs, was_compiled, runs, does_nothing_twice, keeps_a_key, uninstalls)
"""Without the demo, which plays in real time: an emulator is too slow for that."""


def main() -> int:
    """Take all steps that are asked for; return the exit status."""
    parser = argparse.ArgumentParser(description="Prove the installer in clean Debians.")
    parser.add_argument("--suite", default="bookworm", help="a release of Debian; default: %(default)s")
    parser.add_argument("--arch", default="amd64", help="amd64, arm64 or armhf; the last two are slow: a short proof")
    parser.add_argument("--only", choices=PARTS, help="only this part")
    parser.add_argument("--keep", type=Path, default=PROJECT / "build" / "install", help="where Debians are kept")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("this installs Debians: run it as root", file=sys.stderr)
        return 2
    options.keep.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    packed = base(options.keep.resolve(), options.suite, options.arch)
    print(
        f"device-agent on {options.suite}, {options.arch}: a clean Debian after {time.monotonic() - began:.0f} s",
        flush=True,
    )
    usual = ["short"] if options.arch != "amd64" else ["readme", "source", "package", "systemd"]
    parts = [options.only] if options.only else usual
    kept = [step for part in parts for step in PARTS[part](packed, options.keep.resolve())]
    print(f"{'all' if all(kept) else 'only'} {sum(kept)} of {len(kept)}, {time.monotonic() - began:.0f} s", flush=True)
    return 0 if all(kept) else 1


def prove(steps: tuple[Step, ...], root: Root) -> list[bool]:
    """Take steps one after the other, and tell of each; return which promises were kept."""
    kept = []
    for step in steps:
        began, mark = time.monotonic(), "ok  "
        try:
            text = step(root)
        except Exception as error:  # noqa: BLE001  whatever it is, the promise was not kept
            mark, text = "FAIL", f"{type(error).__name__}: {error}"
        kept.append(mark == "ok  ")
        print(f"{mark} {time.monotonic() - began:6.1f} s  {step.__name__.replace('_', ' '):28} {text}", flush=True)
    return kept


def source(packed: Path, keep: Path) -> list[bool]:
    """Installed from its source."""
    with unpacked(packed, keep) as root:
        return prove(BY_HAND, root)


def short(packed: Path, keep: Path) -> list[bool]:
    """The same, on a processor made of software."""
    with unpacked(packed, keep) as root:
        return prove(SHORT, root)


def package(packed: Path, keep: Path) -> list[bool]:
    """As a package, built in one Debian and installed in another; in the end under a systemd that runs."""
    with unpacked(packed, keep) as root:
        with unpacked(packed, keep) as workshop:
            kept = prove((builds_a_package,), workshop)
            workshop.file("/packages").rename(root.file("/packages"))
        kept += prove(PACKAGE, root)
        root.run(UNINSTALL)
        make_it_run_anywhere(root)
        with root.booted():
            return kept + prove((runs_as_a_package,), root)


def systemd(packed: Path, keep: Path) -> list[bool]:
    """Installed from its source, under a systemd that runs."""
    with unpacked(packed, keep) as root:
        ship(root)
        root.run(INSTALL)
        make_it_run_anywhere(root)
        with root.booted():
            return prove(BOOTED, root)


def make_it_run_anywhere(root: Root) -> None:
    """The owner edits the settings, and has a key."""
    root.file(CONFIG).parent.mkdir(exist_ok=True)
    root.file(CONFIG).write_text(QUIET)
    root.file(KEY).parent.mkdir(mode=0o700, exist_ok=True)
    root.file(KEY).write_text("a-key\n")


def readme(packed: Path, keep: Path) -> list[bool]:
    """As README says, command by command, on a machine that runs."""
    with unpacked(packed, keep) as root:
        prepare(root)
        with root.booted():
            return prove((walk,), root)


PARTS = {"readme": readme, "source": source, "short": short, "package": package, "systemd": systemd}


if __name__ == "__main__":
    sys.exit(main())
