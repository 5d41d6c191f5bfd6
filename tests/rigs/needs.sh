# What a rig needs before it begins: sourced, not run. `rig` is its name.

# Skips the rig with exit code 77; where CI=true that is a failure.
cannot() {
    echo "$rig rig: $*" >&2
    [ "${CI-}" = true ] && exit 1
    exit 77
}

needs() { # TOOL...
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || cannot "$tool is not installed (.ci/install)"
    done
}

# The absolute path of a program that was built.
built() { # PATH
    [ -x "$1" ] || { echo "$rig rig: $1 is not there: cargo build, with --release for target/release" >&2; return 1; }
    realpath "$1"
}
