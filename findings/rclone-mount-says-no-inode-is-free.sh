#!/usr/bin/env bash
# rclone mount (Debian 12, 1.60.1): statvfs(3) says that no inode is free, and files can be made.
#
# Seen on Linux 6.18 with FUSE, as root, over a plain folder of the machine (rclone's `local`), with
# the default settings.
#
#   1. f_files is 1,000,000,000 and f_ffree, f_favail are 0, in an empty folder on a disk with room (`df -i` shows "IUse% 100%").
#   2. A file and a folder can be made there all the same.
# Who looks for free inodes before a copy, or raises an alarm for a disk without any, is wrong there
# for ever. The usual test for file systems that count no files, f_files being 0, does not find it.
# rclone 1.65.2 and 1.75.2 say that all of them are free. Version 1.60.1 prints, for example:
#   inodes: 1000000000 in all, 0 free
#   a file and a folder were made
#
# Needs root, /dev/fuse, fusermount3, apt-get and dpkg. Installs nothing: the package is unpacked
# into a temporary folder. Exit code 0: as stated. 1: it behaves differently now. 77: it cannot be
# tried here.
set -euo pipefail

[ "$(id -u)" = 0 ] && [ -e /dev/fuse ] && command -v fusermount3 >/dev/null ||
    { echo "skipped: needs root, /dev/fuse and fusermount3"; exit 77; }
work=$(mktemp -d)
trap 'umount -l "$work/mounted" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
version=1.60.1+dfsg-2+b5
{ apt-get download rclone=$version || { apt-get update && apt-get download rclone=$version; }; } >apt.log 2>&1 ||
    { cat apt.log; exit 77; }
dpkg -x rclone_*.deb package
mkdir behind mounted
package/usr/bin/rclone version | head -1
package/usr/bin/rclone --config none.conf mount "$work/behind" "$work/mounted" --daemon >rclone.log 2>&1 ||
    { cat rclone.log; exit 77; }

all=$(stat -f -c %c mounted)
free=$(stat -f -c %d mounted)
echo "inodes: $all in all, $free free"
[ "$all" -gt 0 ] && [ "$free" = 0 ] || { echo "CHANGED: some are free, or none are counted"; exit 1; }
touch mounted/file && mkdir mounted/folder || { echo "CHANGED: nothing can be made there"; exit 1; }
[ -e behind/file ] && [ -d behind/folder ] || { echo "CHANGED: what was made is not there"; exit 1; }
echo "a file and a folder were made"
echo "as stated"
