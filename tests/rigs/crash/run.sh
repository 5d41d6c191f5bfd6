#!/usr/bin/env bash
# Kills both ends, and fails their disks, at every system call that changes something. See README.md
# beside this.
#
#   tests/rigs/crash/run.sh [NAME-OF-A-TEST]
#
# Needs strace, and no root. Without strace the tests say so and pass; where CI=true they fail.
set -euo pipefail
cd "$(dirname "$0")/../../.."
exec cargo test --locked --test it "crash_sweep::${1-}" -- --ignored --nocapture --test-threads 2
