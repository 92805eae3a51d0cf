#!/bin/busybox sh
# First stage in the guest: inserts the modules, mounts the root, hands over to /sbin/init there.
# A line that begins with "@@ stopped:" says why the second stage was never reached.
b=/bin/busybox
$b mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys

stop() {
    echo "@@ stopped: $1"
    $b poweroff -f
}

while read -r module; do
    $b insmod "/modules/$module" || stop "insmod $module failed"
done </modules/order

tries=0
while [ ! -b /dev/vda ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || stop "no /dev/vda after 10 s"
    $b usleep 50000
done
$b mount -t squashfs -o ro /dev/vda /ro || stop "the root cannot be mounted"
for mount in dev proc sys; do
    $b mount --move /$mount /ro/$mount || stop "/$mount cannot be moved"
done
exec $b switch_root /ro /sbin/init
