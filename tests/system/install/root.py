"""A clean Debian in a folder, to be entered by commands, with or without a systemd that runs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PIP_SETTINGS = ("etc/pip.conf", "root/.config/pip/pip.conf", "root/.pip/pip.conf")
AUTHORITIES = "etc/host-authorities.crt"
"""The authorities that this machine trusts, which may be more than Debian's: pip has to reach the same places."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LONGEST_S = 3600.0
"""One command may take so long: arm under emulation compiles slowly."""
WATCHED = ("opt", "etc", "usr", "var/lib", "root", "home", "srv", "run", "tmp")
ITS_OWN = re.compile(
    r"run/|.*/__pycache__(/|$)|var/lib/(apt|dpkg|systemd|pam|ucf|polkit-1|dbus|private|python)(/|$)"
    r"|etc/(alternatives|apt|default|hosts|inputrc|machine-id|mtab|networks|pam\.d|profile\.d|python3|resolv\.conf)(/|$)"
    r"|etc/(credstore$|ssl/certs(/|$)|vconsole\.conf$)"
    r"|etc/(ca-certificates\.conf|ld\.so\.cache|\.pwd\.lock|(passwd|group|shadow|gshadow|subuid|subgid)-?$)"
    r"|etc/systemd/system/(\w|-)+\.target\.wants(/(?!device-agent)|$)|root/\.ssh$|usr/lib/[^/]+/lib(blas|lapack)\.so\.3$"
    r"|usr/local/(share/ca-certificates|lib/python3[^/]*(/dist-packages)?)$|usr/share/(info/dir|mime|glib)"
)
"""What Debian itself writes while packages come and go."""


class Broken(Exception):
    """A promise is."""


class Root:
    """One Debian, unpacked in *path*."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clean: set[str] = set()
        """What was there in the beginning: files, and the names of packages."""
        self.packages: set[str] = set()
        self._enter = ["unshare", "--mount", "--pid", "--fork", f"--root={path}", "--mount-proc"]

    def run(self, *command: str, fails: bool = False, **environment: str) -> str:
        """Run a command inside; return all it wrote. Raises Broken where it does not end as it should."""
        done = subprocess.run(
            self.inside(*command, **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LONGEST_S,
        )
        text = done.stdout.decode(errors="replace").strip()
        if (done.returncode != 0) is not fails:
            raise Broken(f"{' '.join(command)} ended with {done.returncode}:\n{text[-3000:]}")
        return text

    def inside(self, *command: str, **environment: str) -> list[str]:
        """Return the command that runs *command* inside."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "QEMU_"))}
        kept |= {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "PIP_CERT": f"/{AUTHORITIES}", **environment}
        return [*self._enter, "env", "-i", *(f"{name}={value}" for name, value in kept.items()), *command]

    def file(self, path: str) -> Path:
        """Return where a file of it is from outside. *path* begins with a slash; links are not followed."""
        return self.path / path.lstrip("/")

    def use_the_hosts_way_out(self) -> None:
        """Names and packages are found as on the host."""
        for name in ("etc/resolv.conf", *PIP_SETTINGS):
            if Path("/", name).exists():
                self.file(name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path("/", name), self.file(name))
        authorities = os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt")
        shutil.copyfile(authorities, self.file(AUTHORITIES))

    def files(self) -> set[str]:
        """Return all paths that no Debian package owns, but for what Debian itself writes."""
        owned: set[str] = set()
        for listing in self.file("/var/lib/dpkg/info").glob("*.list"):
            owned |= set(listing.read_text().split("\n"))
        merged = owned | {f"/usr{path}" for path in owned if path.startswith(("/lib", "/bin", "/sbin"))}
        found = set()
        for top in WATCHED:
            for folder, folders, names in os.walk(self.file(top)):
                here = Path(folder).relative_to(self.path)
                found |= {str(here / name) for name in (*folders, *names)}
        return {f"/{path}" for path in found if f"/{path}" not in merged and not ITS_OWN.match(path)}

    def state(self) -> dict[str, tuple[object, ...]]:
        """Return what an installation could change, file by file, with the moment each was last written."""
        places = ("opt", "etc", "usr/local", "var/lib/dpkg/info", "var/lib/device-agent")
        return {
            str(path): (about.st_mode, about.st_uid, about.st_ino, about.st_mtime_ns)
            for place in places
            for path in self.file(place).rglob("*")
            if "__pycache__" not in path.parts and "resolv.conf" not in path.name
            for about in [path.lstat()]
        }

    def names(self, kind: str) -> set[str]:
        """Return all users (kind passwd) or groups (kind group)."""
        return {line.split(":")[0] for line in self.file(f"/etc/{kind}").read_text().splitlines()}

    @contextmanager
    def booted(self) -> Iterator[None]:
        """Let systemd run in it as process 1 of new namespaces; commands then run among its processes."""
        group = Path(_control_groups(), f"device-agent-proof-{os.getpid()}")
        group.mkdir()
        log = tempfile.TemporaryFile()  # noqa: SIM115  closed below, where all else ends too
        script = Path(__file__).with_name("boot.sh")
        machine = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup", script, self.path],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: (group / "cgroup.procs").write_text("0"),  # noqa: PLW1509  there is one thread
        )
        entered, ours = self._enter, nodes()
        try:
            init = self._process_one(machine)
            self._enter = ["nsenter", f"--target={init}", "--mount", "--pid", "--uts", "--ipc", "--cgroup"]
            wait_for(
                "systemd", lambda: "basic.target" in self.run("sh", "-c", "systemctl list-units --state=active || true")
            )
            yield
        finally:
            self._enter = entered
            machine.kill()
            machine.wait()
            wait_for("the end of it", lambda: _is_removed(group))
            log.close()
            if nodes() != ours:
                raise Broken(f"it has changed this machine: {sorted(nodes() ^ ours)}")

    def _process_one(self, machine: subprocess.Popen[bytes]) -> int:
        children = Path(f"/proc/{machine.pid}/task/{machine.pid}/children")
        wait_for("its process 1", lambda: machine.poll() is not None or children.read_text().split())
        if machine.poll() is not None:
            raise Broken(f"no systemd: unshare ended with {machine.returncode}")
        init = int(children.read_text().split()[0])
        wait_for("systemd as process 1", lambda: Path(f"/proc/{init}/comm").read_text() == "systemd\n")
        return init


