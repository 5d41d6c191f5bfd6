#!/usr/bin/env bash
# Ships an episode on one file system after the other, once with the whole data folder on it and
# once with `shipped/` alone, asks the doctor, and compares with what docs/filesystems.md says.
#
#   tests/rigs/peers/filesystems.sh [--install] [PATH-OF-SEALIFT [NAME...]]
#
# NAME is one of the functions below that are called so: `ext4`, `mergerfs`. Without a name all of
# them run; those that the kernel or this machine does not have are said, and are not tried. Root
# only, in a mount namespace of its own. --install fetches the programs with apt-get.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rig=filesystems
. tests/rigs/needs.sh
if [ "${1-}" = --install ]; then
    shift
    apt-get install -y --no-install-recommends xfsprogs btrfs-progs exfatprogs exfat-fuse ntfs-3g mergerfs \
        bindfs sshfs openssh-sftp-server gocryptfs fuse-overlayfs
fi
needs python3 curl
[ "$(id -u)" = 0 ] || cannot "needs root"
[ "${SEALIFT_RIG_UNSHARED-}" = yes ] || SEALIFT_RIG_UNSHARED=yes exec unshare -m --propagation private "$0" "$@"
PATH=$PATH:/usr/sbin:/sbin
sealift=$(built "${1-target/debug/sealift}")
shift || true

top=$(mktemp -d)
mount -t tmpfs none "$top"
clean() {
    kill "${receiver-}" 2>/dev/null || true
    findmnt -rno TARGET | grep "^$top" | sort -r | xargs -r umount -l || true
    rm -rf "$top"
}
trap clean EXIT
trap 'echo "filesystems rig: line $LINENO failed" >&2' ERR

# What the file system itself can do: a line of words.
cat >"$top/facts.py" <<'PYTHON'
import ctypes, errno, fcntl, os, select, sys

here, behind = sys.argv[1], sys.argv[2]
os.chdir(here)
libc = ctypes.CDLL(None, use_errno=True)


def tried(act):
    try:
        return act() or "ok"
    except OSError as error:
        return errno.errorcode[error.errno]


def write(name, text=b"x"):
    with open(name, "wb") as file:
        file.write(text)


def grain():
    write("stamp")
    wanted = 1_000_000_000_123_456_789
    os.utime("stamp", ns=(wanted, wanted))
    for name, step in (("ns", 1), ("100ns", 100), ("us", 1000), ("10ms", 10**7), ("s", 10**9), ("2s", 2 * 10**9)):
        if abs(os.stat("stamp").st_mtime_ns - wanted) < step:
            return name
    return "else"


def rename():
    os.mkdir("old")
    write("old/x")
    os.mkdir("to")
    os.rename("old", "to/new")
    return "ok" if os.path.exists("to/new/x") else "lost"


def noreplace():
    os.mkdir("from")
    if libc.renameat2(-100, b"from", -100, b"free", 1):
        raise OSError(ctypes.get_errno(), "")


def mode():
    os.mkdir("mode")
    os.chmod("mode", 0o2770)
    return "ok" if os.stat("mode").st_mode & 0o7777 == 0o2770 else "ignored"


def holes():
    with open("hole", "wb") as file:
        file.truncate(8 << 20)
        file.seek(8 << 20)
        file.write(b"x")
    os.sync()
    return "ok" if os.stat("hole").st_blocks * 512 < 1 << 20 else "none"


def case():
    write("Case")
    return "same" if os.path.exists("case") else "ok"


def four_gib():
    with open("long", "wb") as file:
        file.truncate((4 << 30) + 1)
    os.remove("long")


def lease():
    write("leased")
    writer = open("leased", "ab")
    reader = os.open("leased", os.O_RDONLY)
    try:
        fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        return "granted"
    except OSError as error:
        return "ok" if error.errno == errno.EAGAIN else errno.errorcode[error.errno]


def events(at):
    watch = libc.inotify_init1(os.O_NONBLOCK)
    if libc.inotify_add_watch(watch, b".", 0x100) < 0:
        raise OSError(ctypes.get_errno(), "")
    write(os.path.join(at, "seen-" + str(len(at))))
    return "ok" if select.select([watch], [], [], 0.3)[0] else "none"


words = [
    ("stamps", tried(grain)), ("rename", tried(rename)), ("noreplace", tried(noreplace)), ("mode", tried(mode)),
    ("holes", tried(holes)), ("symlink", tried(lambda: os.symlink("x", "link"))), ("fifo", tried(lambda: os.mkfifo("fifo"))),
    ("colon", tried(lambda: write("12:30"))), ("bytes", tried(lambda: write(b"\xff\xfe"))), ("case", tried(case)),
    ("4GiB", tried(four_gib)), ("lease", tried(lease)), ("events", tried(lambda: events("."))),
]
if behind:
    words.append(("behind", tried(lambda: events(behind))))
