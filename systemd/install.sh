#!/usr/bin/env bash
# Install or upgrade the smart speaker as a service: sudo systemd/install.sh, or sudo make install.
#
#   KEY_FILE=xai.key    the key of the voice service; without it a terminal asks, while there is no usable one
#   EXTRAS=mqtt,-echo   extras of setup.cfg to add to those of the last time, or, with a -, to take away; what the
#                       settings need is added by itself. At first there is the simulator
#
# A new version is built beside the old one and takes its place in one step; where anything fails before, the old
# one goes on as if nothing had been. What the owner wrote stays as it is. A second run finds nothing to do.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$here")
# shellcheck source=systemd/places.sh
. "$here/places.sh"
# shellcheck source=systemd/apt.sh
. "$here/apt.sh"
# shellcheck source=systemd/extras.sh
. "$here/extras.sh"
tree=    # the one that this source has become
restart= # whether what runs is no longer what is installed

PACKAGES="ca-certificates systemd python3-venv python3-numpy python3-pyaudio python3-yaml"

main() {
  local old made_from
  begin
  old=$(in_use)
  EXTRAS=$(add_extras "$(extras_of "$old")" "${EXTRAS:-}")
  echo "device-agent $(version):"
  get_system_packages
  store_key
  add_what_the_settings_need
  export EXTRAS
  made_from=$(describe)
  tree=$old
  if ! is_up_to_date "$old" "$made_from"; then
    build "$made_from"
    read_config_with "$tree"
    adopt_a_tree_of_old
    old=$(in_use)
  fi
  make_default_config "$old" "$tree"
  put_in_place "$tree"
  run_it "$old" "$tree"
  sweep "$tree"
  say_what_is_next
}

# The tree that is in use, if there is one.
in_use() {
  [ ! -d "$program" ] || readlink -f "$program"
}

# What this source is called.
version() {
  sed -n 's/^__version__ = "\(.*\)"/\1/p' "$source/device_agent/__init__.py"
}

# extras_of TREE: those it was built with; at first the simulator.
extras_of() {
  local had
  had=$(sed -n 's/^extras //p' "$1/share/device-agent/made-from" 2>/dev/null) || had=simulator
  echo "$had"
}

# python WORDS: the system's, with the program of this source; it leaves nothing in there.
python() {
  PYTHONPATH=$source /usr/bin/python3 -P -s -B "$@" 9>&-
}

# The key is taken from a file, or typed while there is no usable one; it is never an argument and never shown.
store_key() {
  local before
  before=$(stored_keys)
  if [ -n "${KEY_FILE:-}" ]; then
    python -m device_agent key --no-restart --file "$KEY_FILE" || fail "Correct that and try again. Nothing was installed."
  elif [ -t 0 ]; then
    python -m device_agent key --no-restart --if-none || fail "Nothing was installed."
  fi
  [ "$before" != "$(stored_keys)" ] || return 0
  changed=yes
  restart=yes
}

stored_keys() {
  sha256sum "$keys"/device-agent.*key 2>/dev/null || true
}

# A setting that needs a library gets it, and the owner reads which.
add_what_the_settings_need() {
  local key extra
  [ -e "$config" ] || return 0
  while read -r key extra; do
    case ,$EXTRAS, in
      *,"$extra",*) ;;
      *)
        EXTRAS=$(add_extras "$EXTRAS" "$extra")
        did "added the extra $extra, which $key in $config needs"
        ;;
    esac
  done < <(needed_extras)
}

# Mistakes in the settings are told later, by the new version.
needed_extras() {
  python -c '
import sys
from contextlib import suppress
from pathlib import Path
from device_agent.config.load import parse_config
from device_agent.config.rules import wanted_extras
from device_agent.config.yaml_schema import read_file
from device_agent.core.errors import ConfigError
path = Path(sys.argv[1])
with suppress(ConfigError):
    for key, extra in wanted_extras(parse_config(read_file(path), path, alone=True).config):
        print(key, extra)' "$config"
}

