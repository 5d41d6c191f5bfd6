#!/usr/bin/env bash
# lowntfs-3g 2022.10.3 (Debian 12), mounted without `permissions`: chmod(2) answers success and
# changes nothing; the mode stays 0777. stat(2) right behind it shows the old mode. (exfat-fuse
# refuses the same call with EPERM.)
#
# Who meets it: whatever copies a recording there and back. The copy "kept" its modes without an
# error, so what is packed from it later is another archive than the one that was delivered: content
# that is compared by a digest over modes differs. To know whether a file system keeps modes, one
# has to set one and read it back.
#
# Needs: root, /dev/fuse, python3. Installs nothing: Debian 12's ntfs-3g and libntfs-3g are unpacked
# into a temporary folder. Exits 1 if the behaviour changes, 77 if it cannot be tried. Seen: ntfs-3g
# 2022.10.3-1+deb12u3, Linux 6.18.44 (2026-11-29):
#   chmod 2770 folder   ok, then 40777
#   chmod 600 file      ok, then 100777
set -euo pipefail
[ "$(id -u)" = 0 ] && [ -e /dev/fuse ] || { echo "needs root and /dev/fuse" >&2; exit 77; }
top=$(mktemp -d)
trap 'umount -l "$top/mounted" 2>/dev/null || true; rm -rf "$top"' EXIT
cd "$top"
chmod 755 .
apt-get download -q ntfs-3g=1:2022.10.3-1+deb12u3 libntfs-3g89=1:2022.10.3-1+deb12u3 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" tree; done
dpkg-deb -f ntfs-3g_*.deb Version
library=$(dirname "$(find tree -name 'libntfs-3g.so.*' | head -1)")
export LD_LIBRARY_PATH="$top/$library"
mkdir mounted
truncate -s 16M disk.img
"$(find tree -name mkntfs | head -1)" -F -Q disk.img >/dev/null 2>&1
"$(find tree -name lowntfs-3g -type f | head -1)" disk.img mounted || exit 77
python3 - mounted <<'PYTHON'
import os, sys

os.chdir(sys.argv[1])
os.mkdir("folder")
open("file", "w").close()
seen = []
for name, mode in (("folder", 0o2770), ("file", 0o600)):
    os.chmod(name, mode)
    seen.append(oct(os.stat(name).st_mode)[2:])
    print(f"chmod {mode:o} {name}: ok, then {seen[-1]}")
sys.exit(seen != ["40777", "100777"])
PYTHON
