#!/usr/bin/env bash
# sshfs 3.7.3 (Debian 12): utimensat(2) with AT_SYMLINK_NOFOLLOW on a symlink sets the time stamps
# of the file that the link leads to, and answers ENOENT for a link that leads to nothing.
#
# SFTP's SETSTAT follows symlinks at the server, and sshfs has no other request. (OpenSSH's server
# offers `lsetstat@openssh.com` since version 8.0; sshfs 3.7.3 does not use it.) The client's cache
# of attributes hides it for up to 20 seconds: stat(2) of the file through the mount shows the old
# time, and the server has the new one.
#
# Who meets it: whatever copies a tree and keeps times (`cp -a`, `tar -x`). A file that was copied
# before its link ends with the link's time; a tree with a dangling link, or with a link that is
# copied before its file, ends with "No such file or directory" about a name that is there.
#
# Needs: root, /dev/fuse, sftp-server, python3. Installs nothing: Debian 12's sshfs is unpacked into
# a temporary folder. Exits 1 if the behaviour changes, 77 if it cannot be tried. Seen: sshfs
# 3.7.3-1.2~deb12u1, Linux 6.18.44 (2026-11-30):
#   the file, at the server:  2000, and was 1000
#   a dangling link           ENOENT
set -euo pipefail
server=/usr/lib/openssh/sftp-server
[ "$(id -u)" = 0 ] && [ -e /dev/fuse ] && [ -x "$server" ] || { echo "needs root, /dev/fuse, sftp-server" >&2; exit 77; }
top=$(mktemp -d)
trap 'umount -l "$top/mounted" 2>/dev/null || true; rm -rf "$top"' EXIT
cd "$top"
apt-get download -q sshfs=3.7.3-1.2~deb12u1 >apt.log 2>&1 || { cat apt.log >&2; exit 77; }
dpkg -x sshfs_*.deb tree
mkdir behind mounted
# No ssh and no network: sshfs talks to the server through a pipe.
printf '#!/bin/sh\nexec %s\n' "$server" >ssh
chmod +x ssh
tree/usr/bin/sshfs "host:$top/behind" mounted -o "ssh_command=$top/ssh" || exit 77
dpkg-deb -f sshfs_*.deb Version
python3 - <<'PYTHON'
import errno, os, sys

open("mounted/file", "w").close()
os.utime("mounted/file", (1000, 1000))
os.symlink("file", "mounted/link")
os.utime("mounted/link", (2000, 2000), follow_symlinks=False)
seen = int(os.stat("behind/file").st_mtime)
print(f"the file, at the server:  {seen}, and was 1000")
os.symlink("nowhere", "mounted/dangling")
try:
    os.utime("mounted/dangling", (2000, 2000), follow_symlinks=False)
    answer = "ok"
except OSError as error:
    answer = errno.errorcode[error.errno]
print(f"a dangling link           {answer}")
sys.exit((seen, answer) != (2000, "ENOENT"))
PYTHON
