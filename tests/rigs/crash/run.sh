#!/usr/bin/env bash
# Kills both ends, and fails their disks, at every system call that changes something. See README.md
# beside this.
#
#   tests/rigs/crash/run.sh [PATH-OF-SEALIFT [NAME-OF-A-TEST]]
#
# Without a path it is Cargo's debug build. Needs strace, and no root. Without strace the tests say so and pass; where CI=true they fail.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rig=crash
. tests/rigs/needs.sh
[ $# = 0 ] || { SEALIFT_UNDER_TEST=$(built "$1") && export SEALIFT_UNDER_TEST; }
exec cargo test --locked --test it "crash_sweep::${2-}" -- --ignored --nocapture --test-threads 2
