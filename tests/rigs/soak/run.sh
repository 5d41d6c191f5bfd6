#!/usr/bin/env bash
# Recorders, shippers, hostile proxies and receivers, killed, starved and lied to at random; then
# every recorded byte is compared with what the receivers hold. See README.md beside this.
#
#   tests/rigs/soak/run.sh [--seed N] [--minutes M] [--runs K] [--patience S] [--keep] [--plan] [PATH-OF-SEALIFT]
#
# Root only: mounts, network and processes are in namespaces of its own, and gone with it. Without
# root or a tool the rig is skipped with exit code 77, and fails where CI=true.
set -euo pipefail
cd "$(dirname "$0")/../../.."

rig=soak
. tests/rigs/needs.sh
needs python3 openssl unshare mount tar zstd faketime
[ "$(id -u)" = 0 ] || cannot "only root can mount its disks"

options=()
while [ $# -gt 0 ]; do
    case $1 in
    --keep | --plan) options+=("$1") ;;
    --*) options+=("$1" "$2"); shift ;;
    *) break ;;
    esac
    shift
done
sealift=$(built "${1-target/release/sealift}")
umask 022
exec unshare --mount --propagation private --net --pid --fork --kill-child --mount-proc \
    sh -c 'mount -t tmpfs shm /dev/shm && exec python3 -B -X utf8 -u tests/rigs/soak/soak.py "$@"' soak "${options[@]}" "$sealift"
