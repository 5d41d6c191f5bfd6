#!/usr/bin/env bash
# The service under a real systemd: boots one as PID 1 in namespaces of its own, installs the unit
# with contrib/install.sh, and tries what docs/operations.md promises (checks.sh).
#
#   tests/rigs/systemd/run.sh PATH-OF-SEALIFT [NAME-OF-A-CHECK...]
#
# SEALIFT_RIG_RECEIVER may name another build for the receiver. Takes three minutes or so. Needs
# root, systemd, dbus, bindfs, openssl and python3 (.ci/install). Without them it is skipped with
# exit code 77, and fails where CI=true. Everything lies in memory and is gone afterwards.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rig=systemd
. tests/rigs/needs.sh
[ "$(id -u)" = 0 ] || cannot "only root can have namespaces with mounts and devices in them"
[ -x /lib/systemd/systemd ] || cannot "systemd is not installed (.ci/install)"
needs dbus-daemon bindfs openssl python3 unshare nsenter
[ $# -ge 1 ] || { echo "systemd rig: which sealift? tests/rigs/systemd/run.sh target/release/sealift" >&2; exit 2; }
sealift=$(built "$1")
shift
# Whoever wants to have died with us needs mounts of its own, before anything else.
if [ "${SEALIFT_RIG_INSIDE-}" != yes ]; then
    SEALIFT_RIG_INSIDE=yes exec unshare --mount --propagation private "$0" "$sealift" "$@"
fi

work=$(mktemp -d)
unshare_pid=
cgroup=
finish() {
    if [ -n "$unshare_pid" ]; then
        # With it goes its only child, the PID 1 of the namespace, and with that everything inside.
        # It ignores SIGTERM.
        kill -KILL "$unshare_pid" 2>/dev/null || true
        wait "$unshare_pid" 2>/dev/null || true
    fi
    if [ -n "$cgroup" ]; then
        for _ in $(seq 100); do
            find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break
            pause
        done
    fi
    cd /
    umount -l "$work/cgroup" "$work/memory" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'echo "systemd rig: line $LINENO failed" >&2' ERR
exec {never}<> <(:)
pause() { read -r -t 0.05 -u "$never" || true; }

mkdir "$work/memory" "$work/cgroup"
mount -t tmpfs -o mode=755 none "$work/memory"
mkdir "$work/memory/rig"
cp -r contrib tests/rigs/systemd/{checks.sh,peers.py,journal.py} "$work/memory/rig/"
cp "$sealift" "$work/memory/rig/sealift"
cp "${SEALIFT_RIG_RECEIVER:-$sealift}" "$work/memory/rig/receiver"
# A group of its own, which is all that the systemd inside sees of them.
mount -t cgroup2 none "$work/cgroup" || cannot "no cgroup2 can be mounted here"
cgroup=$work/cgroup/sealift-rig-$$
mkdir "$cgroup"

(
    echo "$BASHPID" >"$cgroup/cgroup.procs"
    exec unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --net \
        "$PWD/tests/rigs/systemd/boot.sh" "$work/memory"
) >"$work/boot.log" 2>&1 &
unshare_pid=$!
inside() {
    nsenter -t "$init" -a env -i HOME=/root TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
init=
for _ in $(seq 600); do
    kill -0 "$unshare_pid" 2>/dev/null || break
    init=$(pgrep -P "$unshare_pid" -x systemd) || { pause; continue; }
    state=$(inside systemctl is-system-running 2>/dev/null) || true
    [ "$state" != running ] || break
    pause
done
if [ "${state-}" != running ]; then
    cat "$work/boot.log" >&2
    [ -z "$init" ] || inside journalctl --no-pager -b -p notice >&2 || true
    echo "systemd rig: systemd did not come up: ${state-}" >&2
    exit 1
fi
inside bash /rig/checks.sh "$@"
