# For rigs that run what the documents say: sourced, not run.

# The lines of a document between `<!-- tried: NAME -->` and `<!-- end -->`, without the four
# columns that make code of them.
documented() { # DOCUMENT NAME
    local lines
    lines=$(awk -v begin="<!-- tried: $2 -->" '
        $0 == "<!-- end -->" { inside = 0 }
        inside && (/^    / || /^$/) { print substr($0, 5) }
        $0 == begin { inside = 1 }' "$1")
    if [ -z "${lines//[[:space:]]/}" ]; then
        echo "$1 has no lines marked as tried: $2" >&2
        return 1
    fi
    printf '%s\n' "$lines"
}

# Waits until a command succeeds; fails where a process is gone before, or after ten seconds.
until_true() { # PID COMMAND...
    local pid=$1
    shift
    for _ in $(seq 500); do
        if "$@" 2>/dev/null; then return 0; fi
        kill -0 "$pid" 2>/dev/null || break
        read -r -t 0.02 <> <(:) || true
    done
    echo "not in time: $*" >&2
    return 1
}
