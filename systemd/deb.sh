#!/usr/bin/env bash
# Build a Debian package for this release and this kind of processor, with debhelper: systemd/deb.sh, or make deb.
# It is left in build/. EXTRAS=simulator,echo chooses extras. Wants sudo where something that builds it is missing.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=$source/build/deb
work=$build/device-agent

main() {
  copy_source
  write_changelog
  cd "$work"
  get_build_packages
  dpkg-buildpackage --build=binary --no-sign >"$build/log" 2>&1 || { tail -n 40 "$build/log" >&2 && exit 1; }
  mv "$build"/device-agent_*.deb "$source/build/"
  (cd "$source" && ls -s --block-size=K build/device-agent_"$(version)"_*.deb)
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
  as_root apt-get -qq -o DPkg::Lock::Timeout=600 update
  as_root apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends dpkg-dev >/dev/null
  as_root apt-get -qq -o DPkg::Lock::Timeout=600 build-dep -y --no-install-recommends ./ >/dev/null
}

as_root() {
  local sudo=()
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive "$@"
}

main
