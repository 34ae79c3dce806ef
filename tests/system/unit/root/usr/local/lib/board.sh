# A Raspberry Pi 4, as far as gpiozero looks: its revision, and a chip with 28 pins that one can press.
set -e
{ cat /proc/cpuinfo; printf 'Revision\t: b03114\n'; } >/run/cpuinfo
modprobe configfs
modprobe gpio-sim
chip=/sys/kernel/config/gpio-sim/pi
mkdir -p "$chip/bank0"
echo 28 >"$chip/bank0/num_lines"
echo pinctrl-bcm2835 >"$chip/bank0/label"
echo 1 >"$chip/live"
echo pull-up >/sys/devices/platform/gpio-sim.0/gpiochip0/sim_gpio17/pull
udevadm settle
