# shellcheck shell=bash disable=SC2034
# Where everything is on a machine, for install.sh and uninstall.sh.

program=/opt/device-agent                 # a link to the tree in use
trees=/opt/device-agent-versions          # what build-tree.sh made, and notes about the installation
command=/usr/local/bin/device-agent
unit=/usr/local/lib/systemd/system/device-agent.service
sysusers=/usr/local/lib/sysusers.d/device-agent.conf
config=/etc/device-agent/config.yaml      # from here on it is the owner's
keys=/etc/credstore
key=$keys/device-agent.api_key
drop_ins=/etc/systemd/system/device-agent.service.d
state=/var/lib/device-agent
lock=/run/device-agent.install            # not in /run/lock, where every user may make a file of that name
user=device-agent
changed=

# did WORDS: something is not as it was, and the owner reads what.
did() {
  echo "  $*"
  changed=yes
}

# doing WORDS: what comes now takes more than a moment.
doing() {
  echo "  $* ..."
}

# fail WORDS: the end, and why.
fail() {
  echo "$*" >&2
  exit 1
}

# Whether a systemd runs here: not in a chroot, and in few containers.
is_running_systemd() {
  [ -d /run/systemd/system ]
}

how_to_be_root() {
  if command -v sudo >/dev/null; then echo "run it with sudo"; else echo "become root first (su -), and try again"; fi
}

# The owner is root, and one at a time.
begin() {
  [ "$(id -u)" = 0 ] || fail "This changes the system: $(how_to_be_root)."
  umask 077 # only root may open the lock: to open it is enough to hold it
  exec 9>"$lock"
  umask 022
  flock --nonblock 9 || fail "Another installation is under way."
  if dpkg-query --show --showformat='${db:Status-Abbrev}' device-agent 2>/dev/null | grep -q '^.i'; then
    fail "device-agent is installed as a Debian package: upgrade or remove it with apt."
  fi
}