# Compiled libraries come from the system. What this installs is written down for the uninstaller.
get_system_packages() {
  # shellcheck disable=SC2046  # names of packages
  install_packages $PACKAGES $(packages_of_the_board)
  [ "${#installed[@]}" -gt 0 ] || return 0
  mkdir -p "$trees"
  printf '%s\n' "${installed[@]}" >>"$trees/packages"
  did "installed ${installed[*]}"
}

# The pins of a Raspberry Pi; and on 32 bit, where without piwheels there are few wheels, what it takes to compile.
packages_of_the_board() {
  case $(dpkg --print-architecture) in
    amd64) ;;
    arm64) known python3-lgpio ;;
    *)
      known python3-lgpio python3-soxr
      grep -qs piwheels /etc/pip.conf || echo g++ python3-dev cmake ninja-build
      ;;
  esac
}

# known PACKAGES: those of them that this system can have.
known() {
  compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || apt_get update
  apt-cache policy "$@" | sed -n '/^[^ ]/h; /Candidate: [^(]/{g; s/:.*//; p}'
}

# What a tree is made from, in words that are the same where the tree would be.
describe() {
  echo "version $(version)"
  echo "extras $EXTRAS"
  /usr/bin/python3 -c 'import sys; print("python %d.%d" % sys.version_info[:2])'
  echo "source $(cd "$source" && sources | xargs -0 sha256sum | sha256sum | cut -c1-16)"
}

# The files that a tree is made from, each ended by a zero.
sources() {
  find device_agent setup.cfg pyproject.toml config.yaml systemd/build-tree.sh systemd/device-agent.* \
    -type f -not -path '*/__pycache__/*' -print0 | sort -z
}

# is_up_to_date TREE MADE_FROM: whether it is made from that, and works.
is_up_to_date() {
  [ "$(cat "$1/share/device-agent/made-from" 2>/dev/null)" = "$2" ] && "$1/bin/device-agent" --version >/dev/null 2>&1
}

# A new tree, beside the one in use; one that does not come into use leaves no trace.
build() {
  doing "building the program, with $EXTRAS: this takes a minute, on a small board several"
  mkdir -p "$trees"
  tree=$(mktemp -d "$trees/$(version).XXXX")
  trap '[ "$(in_use)" = "$tree" ] || rm -rf "$tree"' EXIT
  chmod 755 "$tree"
  PIP_CACHE_DIR=$trees/cache "$here/build-tree.sh" "$tree" 9>&- ||
    fail "The program could not be built: see above. Nothing was put into place."
  echo "$1" >"$tree/share/device-agent/made-from"
  xargs apt-mark -qq manual <"$tree/share/device-agent/system-packages" >/dev/null
  sync --file-system "$tree" # a power cut finds all of it or nothing
  did "built $tree"
}

# A version that does not understand the owner's settings is not installed.
read_config_with() {
  [ -e "$config" ] || return 0
  "$1/bin/python" -I -c '
import sys
from device_agent.config.load import load
from device_agent.config.rules import missing_extras
from device_agent.core.errors import ConfigError
try:
    for (key,), sentence in missing_extras(load(sys.argv[1])):
        print(f"  {sys.argv[1]}: {key} {sentence}")
except ConfigError as error:
    sys.exit(str(error))' "$config" || fail "Correct that and try again. Nothing was put into place."
}

# make_default_config OLD NEW: unedited settings become those of the new version; the owner's stay, and the new ones
# lie beside them.
make_default_config() {
  local default=$2/share/device-agent/config.yaml
  [ -e "$default" ] || return 0
  if [ ! -e "$config" ] || cmp -s "$config" "$1/share/device-agent/config.yaml"; then
    put "$default" "$config"
  fi
  if cmp -s "$default" "$config"; then
    rm -f "$config.new"
  else
    put "$default" "$config.new"
  fi
}

