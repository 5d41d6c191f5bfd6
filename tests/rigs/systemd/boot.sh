#!/usr/bin/env bash
# Becomes a systemd, PID 1 in namespaces of its own, with a root that is this machine's under a
# layer in memory. Nothing that it does is left behind, and nothing of it reaches the machine: its
# own /dev, /proc/sys and /sys read-only, its own loopback, and none of the services that would set
# up hardware or the clock. Called by run.sh, which has made the namespaces.
#
#   boot.sh FOLDER      an empty folder in memory; FOLDER/rig is seen inside as /rig
set -euo pipefail
cd "$1"
mount --make-rprivate /
mkdir layer work root
mount -t overlay -o lowerdir=/,upperdir=layer,workdir=work none root

mkdir -p root/rig
mount --bind rig root/rig
mount -t proc none root/proc
mount --bind root/proc/sys root/proc/sys
mount -o remount,bind,ro root/proc/sys
mount -t sysfs -o ro none root/sys
mount -t cgroup2 none root/sys/fs/cgroup
mount -t tmpfs -o mode=755 none root/run
mount -t tmpfs -o mode=1777 none root/tmp
mount -t tmpfs -o mode=755 none root/dev
for device in null zero full random urandom tty fuse; do
    [ ! -e "/dev/$device" ] || { : >"root/dev/$device"; mount --bind "/dev/$device" "root/dev/$device"; }
done
mkdir root/dev/pts root/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 none root/dev/pts
ln -s pts/ptmx root/dev/ptmx
ln -s /proc/self/fd root/dev/fd
mount -t tmpfs -o mode=1777 none root/dev/shm

# Only what the journal and the bus need.
units=root/etc/systemd/system
: >root/etc/fstab
for wanted in root/{usr/lib,etc}/systemd/system/{sysinit,local-fs,basic,sockets,timers,paths}.target.wants/*; do
    name=${wanted##*/}
    case $name in
    systemd-journald* | dbus.socket | systemd-tmpfiles-setup.service | '*') ;;
    *) ln -sf /dev/null "$units/$name" ;;
    esac
done
ln -sf /dev/null "$units/systemd-logind.service"
ln -sf /dev/null "$units/systemd-networkd.service"
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nRateLimitBurst=0\n' >root/etc/systemd/journald.conf
printf '[Unit]\nRequires=dbus.socket systemd-journald.service\nAfter=dbus.socket systemd-journald.service\n' >"$units/rig.target"

# Not chroot: in one, no unit could have a user namespace (unshare(2), EPERM).
cd root
pivot_root . .
umount -l .
exec env -i container=rig PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=rig.target --log-target=journal
