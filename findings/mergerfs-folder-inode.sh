#!/usr/bin/env bash
# mergerfs (Debian 12, 2.33.5-1) with `use_ino`: the inode number of a folder is a hash of its path.
#
# Seen on Linux 6.18 with FUSE, as root, in the default inode calculation (inodecalc=hybrid-hash).
# The cache of attributes, one second by default, is off here: with it the old number may be seen
# for so long.
#
#   1. Each rename of a folder changes its st_ino, on one file system, with nothing in it touched. Its files keep theirs.
#   2. A folder that is removed and made anew under the same name has the st_ino of the one before, and statx(2) gives no
#      time of birth: nothing of stat(2) tells the two from one another.
# Who compares (st_dev, st_ino) of a folder before and after a rename takes it for another; who
# trusts it to tell an old folder from a new one of that name takes another for it. Version 2.33.5
# prints, for example:
#   before the rename  15532305594426174862   after it  6702266277056366338
#   removed and made anew under the old name: 15532305594426174862 again
#
# Needs root, /dev/fuse, apt-get and dpkg. Installs nothing: the package is unpacked into a
# temporary folder. Exit code 0: as stated. 1: it behaves differently now. 77: it cannot be tried
# here.
set -euo pipefail

[ "$(id -u)" = 0 ] && [ -e /dev/fuse ] || { echo "skipped: needs root and /dev/fuse"; exit 77; }
work=$(mktemp -d)
trap 'umount -l "$work/merged" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
chmod 755 "$work"
{ apt-get download mergerfs=2.33.5-1 || { apt-get update && apt-get download mergerfs=2.33.5-1; }; } >apt.log 2>&1 ||
    { cat apt.log; exit 77; }
dpkg -x mergerfs_*.deb package
mkdir one two merged
package/usr/bin/mergerfs -v | head -1
package/usr/bin/mergerfs -o use_ino,cache.attr=0,cache.entry=0,category.create=mfs "$work/one:$work/two" "$work/merged"

inode() { stat -c %i "$1"; }
mkdir merged/here merged/there merged/here/run
echo recorded >merged/here/run/data
folder=$(inode merged/here/run)
file=$(inode merged/here/run/data)
mv merged/here/run merged/there/run
echo "folder: $folder, renamed: $(inode merged/there/run); its file: $file, and then $(inode merged/there/run/data)"
[ "$(inode merged/there/run)" != "$folder" ] || { echo "CHANGED: a rename keeps the inode of a folder"; exit 1; }
[ "$(inode merged/there/run/data)" = "$file" ] || { echo "CHANGED: a rename changes the inode of a file in it"; exit 1; }
mkdir merged/here/run
echo "another folder of the old name: $(inode merged/here/run), born: $(stat -c %w merged/here/run)"
[ "$(inode merged/here/run)" = "$folder" ] || { echo "CHANGED: another folder of that name has another inode"; exit 1; }
[ "$(stat -c %w merged/here/run)" = - ] || { echo "CHANGED: the time of birth is known"; exit 1; }
echo "as stated"
