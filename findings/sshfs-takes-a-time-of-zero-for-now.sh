#!/usr/bin/env bash
# sshfs: a file whose time is set to 1970-01-01T00:00:00Z gets the time of now, without an error.
#
# Zero is the time of files in reproducible archives and images, and what tar, rsync -t and cp -p
# hand on. utimensat(2) says that it was set. One second later than zero is kept. Who compares a
# copy with its source by its times finds each such file changed.
#
# Needs apt-get, root and /dev/fuse: sshfs and openssh-sftp-server are installed where they are
# missing. Ends with 0 where it is so, with 1 where it is not.
# Seen with sshfs 3.7.3 (Debian 12), 2026-11-30:
#   set to 0: now; set to 1: 1
set -euo pipefail
[ -x /usr/bin/sshfs ] && [ -x /usr/lib/openssh/sftp-server ] ||
    apt-get install -y -qq --no-install-recommends sshfs openssh-sftp-server >/dev/null
folder=$(mktemp -d)
trap 'umount -l "$folder/mount" 2>/dev/null || true; rm -rf "$folder/served"; rmdir "$folder/mount" "$folder"' EXIT
mkdir "$folder/served" "$folder/mount"
sshfs --version | grep SSHFS
timeout 60 python3 - "$folder" <<'PYTHON'
import os, socket, subprocess, sys, threading, time

folder = sys.argv[1]
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(1)


def serve():
    client, _ = listener.accept()
    subprocess.run(["/usr/lib/openssh/sftp-server"], stdin=client.fileno(), stdout=client.fileno())


threading.Thread(target=serve, daemon=True).start()
port = listener.getsockname()[1]
subprocess.run(["sshfs", "-o", f"directport={port}", f"localhost:{folder}/served", f"{folder}/mount"], check=True)
found = {}
for wanted in (0, 1):
    path = f"{folder}/mount/{wanted}"
    open(path, "w").close()
    os.utime(path, (wanted, wanted))
    found[wanted] = int(os.stat(f"{folder}/served/{wanted}").st_mtime)
is_now = abs(found[0] - time.time()) < 60
print(f"set to 0: {'now' if is_now else found[0]}; set to 1: {found[1]}")
subprocess.run(["umount", f"{folder}/mount"])
sys.exit(not (is_now and found[1] == 1))
PYTHON
