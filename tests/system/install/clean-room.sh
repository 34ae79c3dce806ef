#!/usr/bin/env bash
# clean-room.sh SUITE COMMAND...: run each COMMAND in a clone of this checkout, in a Debian that has nothing yet.
#
# SUITE is bookworm or trixie. The commands are run by an ordinary user with sudo, whose home is closed to others, in
# mount and process namespaces of their own: nothing of this machine can be written but the folder that is thrown away in
# the end. The ways out are this machine's: its settings of apt and pip, its authorities, its resolver. TAKE=FOLDER puts
# what is in that folder into build/ of the clone, before the commands; KEEP=FOLDER copies the files in build/ to that
# folder, after them. Wants root, mmdebstrap and git. Exit status: 0; 1, a command failed; 3, there is no room, because
# packages could not be had.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
project=$(realpath "$here/../../..")
suite=$1
shift
rooms=$project/build/clean-rooms
base=$rooms/$suite.tar
no_room=3

[ "$(id -u)" = 0 ] || { echo "This makes a Debian in a folder: run it with sudo." >&2; exit 2; }

make_base() {
  mmdebstrap --quiet --variant=apt --include=git,make,python3,ca-certificates,sudo,passwd,util-linux "$suite" \
    "$base.part.tar" && mv "$base.part.tar" "$base"
}

use_our_ways_out() { # ROOT
  local root=$1 each
  for each in /etc/apt/apt.conf.d/*; do
    case $each in
    *docker* | *packagekit* | *appstream* | *dep11*) ;;
    *) cp "$each" "$root/etc/apt/apt.conf.d/" ;;
    esac
  done
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  { printf '%s\n' '127.0.0.1 localhost' '127.0.1.1 speaker' && grep -v '^127\.\|^::1' /etc/hosts; } >"$root/etc/hosts" || true
  cp -L "${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/host-authorities.crt"
  ! [ -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/pip.conf"
}

add_user() { # ROOT
  local root=$1
  chroot "$root" useradd -m -s /bin/bash owner
  printf '%s\n' 'owner ALL=(ALL) NOPASSWD: ALL' 'Defaults env_keep += "PIP_CERT"' >"$root/etc/sudoers.d/owner"
  git clone --quiet --no-hardlinks "$project" "$root/home/owner/device-agent"
  [ -z "${TAKE:-}" ] || cp -r "$TAKE" "$root/home/owner/device-agent/build"
  chmod 700 "$root/home/owner"
  chroot "$root" chown -R owner: /home/owner/device-agent
}

enter() { # ROOT COMMAND...: by /bin/sh -c, as root
  local root=$1
  shift
  unshare --mount --pid --uts --fork --kill-child bash -c '
    hostname speaker
    . "$1/devices.sh"
    mount --make-rprivate /
    mount_kernel "$2"
    exec chroot "$2" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TERM="${TERM:-dumb}" \
      LANG=C.UTF-8 PIP_CERT=/etc/host-authorities.crt sh -c "$3"
  ' _ "$here" "$root" "$*" </dev/null
}

mkdir -p "$rooms"
room=$(mktemp -d "$rooms/$suite.XXXXXX")
trap 'rm -rf --one-file-system "$room"' EXIT
chmod 755 "$room"
[ -e "$base" ] || make_base || make_base || { echo "No Debian $suite: no mirror of it answers as it should." >&2; exit $no_room; }
tar -xf "$base" -C "$room"
use_our_ways_out "$room"
add_user "$room"
enter "$room" 'apt-get -qq update' || enter "$room" 'sleep 20; apt-get -qq update' ||
  { echo "No list of packages in Debian $suite: no mirror of it answers as it should." >&2; exit $no_room; }
for command; do
  began=$SECONDS
  echo "== Debian $suite, $(enter "$room" 'python3 --version'): $command"
  enter "$room" "su -w PIP_CERT,LANG,TERM -l owner -c 'cd device-agent && $command'" || {
    echo "== Debian $suite: $command failed after $((SECONDS - began)) s"
    exit 1
  }
  echo "== Debian $suite: $command took $((SECONDS - began)) s"
done
[ -z "${KEEP:-}" ] || find "$room/home/owner/device-agent/build" -maxdepth 1 -type f -exec cp -t "$KEEP" {} +