def nodes() -> set[tuple[str, int, int, int]]:
    """Return the devices of this machine that any program needs, with their owners and permissions."""
    found = {name: os.stat(f"/dev/{name}") for name in ("null", "zero", "full", "random", "urandom", "tty")}
    return {(name, about.st_mode, about.st_uid, about.st_gid) for name, about in found.items()}


def _control_groups() -> str:
    """Return where this machine has its second kind of control groups."""
    kinds = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next((kind[1] for kind in kinds if kind[2] == "cgroup2"), "/sys/fs/cgroup")


def _is_removed(group: Path) -> bool:
    with contextlib.suppress(OSError):
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()
    return not group.exists()


def wait_for(what: str, predicate: Callable[[], object], seconds: float = 60.0) -> float:
    """Wait until *predicate* is true; return how many seconds that took. Raises Broken where it stays false."""
    began = time.monotonic()
    while not predicate():
        if time.monotonic() - began > seconds:
            raise Broken(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - began


def base(keep: Path, suite: str, arch: str) -> Path:
    """Return the smallest Debian there is, packed; it is made once."""
    packed = keep / f"{suite}-{arch}.tar"
    if not packed.exists():
        part = packed.with_suffix(".part.tar")
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--architectures={arch}", suite, part], check=True
        )
        part.rename(packed)
    return packed


@contextmanager
def unpacked(packed: Path, keep: Path) -> Iterator[Root]:
    """Unpack a Debian, and throw it away in the end."""
    with tempfile.TemporaryDirectory(dir=keep) as folder:
        subprocess.run(["tar", "-xf", packed, "-C", folder], check=True)
        Path(folder).chmod(0o755)
        root = Root(Path(folder))
        root.use_the_hosts_way_out()
        root.clean = root.files()
        root.packages = set(root.run("dpkg-query", "--show", "--showformat=${Package}\n").split())
        yield root
