#!/bin/sh
# Second stage in the guest: the file systems a host has, then the test. "@@ rc=N" carries its exit code
# over the serial line; without that line nothing was proved.
exec </dev/console >/dev/console 2>&1
export PATH=/t:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 TERM=dumb
for mount in "tmpfs /tmp" "tmpfs /run" "tmpfs /var" "tracefs /sys/kernel/tracing" "debugfs /sys/kernel/debug" \
    "bpf /sys/fs/bpf" "securityfs /sys/kernel/security" "cgroup2 /sys/fs/cgroup"; do
    set -- $mount
    mount -t "$1" "$1" "$2" || echo "@@ note: $1 cannot be mounted on $2"
done
ip link set lo up
cd /tmp
python3 /t/kernel_guest.py serve --port 8000 &
timeout 1100 python3 /t/kernel_guest.py drive --pyapm /t/pyapm --pid $! --port 8000
code=$?
echo
echo "@@ rc=$code"
sync
poweroff -f
