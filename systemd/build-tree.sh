#!/usr/bin/env bash
# Build a tree: the program in a Python environment of its own, and beside it what belongs elsewhere on the machine.
# build-tree.sh TREE [AS] builds it in TREE, to be used in the place AS; EXTRAS=simulator,echo are its extras.
#
# numpy, PyAudio and PyYAML are the system's, on a Raspberry Pi the pins too: on 64 bit nothing has to be compiled.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
tree=$(realpath -m "$1")
as=${2:-$tree}
extras=${EXTRAS-simulator}
share=$tree/share/device-agent
scratch=$tree/scratch

main() {
  make_environment
  install_program
  note_system_packages
  add_what_goes_elsewhere
  settle
  try_it
}

# An environment without a pip of its own: the only way to change a tree is to build another one.
make_environment() {
  /usr/bin/python3 -m venv --without-pip --system-site-packages "$tree"
  mkdir -p "$scratch/tmp"
}

# The program and what it needs, from a copy of the source: pip leaves things where it builds.
install_program() {
  mkdir "$scratch/source"
  cp -r "$source"/{device_agent,setup.cfg,pyproject.toml,README.md,LICENSE} "$scratch/source"
  find "$scratch/source" -name __pycache__ -prune -exec rm -r {} +
  TMPDIR=$scratch/tmp PIP_DISABLE_PIP_VERSION_CHECK=1 pip install --no-compile "$scratch/source${extras:+[$extras]}" \
    >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2 && exit 1; }
  rm -f "$tree"/lib/python3.*/site-packages/device_agent-*.dist-info/direct_url.json
}

# Debian's own pip, as python3-venv brings it.
pip() {
  local wheels=(/usr/share/python-wheels/pip-*.whl)
  "$tree/bin/python" "${wheels[0]}/pip" "$@"
}

# The Debian packages that the program uses from now on: apt must not clear them away as left over.
note_system_packages() {
  mkdir -p "$share"
  sed -n 's,^Requirement already satisfied: \([A-Za-z0-9._-]*\).* in /usr/lib/.*,\1,p' "$scratch/log" |
    xargs -r "$tree/bin/python" -I -c '
import sys
from importlib.metadata import distribution
for found in map(distribution, sys.argv[1:]):
    if str(found._path).startswith("/usr/lib/"):  # unless something else wanted a newer one
        print(found._path)' |
    xargs -r dpkg-query --search | cut -d: -f1 | sort -u >"$share/system-packages"
}

# What the installation puts into other places, as it was when this tree was built.
add_what_goes_elsewhere() {
  install -m 644 "$source"/config.yaml "$source"/systemd/device-agent.{service,sysusers.conf} "$share"
}

# The paths and the compiled modules become those of the place where the tree is used.
settle() {
  rm -r "$scratch"
  [ "$tree" = "$as" ] || find "$tree/pyvenv.cfg" "$tree/bin" -type f -exec sed -i "s|$tree|$as|g" {} +
  "$tree/bin/python" -m compileall -qf -s "$tree" -p "$as" "$tree/lib"
}

# Whatever is missing on this machine shows when it is imported: from the tree (-I), wherever this was started.
try_it() {
  "$tree/bin/python" -I -c 'import gpiozero, numpy, pyaudio, soxr, webrtcvad, websocket, yaml, device_agent.cli'
}

main
