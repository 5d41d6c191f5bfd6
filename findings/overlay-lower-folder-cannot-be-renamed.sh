#!/usr/bin/env bash
# overlayfs (Linux, without redirect_dir): a folder that the lower layer has cannot be renamed to
# any name, not even to a free one beside it in the same folder, where st_dev and the mount are the
# same. rename(2) answers EXDEV. A folder made through the overlay renames, and so does a file of
# the lower layer, so a trial with a folder of one's own tells nothing.
#
# Who meets it: whatever moves a recording by renaming its folder (spool, quarantine, "write to a
# temporary name, then rename"), on a host whose root is an overlay, or in a container with
# recordings in its image. EXDEV is usually taken to mean "another file system: copy, then rename
# the original aside and remove it"; the second rename fails as well, so the copy is made again and
# again.
#
# Needs: root, mount(8), python3. Nothing is installed. Exits 1 if the behaviour changes, 77 if an
# overlay cannot be mounted. Seen: Linux 6.18.44 (2026-11-29):
#   lower folder, within its folder   EXDEV (Invalid cross-device link), one st_dev: True
#   lower file, within its folder     ok
#   own folder, within its folder     ok
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 77; }
top=$(mktemp -d)
trap 'umount -l "$top/merged" "$top/disk" 2>/dev/null || true; rm -rf "$top"' EXIT
mkdir -p "$top"/{lower/episodes/run-1,merged,disk}
echo data >"$top/lower/episodes/run-1/data.bin"
echo note >"$top/lower/episodes/note"
mount -t tmpfs none "$top/disk"
mkdir "$top/disk/upper" "$top/disk/work"
mount -t overlay -o "lowerdir=$top/lower,upperdir=$top/disk/upper,workdir=$top/disk/work,redirect_dir=off" none "$top/merged" ||
    exit 77
uname -sr
python3 - "$top/merged/episodes" <<'PYTHON'
import errno, os, sys

os.chdir(sys.argv[1])
os.mkdir("own")
one_device = os.stat("run-1").st_dev == os.stat(".").st_dev == os.stat("own").st_dev


def rename(name):
    try:
        os.rename(name, name + ".aside")
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]


seen = {name: rename(name) for name in ("run-1", "note", "own")}
print("lower folder, within its folder  ", seen["run-1"], "- one st_dev:", one_device)
print("lower file, within its folder    ", seen["note"])
print("own folder, within its folder    ", seen["own"])
sys.exit(seen != {"run-1": "EXDEV", "note": "ok", "own": "ok"} or not one_device)
PYTHON