print(" ".join(f"{name}={what}" for name, what in words if what != "ok") or "all")
PYTHON

"$sealift" receive --listen 127.0.0.1:0 --store "$top/store" 2>"$top/receiver.log" &
receiver=$!
for _ in $(seq 500); do
    grep -q local_addr= "$top/receiver.log" && break
    read -rt 0.02 <> <(:) || true
done
url=http://$(sed -n 's/.*local_addr=\(127.0.0.1:[0-9]*\).*/\1/p' "$top/receiver.log")

# An episode with what not every disk can hold, and one that is plain.
record() { # FOLDER
    mkdir -p "$1"
    head -c 100000 /dev/urandom >"$1/samples.bin"
    truncate -s 8M "$1/samples.bin"
    # Not every file system has modes.
    chmod 2770 "$1" 2>/dev/null || true
    chmod 640 "$1/samples.bin" 2>/dev/null || true
    touch -d '2001-02-03 04:05:07.123 UTC' "$1/samples.bin"
    "$sealift" seal "$1" >/dev/null
}
# The first words of what became of it: delivered and moved, or why not.
once() { # DATA ID
    NO_COLOR=1 timeout 100 "$sealift" ship --once --config "$top/ship.toml" --data "$1" --receiver "$url" >/dev/null 2>"$top/ship.log" || true
    cat "$top/ship.log" >>"$top/$name.log"
}
# The rows of the doctor about disks that are not green, on this file system.
rows() { # DATA
    { "$sealift" doctor --json --config "$top/ship.toml" --data "$1" --receiver "$url" || true; } 2>/dev/null | python3 -c '
import json, sys
about = ("folders", "folder-access", "space", "moves", "watch-mode", "inotify", "open-files")
rows = [row for row in json.load(sys.stdin)["checks"] if row["id"] in about]
for row in rows:
    print(row["id"], row["status"], row["summary"], file=sys.stderr)
print("".join(" " + row["id"] + "=" + row["status"] for row in rows if row["status"] != "green"), end="")' 2>>"$top/$name.doctor"
}
# Tries the file system at a folder: FOLDER, and where the same is reached past it, if it is.
tried() { # FOLDER [BEHIND]
    local seen data=$1/data id=$name
    mkdir "$1/facts"
    seen="$(python3 "$top/facts.py" "$1/facts" "${2:+$2/facts}")"
    : >"$top/ship.toml"
    record "$data/episodes/$id-whole"
    once "$data" "$id-whole"
    [ -e "$data/shipped/$id-whole/shipping_receipt.json" ] || seen+=" whole=stays"
    seen+=$(rows "$data")
    # Only shipped/ is there: a move is a copy.
    mkdir "$1/shipped"
    local kind
    for kind in plain link colon fifo; do
        data=$top/$id-data
        printf '[shipper]\nshipped_dir = "%s/shipped"\n' "$1" >"$top/ship.toml"
        mkdir -p "$data/episodes/$id-$kind"
        case $kind in
        link) ln -s samples.bin "$data/episodes/$id-$kind/latest" ;;
        colon) : >"$data/episodes/$id-$kind/12:30.bin" ;;
        fifo) mkfifo "$data/episodes/$id-$kind/fifo" ;;
        esac
        record "$data/episodes/$id-$kind"
        once "$data" "$id-$kind"
        [ -e "$1/shipped/$id-$kind/shipping_receipt.json" ] || seen+=" $kind=stays"
    done
    seen+=$(rows "$data")
    if [ "$seen" = "$expected" ]; then
        echo "$name: $seen"
    else
        printf '%s rig: %s:\n  expected  %s\n  seen      %s\n' "$rig" "$name" "$expected" "$seen" >&2
        grep -hE 'WARN|ERROR' "$top/$name.log" | cut -c1-400 >&2 || true
        grep -v ' green ' "$top/$name.doctor" >&2 || true
        exit 1
    fi
}
untried() {
    echo "$name: not tried: $*" >&2
    exit 9
}
# A disk of its own, of 512 MB, mounted.
disk() { # MKFS... (the image is added)
    truncate -s 512M "$top/$name.img"
    "$@" "$top/$name.img" >"$top/mkfs.log" 2>&1 || untried "$(tail -1 "$top/mkfs.log")"
    device=$(losetup -f --show "$top/$name.img")
    # Once nothing has it open any more it goes by itself.
    exec 9<"$device"
    losetup -d "$device"
    mkdir "$top/$name"
}
mounted() { mount "$@" 2>"$top/mount.log" || untried "$(head -1 "$top/mount.log")"; }

