#!/usr/bin/env bash
# Build what every proof of the unit begins with: a small Debian with a kernel that has ALSA's loopback card and simulated
# pins. base.sh DIRECTORY leaves there base.tar, vmlinuz and initrd.img. Wants root, mmdebstrap and the network.
set -euo pipefail
out=$1
suite=bookworm
source=linux-source-6.1
scratch=$(mktemp -d "$out/scratch.XXXX")
trap 'rm -rf "$scratch"' EXIT

debian() { # debian WHERE PACKAGES [OPTIONS]: only what was asked for, nothing to read
  mmdebstrap --quiet --variant=apt --mode=root --aptopt='Acquire::Languages "none"' \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="$2" "${@:3}" "$suite" "$1"
}

# Pins: Debian leaves gpio-sim and the interrupts it simulates out of its kernel, so they are made into one module. What
# irq_sim.c calls and modules may not, irq_to_desc, is the same as the inner one of the two functions that stand in for it.
workshop=$scratch/workshop
debian "$workshop" linux-headers-amd64,make,gcc,libc6-dev,xz-utils --skip=cleanup/apt/lists
chroot "$workshop" sh -c "cd /tmp && apt-get -qq -o APT::Sandbox::User=root download $source"
mkdir "$workshop/pins"
dpkg-deb --fsys-tarfile "$workshop"/tmp/${source}_*.deb | tar -xO "./usr/src/$source.tar.xz" |
  tar -xJ -C "$workshop/pins" --transform='s,.*/,,' \
    "$source/drivers/gpio/gpio-sim.c" "$source/drivers/gpio/gpiolib.h" "$source/kernel/irq/irq_sim.c"
mv "$workshop/pins/gpio-sim.c" "$workshop/pins/simulated.c"
sed -i 's/irq_to_desc(irqnum)/irq_data_to_desc(irq_get_irq_data(irqnum))/
        s/^#include <linux.irq_sim.h>/&\n#include <linux\/irqdesc.h>/' "$workshop/pins/irq_sim.c"
printf 'obj-m := gpio-sim.o\ngpio-sim-y := simulated.o irq_sim.o\n' >"$workshop/pins/Makefile"
headers=$(basename "$workshop"/usr/src/linux-headers-*-amd64)
chroot "$workshop" make -s -C "/usr/src/$headers" M=/pins modules

# The machine. Its initial file system has the modules that mount the root, and no others: that saves seconds.
root=$scratch/root
mkdir "$scratch/initramfs"
printf 'MODULES=list\nCOMPRESS=zstd\n' >"$scratch/initramfs/machine.conf"
printf '%s\n' virtio_pci virtio_blk ext4 >"$scratch/initramfs/modules"
wanted=ca-certificates,python3-venv,python3-numpy,python3-pyaudio,python3-yaml # by systemd/install.sh
debian "$root" "systemd-sysv,dbus,udev,kmod,initramfs-tools,zstd,linux-image-amd64,alsa-utils,$wanted" \
  --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
  --essential-hook="copy-in $scratch/initramfs/machine.conf /etc/initramfs-tools/conf.d" \
  --essential-hook="copy-in $scratch/initramfs/modules /etc/initramfs-tools"
kernel=${headers#linux-headers-}
install -Dm644 "$workshop/pins/gpio-sim.ko" "$root/lib/modules/$kernel/extra/gpio-sim.ko"
chroot "$root" depmod "$kernel"
mv "$root"/boot/vmlinuz-* "$out/vmlinuz"
mv "$root"/boot/initrd.img-* "$out/initrd.img"

# A board has the group that owns its pins; and what a board boots without costs seconds here.
echo 'SUBSYSTEM=="gpio", KERNEL=="gpiochip*", GROUP="gpio", MODE="0660"' >"$root/etc/udev/rules.d/60-gpio.rules"
echo '/dev/vda / ext4 rw,noatime 0 0' >"$root/etc/fstab"
echo speaker >"$root/etc/hostname"
echo '127.0.0.1 localhost speaker' >"$root/etc/hosts"
: >"$root/etc/machine-id"
for unit in systemd-pstore.service systemd-random-seed.service systemd-update-utmp.service e2scrub_reap.service \
  dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
  modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@dm_mod.service modprobe@loop.service \
  alsa-restore.service alsa-state.service getty@tty1.service systemd-timesyncd.service serial-getty@ttyS0.service \
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
  ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
tar -C "$root" -cf "$out/base.tar.new" .
mv "$out/base.tar.new" "$out/base.tar"
