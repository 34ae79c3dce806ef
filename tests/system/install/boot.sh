#!/usr/bin/env bash
# boot.sh ROOT: become systemd in a Debian, in namespaces that the caller made. The network is the host's.
set -euo pipefail
. "$(dirname "$0")/devices.sh"
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount_kernel .
mknod -m 600 dev/console c 1 3 # a null device, too: the messages of the start are not of interest
mount -t tmpfs -o mode=755 none run
mount -t tmpfs none tmp
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p mnt/host
pivot_root . mnt/host
umount -l /mnt/host
# systemd shows credentials to its services by a mount that it makes elsewhere.
mount --make-rshared /
exec env -i container=proof PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system
