#!/usr/bin/env bash
# The shipper on a real NFS mount: a virtual machine whose kernel serves a folder by NFSv4.2 and
# mounts it itself (guest.sh).
#
#   tests/rigs/nfs/run.sh PATH-OF-SEALIFT [SEALIFT-OF-THE-RECEIVER]
#
# Takes two minutes or so, without KVM, and no root. qemu, kernel, busybox and the NFS server's
# programs are fetched as Debian packages into target/rigs/nfs and installed nowhere; what is
# installed is used. Where they cannot be had it is skipped with exit code 77, and fails where
# CI=true.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rig=nfs
. tests/rigs/needs.sh
# A machine that does nothing else takes a fifth of it.
limit_s=400

[ $# -ge 1 ] || { echo "nfs rig: which sealift? tests/rigs/nfs/run.sh target/release/sealift" >&2; exit 2; }
sealift=$(built "$1")
receiver=$(built "${2-$1}")
[ "$(uname -m)" = x86_64 ] || cannot "it is made for x86_64"
needs apt-get dpkg-deb ldd strip
fetched=$PWD/target/rigs/nfs
tests/rigs/nfs/fetch.sh "$fetched" || cannot "the packages cannot be had"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'echo "nfs rig: line $LINENO failed" >&2' ERR
root=$fetched/root
export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu

# What is installed already is not fetched.
program() { [ -x "$root/$1" ] && echo "$root/$1" || echo "/$1"; }

# ── the guest's root: busybox, the programs with their libraries, the modules ──
guest=$work/guest
mkdir -p "$guest"/{bin,sbin,etc,proc,sys,dev,run,tmp,lib,lib64,var/lib/nfs/v4recovery,lib/modules,rig}
busybox=$(find "$root" -path '*bin/busybox' -type f | head -1)
cp "$busybox" "$guest/bin/busybox"
ln -s busybox "$guest/bin/sh"
strip -o "$guest/rig/sealift" "$sealift"
strip -o "$guest/rig/receiver" "$receiver"
for program in rpc.nfsd rpc.mountd exportfs; do
    cp "$(program "usr/sbin/$program")" "$guest/sbin/"
done
ldd "$sealift" "$receiver" "$guest"/sbin/* | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/lib64\/[^ ]*\) .*/\1/p' | sort -u |
    while read -r library; do
        case $library in
        /lib64/*) cp -L "$library" "$guest/lib64/" ;;
        *) cp -L "$library" "$guest/lib/" ;;
        esac
    done
for database in protocols services netconfig; do
    [ ! -e "/etc/$database" ] || cp "/etc/$database" "$guest/etc/"
done
[ ! -e "$root/etc/netconfig" ] || cp "$root/etc/netconfig" "$guest/etc/"
echo 'root:x:0:0:root:/:/bin/sh' >"$guest/etc/passwd"
echo 'root:x:0:' >"$guest/etc/group"
echo '127.0.0.1 localhost' >"$guest/etc/hosts"
modules=$(echo "$root"/lib/modules/*)
for part in net/sunrpc net/dns_resolver fs/nfs fs/nfsd fs/nfs_common fs/lockd fs/fscache fs/netfs; do
    [ ! -d "$modules/kernel/$part" ] || { mkdir -p "$guest/lib/modules/${modules##*/}/kernel/$part" && cp -r "$modules/kernel/$part/." "$_"; }
done
cp "$modules"/modules.{order,builtin} "$guest/lib/modules/${modules##*/}/"
cp tests/rigs/nfs/guest.sh "$guest/init"
chmod +x "$guest/init"
(cd "$guest" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initrd"

# ── the guest ──
code=0
timeout --kill-after=5 "$limit_s" "$(program usr/bin/qemu-system-x86_64)" -accel tcg -cpu max -smp 2 -m 1024 -nodefaults -no-reboot -display none \
    -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -kernel "$root"/boot/vmlinuz-* -initrd "$work/initrd" \
    -append "console=ttyS0 quiet panic=-1" -serial stdio </dev/null >"$work/console" 2>&1 || code=$?
tr -d '\r' <"$work/console" | sed -n 's/^rig| //p'
if ! grep -q '^rig| nfs rig: [0-9]* passed, 0 failed' "$work/console"; then
    [ "$code" != 124 ] || echo "nfs rig: the guest was not through within $limit_s s" >&2
    echo "nfs rig: failed; the console's end:" >&2
    tr -d '\r' <"$work/console" | grep -v '^rig| ' | tail -40 >&2
    exit 1
fi
