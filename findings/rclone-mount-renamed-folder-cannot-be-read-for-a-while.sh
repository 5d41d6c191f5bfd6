#!/usr/bin/env bash
# rclone mount --vfs-cache-mode writes (Debian 12, 1.60.1): behind the rename of a folder, a file in
# it that was written and flushed a moment before ends its first read with EIO, until it is written
# back.
#
# Seen on Linux 6.18 with FUSE, as root, over a plain folder of the machine (rclone's `local`).
#
#   1. mkdir a, write a/x, fsync a/x, mv a b: all succeed, and b/x is listed.
#   2. Reading b/x ends with EIO at once, and again for some five seconds (--vfs-write-back).
#   3. Then the same read gives what was written.
#   4. Where the file had been written back before the rename, it can be read at once.
# A program that builds a folder under a scratch name, renames it and reads it back takes the disk
# for broken, and one that looks for what it has copied before takes it for missing and copies anew.
# Version 1.60.1 prints, for example:
#   read behind the rename: cat: mounted/b/x: Input/output error
#   read after 5 s: recorded
#   written back before the rename, read at once: recorded
#
# Needs root, /dev/fuse, fusermount3, apt-get and dpkg. Installs nothing: the package is unpacked
# into a temporary folder.
# Exit code 0: as stated. 1: it behaves differently now. 77: it cannot be tried here.
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
mkdir behind mounted cache
package/usr/bin/rclone version | head -1
package/usr/bin/rclone --config none.conf mount "$work/behind" "$work/mounted" \
    --vfs-cache-mode writes --cache-dir "$work/cache" --daemon >rclone.log 2>&1 ||
    { cat rclone.log; exit 77; }

mkdir mounted/a
echo recorded >mounted/a/x
sync mounted/a/x
mv mounted/a mounted/b
[ "$(ls mounted/b)" = x ] || { echo "CHANGED: it is not listed"; exit 1; }
if said=$(LC_ALL=C cat mounted/b/x 2>&1); then
    echo "CHANGED: it can be read at once: $said"
    exit 1
fi
echo "read behind the rename: $said"
case $said in *"Input/output error"*) ;; *) echo "CHANGED: another error"; exit 1 ;; esac

seconds=0
until said=$(cat mounted/b/x 2>/dev/null); do
    [ "$seconds" -lt 60 ] || { echo "CHANGED: it cannot be read after a minute"; exit 1; }
    sleep 1
    seconds=$((seconds + 1))
done
echo "read after $seconds s: $said"
[ "$said" = recorded ] || { echo "CHANGED: it is not what was written"; exit 1; }

mkdir mounted/c
echo recorded >mounted/c/x
sync mounted/c/x
until [ -s behind/c/x ]; do sleep 1; done
# The cache knows a moment later than the folder behind it.
sleep 3
mv mounted/c mounted/d
said=$(cat mounted/d/x) || { echo "CHANGED: what was written back cannot be read either"; exit 1; }
echo "written back before the rename, read at once: $said"
echo "as stated"
