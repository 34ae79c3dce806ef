#!/usr/bin/env bash
# Build a Debian package for this release and this kind of processor, with debhelper: systemd/deb.sh, or make deb.
# It is left in build/. EXTRAS=echo adds an extra to the simulator. Wants sudo where something that builds it is missing.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=$source/build/deb
work=$build/device-agent
# shellcheck source=systemd/apt.sh
. "$source/systemd/apt.sh"
# shellcheck source=systemd/extras.sh
. "$source/systemd/extras.sh"

main() {
  local package
  EXTRAS=$(add_extras simulator "${EXTRAS:-}")
  export EXTRAS
  copy_source
  write_changelog
  cd "$work"
  get_build_packages
  echo "Building the package, with $EXTRAS; this takes a minute, on a small board several ..."
  dpkg-buildpackage --build=binary --no-sign >"$build/log" 2>&1 || { tail -n 40 "$build/log" >&2 && exit 1; }
  mv "$build"/device-agent_*.deb "$source/build/"
  cd "$source"
  for package in build/device-agent_"$(version)"_*.deb; do
    echo "Built $package ($(du -k "$package" | cut -f1) kB). To install it: sudo apt install ./$package"
  done
}

# The program's own version, and the release that the package is for.
version() {
  (
    . /etc/os-release
    echo "$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$source/device_agent/__init__.py")+deb$VERSION_ID"
  )
}

# debhelper wants a folder debian at the top, and leaves there what it makes.
copy_source() {
  rm -rf "$build"
  mkdir -p "$work"
  cp -r "$source"/{device_agent,systemd,config.yaml,setup.cfg,pyproject.toml,README.md,CHANGELOG.md,LICENSE} "$work"
  mv "$work/systemd/debian" "$work"
  cp "$source/systemd/device-agent.service" "$work/debian/device-agent.service"
  cp "$source/systemd/device-agent.sysusers.conf" "$work/debian/device-agent.sysusers"
}

write_changelog() {
  cat >"$work/debian/changelog" <<END
device-agent ($(version)) unstable; urgency=medium

  * Built from its source.

 -- device_agent <noreply@device-agent.invalid>  $(date --rfc-email ${SOURCE_DATE_EPOCH:+-d @$SOURCE_DATE_EPOCH})
END
}

get_build_packages() {
  dpkg-checkbuilddeps 2>/dev/null && return
  install_packages dpkg-dev
  echo "Installing the tools that build the package ..."
  apt_get update
  apt_get build-dep --no-install-recommends ./
}

main
