#!/usr/bin/env bash
# Fetches a qemu, a kernel, a busybox and the NFS server's programs as Debian packages and unpacks
# them into a folder. Nothing is installed, and nothing that is installed changes.
#
#   fetch.sh FOLDER      FOLDER/root then holds them; done once, and again where FOLDER is removed
set -euo pipefail
mkdir -p "$1"
cd "$1"
[ ! -e complete ] || exit 0
rm -rf root packages
mkdir root packages
cd packages

kernel() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1; }
[ -n "$(kernel)" ] || apt-get update -qq
image=$(kernel)
[ -n "$image" ] || { echo "no package linux-image-cloud-amd64 can be had" >&2; exit 1; }
# What apt would install for them, and is not installed.
fetch() {
    local names
    names=$(apt-get install --simulate --no-install-recommends qemu-system-x86 nfs-kernel-server | sed -n 's/^Inst \([^ ]*\) .*/\1/p')
    # shellcheck disable=SC2086
    apt-get download -qq -o APT::Sandbox::User=root "$image" busybox-static $names
}
fetch || { apt-get update -qq && fetch; }
for package in *.deb; do
    dpkg-deb -x "$package" ../root
done
cd ..
rm -rf packages
: >complete