# put_in_place TREE: make it the one in use, in one step, with its unit, its user and its command.
put_in_place() {
  local share=$1/share/device-agent
  link "$1" "$program"
  link "$program/bin/device-agent" "$command"
  [ -d "$share" ] || return 0
  put "$share/device-agent.sysusers.conf" "$sysusers"
  getent passwd "$user" >/dev/null || did "made the user $user"
  SYSTEMD_LOG_LEVEL=warning systemd-sysusers "$sysusers"
  put "$share/device-agent.service" "$unit"
}

# An environment that was made by hand in our place becomes a tree like any other.
adopt_a_tree_of_old() {
  if [ -d "$program" ] && [ ! -L "$program" ]; then
    mv -T "$program" "$trees/by-hand"
    ln -s "$trees/by-hand" "$program"
  fi
}

# put SOURCE TARGET: the target is as the source, in one step; nothing happens where it was. What is written beside the
# owner's settings is for the owner to read.
put() {
  cmp -s "$1" "$2" && return
  install -D -m 644 "$1" "$2.part"
  mv "$2.part" "$2"
  [ "$2" = "$config.new" ] || restart=yes
  did "wrote $2"
}

# link SOURCE TARGET: the target is a link to the source, in one step.
link() {
  [ "$(readlink "$2")" != "$1" ] || return 0
  ln -sfn "$1" "$2.part"
  mv -T "$2.part" "$2"
  restart=yes
  did "linked $2 to $1"
}

# run_it OLD NEW: enabled once, restarted when something changed; where the old one ran and the new one does not start,
# the old one comes back.
run_it() {
  local ran=no
  if [ ! -e "$trees/enabled" ]; then
    systemctl --quiet enable device-agent
    touch "$trees/enabled"
    did "enabled it: it starts with the machine"
  fi
  is_running_systemd || return 0
  [ -n "$restart" ] && systemctl --quiet is-enabled device-agent || return 0
  systemctl --quiet is-active device-agent && ran=yes
  systemctl daemon-reload
  doing "starting it"
  if systemctl restart device-agent; then
    did "started it"
  elif [ "$ran" = yes ] && [ "$1" != "$2" ]; then
    make_default_config "$2" "$1"
    put_in_place "$1"
    systemctl daemon-reload
    systemctl restart device-agent
    fail "The new version did not start (journalctl -u device-agent); the old one runs again."
  fi
}

# Only the tree in use stays.
sweep() {
  find "$trees" -mindepth 1 -maxdepth 1 -type d ! -name cache ! -path "$1" -exec rm -rf {} +
}

# The last words: what is, and what the owner does next.
say_what_is_next() {
  [ -n "$changed" ] || echo "  nothing to do: it is installed as it should be"
  [ ! -e "$config.new" ] || echo "Your $config was kept; the new version's settings are in $config.new."
  [ -n "$(stored_keys)" ] || echo "There is no key yet. When you have one: sudo device-agent key"
  if ! is_running_systemd; then
    echo "No systemd runs here, so it was not started: it will be when the machine boots."
  elif ! systemctl --quiet is-active device-agent; then
    echo "It does not run. Its last log line: $(journalctl --lines 1 --output cat _SYSTEMD_UNIT=device-agent.service)"
  fi
  [ ! -e /etc/systemd/system/device-agent.service ] ||
    echo "/etc/systemd/system/device-agent.service is used instead of the unit of this version; put your changes into a drop-in."
  echo "Next: sudo device-agent check    journalctl -u device-agent -f    the settings: $config"
  ! is_failing || fail "It does not run, although there is a key. What is wrong, and what to do: sudo device-agent check"
}

# Whether it ends again and again, for another reason than that there is no key yet.
is_failing() {
  is_running_systemd && [ -n "$(stored_keys)" ] || return 1
  case $(systemctl show --property=ActiveState --value device-agent) in
    failed | activating) ;;
    *) return 1 ;;
  esac
}

main
