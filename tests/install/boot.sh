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
for device in null zero full random urandom tty; do
  touch "dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs none dev/shm
ln -s pts/ptmx dev/ptmx
touch dev/console
mount --bind /dev/null dev/console
mount -t tmpfs -o mode=755 none run
mount -t tmpfs none tmp
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p mnt/host
pivot_root . mnt/host
umount -l /mnt/host
# systemd shows credentials to its services by a mount that it makes elsewhere.
mount --make-rshared /
exec env -i container=proof PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system
