#!/usr/bin/env bash
# Install system packages where they are missing: apt.sh NAMES. One line says which; what apt says is shown only where it
# fails. Other scripts take the functions alone.
set -euo pipefail

# install_packages NAMES: those that are missing; the array "installed" then holds them.
install_packages() {
  local name missing=()
  installed=()
  for name; do
    is_installed "$name" || missing+=("$name")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  echo "Installing system packages: ${missing[*]} ..."
  apt_get update
  apt_get install --no-install-recommends "${missing[@]}"
  installed=("${missing[@]}")
}

is_installed() {
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# apt_get COMMAND WORDS: as root, without questions, patient where another apt is at work; it does not keep the lock of
# the installer (9).
apt_get() {
  local said
  said=$(as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o DPkg::Lock::Timeout=600 "$1" -y "${@:2}" 2>&1 9>&-) || {
    echo "$said" >&2
    echo "System packages could not be installed (apt-get $1 failed): see above." >&2
    exit 1
  }
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "You are not root, and sudo is not installed. Become root first (su -), and try again."
    return 1
  fi
}

[ "${BASH_SOURCE[0]}" != "$0" ] || install_packages "$@"
