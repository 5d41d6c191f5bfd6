#!/usr/bin/env bash
# Ships episodes to an nginx that knows nothing of Sealift, restores them with GNU tar (and bsdtar,
# where it is there) and compares: contents, permission bits, symlinks, file times.
#
#   tests/rigs/nginx/run.sh [--install] [PATH-OF-SEALIFT]
#
# Needs nginx with its DAV module, zstd and GNU tar; --install fetches them with apt-get (as root).
# Without them the rig is skipped with exit code 77, and fails where CI=true.
set -euo pipefail
cd "$(dirname "$0")/../../.."

if [ "${1-}" = --install ]; then
    shift
    .ci/install
fi
rig=nginx
. tests/rigs/needs.sh
needs nginx zstd tar
sealift=$(built "${1-target/release/sealift}")

work=$(mktemp -d)
nginx_pid=
finish() {
    [ -z "$nginx_pid" ] || { kill "$nginx_pid" 2>/dev/null; wait "$nginx_pid" 2>/dev/null; } || true
    chmod -R u+rwX "$work"
    rm -rf "$work"
}
trap finish EXIT
trap 'echo "nginx rig: line $LINENO failed" >&2' ERR

# nginx cannot be asked for a free port: take one that nobody listens on.
for port in $(shuf -i 20000-32000 -n 20); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
done
mkdir -p "$work/nginx/v1/episodes"
sed "s/127.0.0.1:8491/127.0.0.1:$port/" contrib/nginx/sealift-put.conf >"$work/put.conf"
# A master that runs as root has its workers drop to `nobody`, who could not write into a private
# folder.
as_root=()
[ "$(id -u)" != 0 ] || as_root=(-g 'user root;')
nginx -p "$work/nginx" -e stderr "${as_root[@]}" -c "$work/put.conf" &
nginx_pid=$!
up=
for _ in $(seq 500); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then up=yes; break; fi
    kill -0 "$nginx_pid" || { echo "nginx rig: nginx did not start" >&2; exit 1; }
    read -r -t 0.02 <> <(:) || true
done
[ -n "$up" ] || { echo "nginx rig: nginx does not answer" >&2; exit 1; }

episodes=$work/data/episodes
mkdir -p "$episodes"
make_episode() {
    local dir=$1
    mkdir -p "$dir/deep/er" "$dir/empty" "$dir/a"
    printf 'one line\n' >"$dir/note.txt"
    head -c 3000000 /dev/urandom >"$dir/noise.bin"
    seq 200000 >"$dir/deep/numbers.csv"
    : >"$dir/deep/er/empty-file"
    printf 'x' >"$dir/a-b"
    printf 'y' >"$dir/a/x"
    printf 'odd' >"$dir/grün 走 (1).txt"
    printf 'long' >"$dir/$(printf 'n%.0s' $(seq 200)).txt"
    truncate -s 1M "$dir/sparse"
    ln -s deep/numbers.csv "$dir/latest"
    ln -s /nowhere/at/all "$dir/dangling"
    ln "$dir/note.txt" "$dir/hard-link"
    chmod 0600 "$dir/note.txt"
    chmod 0755 "$dir/a-b"
    chmod 0440 "$dir/deep/numbers.csv"
    chmod 0750 "$dir/deep"
    chmod 0700 "$dir/deep/er"
    touch -d '2001-02-03 04:05:06 UTC' "$dir/noise.bin"
    touch -d '1970-01-01 00:00:01 UTC' "$dir/a/x"
    touch -d '2020-06-07 08:09:10 UTC' "$dir/deep/er/empty-file"
}
make_episode "$episodes/plain"
make_episode "$episodes/with manifest"
: >"$episodes/plain/done.marker"
"$sealift" seal "$episodes/with manifest" >/dev/null
mkdir "$episodes/still-open"

# Type, permission bits, size, link target of everything; the time of files, in whole seconds. What
# we add, and the times of folders and of the marker, are not part of the promise.
listing() {
    (cd "$1" && find . ! -name shipping_receipt.json \
        \( -type d -printf '%P/ %m\n' -o -type l -printf '%P -> %l\n' \
        -o -name done.marker -printf '%P %m %s\n' -o -type f -printf '%P %m %s %Ts\n' \) | LC_ALL=C sort)
    (cd "$1" && find . -type f ! -name shipping_receipt.json -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}
for id in plain "with manifest"; do
    listing "$episodes/$id" >"$work/$id.recorded"
done

"$sealift" ship --once --data "$work/data" --receiver "http://127.0.0.1:$port" 2>"$work/ship.log" ||
    { cat "$work/ship.log" >&2; exit 1; }

compare() { # PROGRAM ARCHIVE ID
    local restored=$work/restored
    mkdir "$restored"
    case $1 in
    tar) tar --zstd -xpf "$2" -C "$restored" ;;
    bsdtar) bsdtar -xpf "$2" -C "$restored" ;;
    esac
    listing "$restored/$3" >"$work/$3.restored"
    diff -u "$work/$3.recorded" "$work/$3.restored" || { echo "nginx rig: $1 restored $3 otherwise" >&2; exit 1; }
    chmod -R u+rwX "$restored"
    rm -rf "$restored"
}
restorers=tar
! command -v bsdtar >/dev/null || restorers="tar bsdtar"
for id in plain "with manifest"; do
    archive="$work/nginx/v1/episodes/$id"
    [ -f "$archive" ] || { echo "nginx rig: nginx does not hold $id" >&2; exit 1; }
    [ -f "$work/data/shipped/$id/shipping_receipt.json" ] || { echo "nginx rig: $id was not retired" >&2; exit 1; }
    grep -q '"receipt": null' "$work/data/shipped/$id/shipping_receipt.json"
    for restorer in $restorers; do compare "$restorer" "$archive" "$id"; done
done
[ -d "$episodes/still-open" ]

# The address may hold the whole name, and a receipt may be asked for that nginx cannot give: then
# nothing moves.
make_episode "$episodes/named"
: >"$episodes/named/done.marker"
"$sealift" ship --once --data "$work/data" --receiver "http://127.0.0.1:$port/v1/episodes/{id}.tar.zst" 2>"$work/ship.log"
[ -f "$work/nginx/v1/episodes/named.tar.zst" ]
make_episode "$episodes/proof"
: >"$episodes/proof/done.marker"
printf '[receiver]\nrequire_receipt = true\n' >"$work/strict.toml"
code=0
"$sealift" ship --once --config "$work/strict.toml" --data "$work/data" --receiver "http://127.0.0.1:$port" \
    2>"$work/ship.log" || code=$?
[ "$code" = 1 ] && [ -d "$episodes/proof" ] && grep -q require_receipt "$work/ship.log"

echo "nginx rig: delivered, restored with $restorers, the same"