ext4() { # mkfs.ext4
    expected="stamps=ns"
    disk mkfs.ext4 -q
    mounted "$device" "$top/$name"
    tried "$top/$name"
}
xfs() { # mkfs.xfs
    expected="stamps=ns"
    disk mkfs.xfs -q
    mounted "$device" "$top/$name"
    tried "$top/$name"
}
btrfs() { # mkfs.btrfs
    expected="stamps=ns"
    disk mkfs.btrfs -q
    mounted "$device" "$top/$name"
    tried "$top/$name"
}
exfat_fuse() { # mount.exfat-fuse
    expected="stamps=s noreplace=EINVAL mode=EPERM holes=none symlink=ENOSYS fifo=EIO colon=ENOENT bytes=EILSEQ case=same 4GiB=ENOSPC link=stays colon=stays"
    disk mkfs.exfat
    mount.exfat-fuse "$device" "$top/$name" >"$top/mount.log" 2>&1 || untried "$(tail -1 "$top/mount.log")"
    tried "$top/$name"
}
ntfs() { # lowntfs-3g
    expected="stamps=100ns noreplace=EINVAL mode=ignored bytes=EILSEQ"
    disk mkntfs -F -Q
    lowntfs-3g "$device" "$top/$name" >"$top/mount.log" 2>&1 || untried "$(tail -1 "$top/mount.log")"
    tried "$top/$name"
}
tmpfs() { # mount
    expected="stamps=ns"
    mkdir "$top/$name"
    mounted -t tmpfs none "$top/$name"
    tried "$top/$name"
}
overlay() { # mount
    expected="stamps=ns"
    mkdir -p "$top/$name" "$top/layers"/{lower,upper,work}
    mounted -t overlay -o "lowerdir=$top/layers/lower,upperdir=$top/layers/upper,workdir=$top/layers/work" none "$top/$name"
    tried "$top/$name"
}
fuse_overlayfs() { # fuse-overlayfs
    expected="stamps=ns behind=none"
    mkdir -p "$top/$name" "$top/fuse-layers"/{lower,upper,work}
    fuse-overlayfs -o "lowerdir=$top/fuse-layers/lower,upperdir=$top/fuse-layers/upper,workdir=$top/fuse-layers/work" "$top/$name"
    tried "$top/$name" "$top/fuse-layers/upper"
}
mergerfs() { # mergerfs
    expected="stamps=ns noreplace=EINVAL behind=none"
    mkdir -p "$top/$name" "$top/branches"/{one,two}
    command mergerfs "$top/branches/one:$top/branches/two" "$top/$name" -o category.create=ff
    tried "$top/$name" "$top/branches/one"
}
bindfs() { # bindfs
    expected="stamps=ns noreplace=EINVAL behind=none"
    mkdir -p "$top/$name" "$top/bound"
    command bindfs "$top/bound" "$top/$name"
    tried "$top/$name" "$top/bound"
}
sshfs() { # sshfs
    expected="stamps=s noreplace=EINVAL holes=none fifo=EPERM behind=none"
    mkdir -p "$top/$name" "$top/server"
    printf '#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n' >"$top/ssh"
    chmod +x "$top/ssh"
    command sshfs "host:$top/server" "$top/$name" -o "ssh_command=$top/ssh"
    tried "$top/$name" "$top/server"
}
gocryptfs() { # gocryptfs
    expected="stamps=ns"
    mkdir -p "$top/$name" "$top/cipher"
    command gocryptfs -q -init -scryptn 10 -extpass "echo secret" "$top/cipher" >/dev/null
    command gocryptfs -q -extpass "echo secret" "$top/cipher" "$top/$name" >/dev/null
    tried "$top/$name"
}

failures=()
parts=$(sed -n 's/^\([a-z0-9_]*\)() { # \([a-z0-9._-]*\)$/\1 \2/p' "$0")
wanted=("$@")
[ $# -gt 0 ] || mapfile -t wanted < <(cut -d ' ' -f 1 <<<"$parts")
for name in "${wanted[@]}"; do
    program=$(sed -n "s/^$name //p" <<<"$parts")
    [ -n "$program" ] || { echo "$rig rig: no part $name" >&2; exit 2; }
    # In a shell of its own, and not behind `||`: what fails ends it.
    set +e
    (
        set -e
        type -P "$program" >/dev/null || untried "$program is not installed (--install)"
        "$name"
    )
    status=$?
    set -e
    [ $status = 0 ] || [ $status = 9 ] || failures+=("$name")
done
[ ${#failures[@]} = 0 ] || { echo "$rig rig: failed: ${failures[*]}" >&2; exit 1; }
