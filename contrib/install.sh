#!/usr/bin/env bash
# Installs the shipper as a service; safe to run again, for an update or after it was broken off.
#
#   contrib/install.sh PATH-OF-SEALIFT     puts program, unit, user and manual in place; `sealift setup` makes the folders
#   contrib/install.sh --uninstall         takes them away again; data, configuration and user stay, and so does the program
#                                          where a receiver is installed, which runs it too
#
# Starts nothing. /etc/sealift/sealift.toml is made only where there is none; changes of the unit belong into
# `systemctl edit sealift`.
set -euo pipefail

prefix=/usr/local
binary=$prefix/bin/sealift
config=/etc/sealift/sealift.toml
unit=$prefix/lib/systemd/system/sealift.service
sysusers=$prefix/lib/sysusers.d/sealift.conf
# Of earlier versions, which had the folders made at each boot. Of ours, if it says so.
tmpfiles=$prefix/lib/tmpfiles.d/sealift.conf
share=$prefix/share
completions="$share/bash-completion/completions/sealift $share/zsh/site-functions/_sealift $share/fish/vendor_completions.d/sealift.fish"

fail() { echo "install.sh: $*" >&2; exit 1; }
usage() { sed -n '2,/^set /s/^#\( \|$\)//p' "$0"; exit "$1"; }
# In a container or an image that is being built there is no service manager to talk to.
manager_runs() { [ -d /run/systemd/system ]; }
# Whole or not at all: a running shipper goes on with the old one.
place() { install -D -m "$1" "$2" "$3.new" && mv -f "$3.new" "$3"; } # MODE FILE TARGET
forget_papers() { rm -f $completions "$share"/man/man1/sealift.1 "$share"/man/man1/sealift-*.1; }
forget_tmpfiles() { ! grep -qs '^d /.*/quarantine .*sealift' "$tmpfiles" || rm -f "$tmpfiles"; }
receiver_unit() { find {/etc,"$prefix/lib",/usr/lib,/lib}/systemd/system -maxdepth 1 -name sealift-receiver.service -print -quit 2>/dev/null || true; }

put_in_place() {
    local program here made page shell code=0
    # A path, whatever was given: a bare name would be looked for in PATH when it is run, and here when it is copied.
    program=$(realpath -e -- "$1" 2>/dev/null) && [ -f "$program" ] && [ -x "$program" ] ||
        fail "$1 is not there, or is no program: cargo build --release"
    # Before anything is touched: a program for another machine, or one whose libraries are missing.
    "$program" --version >/dev/null || fail "$program does not run here"
    here=$(dirname "$(realpath "$0")")

    place 644 "$here/sysusers.d/sealift.conf" "$sysusers"
    systemd-sysusers "$sysusers"
    place 755 "$program" "$binary"
    place 644 "$here/systemd/sealift.service" "$unit"
    [ -e "$config" ] || { install -d -m 755 "$(dirname "$config")" && install -m 640 -g sealift "$here/sealift.toml" "$config"; }
    # The manual and the completions, made by the program itself. A command that is no more has no page any more.
    forget_papers
    forget_tmpfiles
    made=$(mktemp -d)
    "$binary" man "$made"
    for page in "$made"/*.1; do place 644 "$page" "$share/man/man1/$(basename "$page")"; done
    for shell in $completions; do
        case $shell in */bash-*) page=bash ;; */zsh/*) page=zsh ;; *) page=fish ;; esac
        "$binary" completions "$page" >"$made/$page"
        place 644 "$made/$page" "$shell"
    done
    rm -r "$made"
    ! manager_runs || systemctl daemon-reload
    # The folders, for the unit's user; where no systemd says who that is, for sealift.
    "$binary" setup $(manager_runs || echo --user sealift) || code=$?
    [ $code != 2 ] || fail "program and unit are in place; sealift setup refused, and the folders are as they were. What it said is above"

    if [ $code = 0 ]; then
        echo "Installed: $("$binary" --version), $unit. What to do next:"
    else
        echo "Installed, but not all that sealift setup says above is done: $("$binary" --version), $unit. What to do next:"
        echo "  - sealift setup --dry-run    says again what was left, and why"
    fi
    echo "  - set the receiver's address in $config; then, as the user that ships:"
    echo "    runuser -u sealift -- sealift config check"
    echo "  - usermod -aG sealift USER    for each user that records; they create episodes with mode 2770"
    echo "  - systemctl enable --now sealift    or systemctl restart sealift, where the old one runs"
    echo "  - sealift doctor    says how it stands"
    return $code
}

take_away() {
    local kept receiver
    if manager_runs; then
        # Where it is not there any more, there is nothing to stop.
        systemctl disable --now --quiet sealift.service 2>/dev/null || true
        ! systemctl is-active --quiet sealift.service || fail "sealift.service does not stop"
    fi
    rm -f "$unit" "$sysusers"
    forget_tmpfiles
    receiver=$(receiver_unit)
    # The receiver's operator asks the program and its manual, too.
    [ -n "$receiver" ] || { rm -f "$binary" && forget_papers; }
    ! manager_runs || systemctl daemon-reload
    echo "Removed. Kept, and yours to remove:"
    [ -z "$receiver" ] || echo "  - $binary, which $receiver runs"
    for kept in /var/lib/sealift "$(dirname "$config")" /etc/systemd/system/sealift.service.d; do
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
