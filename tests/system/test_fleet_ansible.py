"""The playbook of docs/fleet/ansible, for real: a clean Debian under a systemd that runs becomes a speaker.

Ansible runs inside, as its own target. Wants root, the network and mmdebstrap: `make test-fleet`.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent / "install"))
from proof import CONFIG, KEY, PROJECT, expect, mode, ship
from root import Broken, Root, base, unpacked, wait_for

pytestmark = pytest.mark.fleet

PLAYS = PROJECT / "docs" / "fleet" / "ansible"
ANSIBLE = "/srv/ansible/bin"
SECRET, ANOTHER = "sk-of-the-kitchen", "sk-of-the-hall"
SETTINGS = {"button": {"pin": None}, "light": {"pin": None}}
"""With these it runs anywhere: it connects when it hears speech, and there is none."""


@pytest.fixture(scope="module")
def keep() -> Path:
    folder = PROJECT / "build" / "install"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def package(keep, tmp_path_factory) -> Path:
    """What `make deb` builds."""
    with unpacked(base(keep, "bookworm", "amd64"), keep) as workshop:
        ship(workshop)
        workshop.run("/src/systemd/deb.sh")
        (built,) = workshop.file("/src/build").glob("*.deb")
        return Path(shutil.copy(built, tmp_path_factory.mktemp("package")))


@pytest.fixture(scope="module")
def owner(keep, package) -> Iterator[Owner]:
    with unpacked(base(keep, "bookworm", "amd64"), keep) as root:
        root.run("apt-get", "-qq", "update")
        root.run("apt-get", "-qq", "-y", "--no-install-recommends", "install", "python3-venv", "python3-apt", "systemd")
        root.run("python3", "-m", "venv", "/srv/ansible")
        root.run(f"{ANSIBLE}/pip", "install", "--quiet", "ansible-core")
        shutil.copytree(PLAYS, root.file("/srv/plays"))
        shutil.copy(package, root.file("/srv/plays/device-agent.deb"))
        with root.booted():
            yield Owner(root)


class Owner:
    """An owner with an inventory, a vault and a playbook."""

    def __init__(self, root: Root) -> None:
        self.root = root
        root.file("/srv/password").write_text("open sesame\n")

    def writes(self, key: str, url: str) -> None:
        """Put settings into the inventory, and the key into its vault."""
        settings = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "speaker_package": "/srv/plays/device-agent.deb",
            "speaker_service": {"name": "xai", "url": url},
            "speaker_settings": SETTINGS,
        }
        inventory = yaml.safe_dump({"speakers": {"hosts": {"kitchen": None}, "vars": settings}})
        self.root.file("/srv/plays/hosts.yml").write_text(inventory)
        vault = self.root.file("/srv/plays/group_vars/speakers.yml")
        vault.parent.mkdir(exist_ok=True)
        vault.write_text(yaml.safe_dump({"speaker_key": key}))
        self._ansible("ansible-vault", "encrypt", "--vault-password-file=/srv/password", "group_vars/speakers.yml")
        assert key not in vault.read_text()

    def applies(self) -> int:
        """Run the playbook; return how many things were not as they should be."""
        told = self._ansible(
            "ansible-playbook", "--diff", "--inventory=hosts.yml", "--vault-password-file=/srv/password", "speakers.yml"
        )
        assert SECRET not in told
        assert ANOTHER not in told
        (changed,) = re.findall(r"changed=(\d+) .*unreachable=0 .*failed=0", told)
        return int(changed)

    def process(self) -> str:
        """Return the number of the process that the speaker is."""
        return self.root.run("systemctl", "show", "--property=MainPID", "--value", "device-agent")

    def _ansible(self, *words: str) -> str:
        program, *arguments = words
        return self.root.run("sh", "-c", 'cd /srv/plays && exec "$@"', "sh", f"{ANSIBLE}/{program}", *arguments)


def is_up(owner: Owner) -> bool:
    return owner.root.run("sh", "-c", "systemctl is-active device-agent || true") == "active"


def test_a_clean_debian_becomes_a_speaker_and_a_second_run_changes_nothing(owner):
    owner.writes(SECRET, "ws://127.0.0.1:9/")
    assert owner.applies() >= 4
    wait_for("the speaker", lambda: is_up(owner))
    expect("the key", mode(owner.root, KEY), "600 0:0")
    assert owner.root.file(KEY).read_text() == f"{SECRET}\n"
    assert yaml.safe_load(owner.root.file(CONFIG).read_text()) == {
        "service": {"name": "xai", "url": "ws://127.0.0.1:9/"},
        **SETTINGS,
    }
    runs = owner.process()
    assert owner.applies() == 0
    assert owner.process() == runs


def test_a_setting_is_taken_without_a_restart_and_a_key_with_one(owner):
    runs = owner.process()
    owner.writes(SECRET, "ws://127.0.0.1:10/")
    assert owner.applies() == 1
    assert owner.process() == runs
    wait_for("the edit", lambda: "127.0.0.1:10" in owner.root.run("device-agent", "config"))
    owner.writes(ANOTHER, "ws://127.0.0.1:10/")
    assert owner.applies() == 2  # the key, and the restart
    wait_for("the speaker", lambda: is_up(owner))
    assert owner.process() != runs
    assert owner.root.file(KEY).read_text() == f"{ANOTHER}\n"


def test_a_wrong_setting_does_not_reach_the_speaker(owner):
    before = owner.root.file(CONFIG).read_text()
    owner.writes(ANOTHER, "nowhere")
    with pytest.raises(Broken, match="service.url should be an address"):
        owner.applies()
    assert owner.root.file(CONFIG).read_text() == before
    assert is_up(owner)
