#!/usr/bin/env bash
# exfat-fuse 1.3.0: making a file or folder whose name exFAT cannot hold (`12:30.bin`, `run?`) in a
# folder that is there answers ENOENT ("No such file or directory"), not EINVAL as the kernel's vfat
# and exfat do. mkfifo(3) and bind(2) of a Unix socket answer EIO, as a failing disk would;
# symlink(2) answers ENOSYS, as an old kernel would. And the mkfifo(3) that failed has made
# something: a regular, empty file of that name.
#
# Who meets it: whatever copies recordings to a USB disk. ENOENT on a create is commonly taken for
# "the target folder is gone" (make it and try again) or for "the source is gone" (done, forget it),
# and EIO for a broken disk. What passes over the FIFO and compares the copy finds a file that it
# did not write.
#
# Needs: root, /dev/fuse, losetup(8), python3. Installs nothing: Debian 12's exfat-fuse and
# exfatprogs are unpacked into a temporary folder. Exits 1 if the behaviour changes, 77 if it cannot
# be tried. Seen: exfat-fuse 1.3.0+git20220115-2, Linux 6.18.44 (2026-11-29):
#   create 12:30.bin   ENOENT
#   mkdir  run?        ENOENT
#   mkfifo             EIO, and a regular file of 0 bytes is there
#   bind   socket      EIO
#   symlink            ENOSYS
set -euo pipefail
[ "$(id -u)" = 0 ] && [ -e /dev/fuse ] || { echo "needs root and /dev/fuse" >&2; exit 77; }
top=$(mktemp -d)
device=
clean() {
    umount -l "$top/mounted" 2>/dev/null || true
    [ -z "$device" ] || losetup -d "$device" || true
    rm -rf "$top"
}
trap clean EXIT
cd "$top"
chmod 755 .
apt-get download -q exfat-fuse=1.3.0+git20220115-2 exfatprogs=1.2.0-1+deb12u1 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" tree; done
mkdir mounted
truncate -s 16M disk.img
tree/usr/sbin/mkfs.exfat disk.img >/dev/null
device=$(losetup -f --show disk.img) || exit 77
"$(find tree -path "*sbin/mount.exfat-fuse")" "$device" mounted >/dev/null || exit 77
python3 - mounted <<'PYTHON'
import errno, os, socket, stat, sys

os.chdir(sys.argv[1])


def tried(act):
    try:
        act()
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]


seen = {
    "create 12:30.bin": tried(lambda: os.open("12:30.bin", os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    "mkdir run?": tried(lambda: os.mkdir("run?")),
    "mkfifo": tried(lambda: os.mkfifo("fifo")),
    "bind socket": tried(lambda: socket.socket(socket.AF_UNIX).bind("socket")),
    "symlink": tried(lambda: os.symlink("x", "link")),
}
left = os.lstat("fifo") if os.path.lexists("fifo") else None
if left is None or not stat.S_ISREG(left.st_mode) or left.st_size != 0:
    sys.exit("the mkfifo that failed leaves something else now, or nothing")
seen["mkfifo"] += ", and a regular file of 0 bytes is there"
for what, answer in seen.items():
    print(f"{what:18} {answer}")
sys.exit(list(seen.values()) != ["ENOENT", "ENOENT", "EIO, and a regular file of 0 bytes is there", "EIO", "ENOSYS"])
PYTHON
