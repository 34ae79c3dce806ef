#!/usr/bin/env bash
# Take away what install.sh brought: sudo systemd/uninstall.sh, or sudo make uninstall. What the owner wrote stays:
# edited settings, keys, drop-ins, and what the speaker remembers. PURGE=1 takes these too.
set -euo pipefail
# shellcheck source=systemd/places.sh
. "$(dirname "$0")/places.sh"

main() {
  begin
  echo "device-agent:"
  stop
  remove_settings_nobody_edited
  remove "$unit" "$sysusers" "$command" "$config.new"
  release_packages
  remove "$program" "$trees"
  [ -z "${PURGE:-}" ] || remove "$config" "$drop_ins" "$keys"/device-agent.* "$state"
  remove_user
  rmdir /etc/device-agent "${sysusers%/*}" "${unit%/*}" "${unit%/system/*}" 2>/dev/null || true
  say_what_is_left
}

# It ends, and does not start with the machine any more.
stop() {
  [ -e "$unit" ] || return 0
  if is_running_systemd; then
    systemctl --quiet disable --now device-agent
  else
    systemctl --quiet disable device-agent
  fi
  did "stopped and disabled it"
}

remove_settings_nobody_edited() {
  ! cmp -s "$config" "$program/share/device-agent/config.yaml" || remove "$config"
}

# remove PATHS: those that are there.
remove() {
  local path
  for path in "$@"; do
    [ -e "$path" ] || [ -L "$path" ] || continue
    rm -rf "$path"
    did "removed $path"
  done
}

# What it brought of the system's stays until the owner clears up, because something else may use it by now.
release_packages() {
  [ -s "$trees/packages" ] || return 0
  xargs apt-mark -qq auto <"$trees/packages" >/dev/null
  did "kept its system packages; to remove them: sudo apt autoremove"
}

# The user goes, unless something still belongs to it.
remove_user() {
  if [ ! -e "$state" ] && getent passwd "$user" >/dev/null; then
    userdel "$user"
    did "removed the user $user"
    remove_a_group_without_pins
  fi
  ! is_running_systemd || systemctl daemon-reload
}

# Where no rule gives pins to the group gpio, our installation made it.
remove_a_group_without_pins() {
  local rules=(/etc/udev/rules.d /usr/lib/udev/rules.d /lib/udev/rules.d)
  if getent group gpio | grep -q ':$' && ! grep -rqs 'GROUP="gpio"' "${rules[@]}"; then
    groupdel gpio
    did "removed the group gpio"
  fi
}

# What stays, and where.
say_what_is_left() {
  local path
  [ -n "$changed" ] || echo "  nothing to do: it is not installed"
  for path in "$config" "$drop_ins" "$keys"/device-agent.* "$state"; do
    [ ! -e "$path" ] || echo "Kept: $path"
  done
}

main
