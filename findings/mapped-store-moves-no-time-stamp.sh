#!/bin/bash
# A store through a shared mapping (mmap(2), MAP_SHARED; numpy.memmap) into a page that is dirty
# already moves no time stamp.
#
# Seen on Linux 6.18 with Python 3.11, on ext4 and on tmpfs. The first store into a clean page of a
# file on ext4 moves mtime and ctime; each later store changes the file's content, and every reader
# sees it at once, while mtime and ctime stay as they are until the page is written back (half a
# minute by default) and stored to again. On tmpfs no store through a mapping ever moves them. So a
# program that compares stamps before and after it has read a recording does not see that it was
# changed meanwhile.
#
# What does tell: fcntl(F_SETLEASE, F_RDLCK) answers EAGAIN for as long as the mapping stands, with
# no descriptor left open, and is granted once it is gone.
#
# Ends with 0 where all of this is so on each file system that was tried, with 1 where it is not.
set -euo pipefail
command -v python3 > /dev/null || { echo "python3 is missing"; exit 77; }
uname -sr
python3 --version
folder=$(mktemp -d)
memory=$(mktemp -d -p /dev/shm)
trap 'rm -rf "$folder" "$memory"' EXIT

cat > "$folder/try.py" <<'PYTHON'
import errno, fcntl, mmap, os, signal, sys

signal.signal(signal.SIGIO, lambda *_: None)
path, kind = sys.argv[1], sys.argv[2]


def stamps():
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ctime_ns


def lease():
    with open(path, "rb") as reader:
        try:
            fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as error:
            return errno.errorcode[error.errno]
        fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return "granted"


with open(path, "wb") as writer:
    writer.write(bytes(8192))
writer = open(path, "r+b")
mapping = mmap.mmap(writer.fileno(), 0)
writer.close()
mapping[0] = 1
before = stamps()
for value in range(2, 200):
    mapping[0] = value
with open(path, "rb") as reader:
    seen = reader.read(1)[0]
same, asked = stamps() == before, lease()
print(f"{kind}: read back {seen}; stamps {'as before' if same else 'moved'}; lease while mapped: {asked}", end="; ")
mapping.flush()
mapping[1] = 1
written_back = stamps() != before
print(f"a store after msync moved them: {written_back}", end="; ")
mapping.close()
after = lease()
print(f"after munmap: {after}")
is_so = (seen, same, asked, after) == (199, True, "EAGAIN", "granted")
sys.exit(0 if is_so and written_back == (kind != "tmpfs") else 1)
PYTHON

result=0
for path in "$folder/file" "$memory/file"; do
    kind=$(stat -f -c %T "$(dirname "$path")")
    python3 "$folder/try.py" "$path" "$kind" || result=1
done
exit $result
