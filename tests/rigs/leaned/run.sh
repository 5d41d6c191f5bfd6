#!/usr/bin/env bash
# The receiver, leaned on at the sizes that users have: see leaned.py.
#
#   tests/rigs/leaned/run.sh [--archives N] [--downloads N] [PATH-OF-SEALIFT]
#
# Needs python3, and strace for the flushes that fail. Without them the rig is skipped with exit
# code 77, and fails where CI=true.
set -euo pipefail
cd "$(dirname "$0")/../../.."

rig=leaned
. tests/rigs/needs.sh
needs python3 strace
sizes=()
while [[ ${1-} = --* ]]; do
    sizes+=("$1" "$2")
    shift 2
done
sealift=$(built "${1-target/release/sealift}")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 tests/rigs/leaned/leaned.py "${sizes[@]}" "$sealift" "$work"
