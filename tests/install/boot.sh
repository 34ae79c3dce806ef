#!/usr/bin/env bash
# boot.sh ROOT: become systemd in a Debian, in namespaces that the caller made. The network is the host's.
set -euo pipefail
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 none dev
# Nodes of its own: what systemd does to the rights of one of ours, it would do to that of the host.
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mknod -m 600 dev/console c 1 3 # it is a null, too: what a system says at its start is nobody's
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs none dev/shm
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 none run
mount -t tmpfs none tmp
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p mnt/host
pivot_root . mnt/host
umount -l /mnt/host
# systemd shows credentials to its services by a mount that it makes elsewhere.
mount --make-rshared /
exec env -i container=proof PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system
