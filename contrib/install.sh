#!/usr/bin/env bash
# Installs the shipper as a service; safe to run again, for an update or after it was broken off.
#
#   contrib/install.sh PATH-OF-SEALIFT     puts everything in place, starts nothing, says what to do next
#   contrib/install.sh --uninstall         takes it away again; data, configuration and user stay
#
#   /usr/local/bin/sealift                        replaced in one step: a shipper that runs goes on as it was
#   /usr/local/lib/systemd/system/sealift.service ours, and replaced; changes belong into `systemctl edit sealift`
#   /usr/local/lib/{sysusers.d,tmpfiles.d}/sealift.conf
#   /usr/local/share/man/man1/sealift*.1          the manual, and what bash, zsh and fish complete: made by the program itself
#   /etc/sealift/sealift.toml                     only where there is none
#   /var/lib/sealift/                             the data
set -euo pipefail

prefix=/usr/local
binary=$prefix/bin/sealift
config=/etc/sealift/sealift.toml
data=/var/lib/sealift
unit=$prefix/lib/systemd/system/sealift.service
sysusers=$prefix/lib/sysusers.d/sealift.conf
tmpfiles=$prefix/lib/tmpfiles.d/sealift.conf
man=$prefix/share/man/man1
bash=$prefix/share/bash-completion/completions/sealift
zsh=$prefix/share/zsh/site-functions/_sealift
fish=$prefix/share/fish/vendor_completions.d/sealift.fish

fail() { echo "install.sh: $*" >&2; exit 1; }
usage() { sed -n '2,/^set /s/^#\( \|$\)//p' "$0"; exit "$1"; }
# In a container or an image that is being built there is nobody to talk to.
manager_runs() { [ -d /run/systemd/system ]; }

# Whole or not at all: whoever looks finds the old one or the new one.
place() { # MODE FILE TARGET
    mkdir -p "$(dirname "$3")"
    install -m "$1" "$2" "$3.new"
    mv -f "$3.new" "$3"
}

# Of the program that was just put in place, so that they are never another's.
put_papers_in_place() {
    local made page
    made=$(mktemp -d)
    "$binary" man "$made"
    # A command that is no more has no page any more.
    rm -f "$man"/sealift.1 "$man"/sealift-*.1
    for page in "$made"/*.1; do place 644 "$page" "$man/$(basename "$page")"; done
    "$binary" completions bash >"$made/bash"
    "$binary" completions zsh >"$made/zsh"
    "$binary" completions fish >"$made/fish"
    place 644 "$made/bash" "$bash"
    place 644 "$made/zsh" "$zsh"
    place 644 "$made/fish" "$fish"
    rm -r "$made"
}

put_in_place() {
    [ -f "$1" ] && [ -x "$1" ] || fail "$1 is not there, or is no program: cargo build --release"
    # Before anything is touched: a program for another machine, or one whose libraries are missing.
    "$1" --version >/dev/null || fail "$1 does not run here"
    local here
    here=$(dirname "$(realpath "$0")")

    place 644 "$here/sysusers.d/sealift.conf" "$sysusers"
    place 644 "$here/tmpfiles.d/sealift.conf" "$tmpfiles"
    systemd-sysusers "$sysusers"
    systemd-tmpfiles --create "$tmpfiles"
    place 755 "$1" "$binary"
    put_papers_in_place
    place 644 "$here/systemd/sealift.service" "$unit"
    if [ ! -e "$config" ]; then
        install -m 640 -g sealift "$here/sealift.toml" "$config.new"
        mv -n "$config.new" "$config"
    fi
    ! manager_runs || systemctl daemon-reload

    echo "Installed: $("$binary" --version), $unit"
    echo "What to do next:"
    if grep -q '^url = "https://receiver.example' "$config"; then
        echo "  - set the receiver's address in $config"
        echo "  - sealift config check                    says what is wrong with it"
    elif ! "$binary" config check --config "$config" >/dev/null 2>&1; then
        echo "  - mend $config; \`sealift config check\` says what is wrong with it"
    fi
    echo "  - usermod -aG sealift USER                for each user that records; they create episodes in $data/episodes with mode 2770"
    if manager_runs && systemctl is-active --quiet sealift; then
        echo "  - systemctl restart sealift               the running one is still the old one"
    else
        echo "  - systemctl enable --now sealift"
    fi
    echo "  - systemctl status sealift                says how it stands"
}

take_away() {
    if manager_runs; then
        # Where it is not there any more, there is nothing to stop.
        systemctl disable --now --quiet sealift.service 2>/dev/null || true
        ! systemctl is-active --quiet sealift.service || fail "sealift.service does not stop"
    fi
    rm -f "$unit" "$sysusers" "$tmpfiles" "$binary" "$bash" "$zsh" "$fish" "$man"/sealift.1 "$man"/sealift-*.1
    ! manager_runs || systemctl daemon-reload
    echo "Removed: program and service. Kept, and yours to remove:"
    local kept
    for kept in "$data" "$(dirname "$config")" /etc/systemd/system/sealift.service.d; do
        [ ! -e "$kept" ] || echo "  - $kept"
    done
    ! getent passwd sealift >/dev/null || echo "  - the user sealift (userdel sealift)"
}

[ $# = 1 ] || usage 2
case $1 in
-h | --help) usage 0 ;;
esac
[ "$(id -u)" = 0 ] || fail "only root can do this"
case $1 in
--uninstall) take_away ;;
-*) usage 2 ;;
*) put_in_place "$1" ;;
esac
