#!/usr/bin/env bash
# systemd: `\x2f` in a quoted word of ExecStart= is a slash; in a quoted word of ReadWritePaths= it
# is the three letters `x2f`, without a word.
#
# Quoted words look the same in all lines of a unit, and systemd-escape, systemd.syntax(7) and
# ExecStart= make one take C-style escapes for granted. Lists of paths (ReadWritePaths=,
# ReadOnlyPaths=, InaccessiblePaths=) drop the backslash and keep what is behind it. A generator
# that escapes a folder's name so opens another folder to the service; a warning comes only where
# what is left is no absolute path.
#
# Needs apt-get, dpkg-deb and Debian 12's libraries; nothing is installed. Ends with 0 where it is
# so, with 1 where it is not.
# Seen with systemd 252 (252.38-1~deb12u1, 252.39-1~deb12u2), 2026-11-30:
#   ExecStart:       no complaint
#   ReadWritePaths:  path is not absolute, ignoring: x2fsrvx2fdata
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq -o APT::Sandbox::User=root systemd libsystemd-shared libsystemd0 >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root systemd libsystemd-shared libsystemd0; }
for package in *.deb; do
    dpkg-deb -x "$package" root
done
libraries=$(find "$folder/root" -name 'libsystemd*.so*' -printf '%h\n' | sort -u | paste -sd:)
analyze() { LD_LIBRARY_PATH=$libraries "$folder/root/usr/bin/systemd-analyze" "$@"; }

cat >probe.service <<'UNIT'
[Service]
ExecStart="\x2fbin\x2ftrue"
ReadWritePaths="\x2fsrv\x2fdata"
ReadOnlyPaths="\x2fsrv\x2fdata"
InaccessiblePaths="\x2fsrv\x2fdata"
UNIT
analyze --version | head -1
analyze verify ./probe.service >said 2>&1 || true
sed 's/^.*probe.service:/line /' said
[ "$(grep -c 'probe.service:2' said)" = 0 ] && [ "$(grep -c 'Paths= path is not absolute, ignoring: x2fsrvx2fdata' said)" = 3 ]
