#!/usr/bin/env bash
# Reads the units in contrib/systemd as systemd would: no mistakes, and an exposure of 1.5 or less.
#
#   tests/rigs/units/run.sh [PATH-OF-SEALIFT]
#
# Needs systemd-analyze; systemd need not run. Without it the rig is skipped with exit code 77, and
# fails where CI=true.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rig=units
. tests/rigs/needs.sh
needs systemd-analyze
sealift=$(built "${1-target/release/sealift}")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'echo "units rig: line $LINENO failed" >&2' ERR
for unit in contrib/systemd/*.service; do
    name=$(basename "$unit")
    # The program stands elsewhere here, and verifying looks for it.
    sed "s#/usr/local/bin/sealift#$sealift#" "$unit" >"$work/$name"
    said=$(systemd-analyze verify "$work/$name" 2>&1) || { echo "$said" >&2; exit 1; }
    # What it only warns of is a mistake here: an unknown key, say.
    if grep -F "$name" <<<"$said" >&2; then exit 1; fi
    # In tenths.
    systemd-analyze security --offline=true --threshold=15 --no-pager "$work/$name" >"$work/$name.log" 2>&1 ||
        { cat "$work/$name.log" >&2; exit 1; }
    echo "units rig: $name: $(sed -n 's/^.*Overall exposure level.*: \([0-9.]*\).*/exposure \1/p' "$work/$name.log")"
done
