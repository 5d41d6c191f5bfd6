#!/usr/bin/env bash
# What other software answers to a PUT, and what the shipper makes of it: no episode is retired that
# nobody stored, none is sent again that was stored, and a refusal is heard though a front hides it.
#
#   tests/rigs/fronts/run.sh [PATH-OF-SEALIFT [PART...]]
#
#   caddy     an address without a route answers an empty 200: held, nothing moved
#   apache    mod_dav answers 201 with an HTML page: delivered, sent once
#   wsgidav   the same, where it is on the PATH (pip install wsgidav cheroot)
#   varnish   answers 503 when the receiver refuses early: an episode outside of the commit window is quarantined all the same
#
# Needs caddy, apache2-bin and varnish (Debian's packages), curl and zstd; all of it listens on
# 127.0.0.1 and ends with the rig. Without them the rig is skipped with exit code 77, and fails
# where CI=true.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rig=fronts
. tests/rigs/needs.sh
needs caddy apache2 varnishd curl
sealift=$(built "${1-target/release/sealift}")
shift || true
parts=" ${*-caddy apache wsgidav varnish} "

work=$(mktemp -d)
chmod 755 "$work"
pids=()
finish() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'echo "fronts rig: line $LINENO failed" >&2; cat "$work"/*.log >&2 || true' ERR

free_port() {
    local port
    for port in $(shuf -i 20000-32000 -n 20); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}
begin() { # NAME PORT COMMAND...
    local name=$1 port=$2 _
    shift 2
    "$@" >"$work/$name.log" 2>&1 &
    pids+=($!)
    for _ in $(seq 1000); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        kill -0 "${pids[-1]}" || break
        read -r -t 0.02 <> <(:) || true
    done
    echo "fronts rig: $name does not listen" >&2
    return 1
}
# An episode that cannot be compressed, in a data folder of its own.
data=
seal() { # COMMIT BYTES
    data=$(mktemp -d -p "$work")
    mkdir -p "$data/episodes/run-1"
    head -c "$2" /dev/urandom >"$data/episodes/run-1/noise.bin"
    printf '{"code_version":{"commit":"%s"}}' "$1" >"$data/episodes/run-1/meta.json"
    "$sealift" seal "$data/episodes/run-1"
}
once() { # URL
    code=0
    "$sealift" ship --once --data "$data" --receiver "$1" >"$work/ship.log" 2>&1 || code=$?
}
# A list of checks joined by && ends no script where one of the first fails.
must() { "$@" || { echo "fronts rig: not so: $*" >&2; return 1; }; }
commit=0123456789abcdef0123456789abcdef01234567

if [[ $parts = *' caddy '* ]]; then
    port=$(free_port)
    printf '{\n\tadmin off\n\tauto_https off\n}\nhttp://receiver.example:%s {\n\tbind 127.0.0.1\n\trespond 201\n}\n' "$port" >"$work/Caddyfile"
    begin caddy "$port" env HOME="$work" XDG_DATA_HOME="$work" XDG_CONFIG_HOME="$work" caddy run --config "$work/Caddyfile" --adapter caddyfile
    must [ "$(curl -s -o /dev/null -w '%{http_code}' -T README.md "http://127.0.0.1:$port/a")" = 200 ]
    # Over a mebibyte the answer comes before the body.
    for bytes in 1000 3000000; do
        seal $commit $bytes
        once "http://127.0.0.1:$port"
        must [ "$code" = 1 ]
        must [ -d "$data/episodes/run-1" ]
        must [ ! -e "$data/shipped/run-1" ]
        must grep -q 'this is no receiver: is the host name or path right?' "$work/ship.log"
    done
    echo "caddy: an unrouted 200 moves nothing"
fi

if [[ $parts = *' apache '* ]]; then
    port=$(free_port)
    mkdir "$work/dav" "$work/lock"
    modules=/usr/lib/apache2/modules
    {
        printf 'ServerRoot %s\nServerName localhost\nListen 127.0.0.1:%s\nPidFile %s/apache.pid\nErrorLog %s/apache.log\n' "$work" "$port" "$work" "$work"
        for module in mpm_event authz_core dav dav_fs dir; do printf 'LoadModule %s_module %s/mod_%s.so\n' $module $modules $module; done
        printf 'DavLockDB %s/lock/db\nDocumentRoot %s/dav\n<Directory %s/dav>\nDav On\nRequire all granted\n</Directory>\n' "$work" "$work" "$work"
        [ "$(id -u)" != 0 ] || { chown www-data "$work/dav" "$work/lock"; printf 'User www-data\nGroup www-data\n'; }
    } >"$work/apache.conf"
    begin apache2 "$port" apache2 -f "$work/apache.conf" -DFOREGROUND
    seal $commit 3000000
    once "http://127.0.0.1:$port/{id}.tar.zst"
    must [ "$code" = 0 ]
    must [ -d "$data/shipped/run-1" ]
    must grep -q '"status_code": 201' "$data/shipped/run-1/shipping_receipt.json"
    must [ -s "$work/dav/run-1.tar.zst" ]
    echo "apache: a 201 with a page is an acknowledgement"
fi

if [[ $parts = *' wsgidav '* ]] && command -v wsgidav >/dev/null; then
    port=$(free_port)
    mkdir "$work/wsgidav"
    begin wsgi "$port" wsgidav --host=127.0.0.1 --port="$port" --root="$work/wsgidav" --auth=anonymous
    seal $commit 3000000
    once "http://127.0.0.1:$port/{id}.tar.zst"
    must [ "$code" = 0 ]
    must [ -d "$data/shipped/run-1" ]
    must [ "$(grep -c '"PUT /run-1' "$work/wsgi.log")" = 1 ]
    echo "wsgidav: a 201 with a page is an acknowledgement, and it was sent once"
fi

if [[ $parts = *' varnish '* ]]; then
    receiver=$(free_port)
    printf 'ffffffffffffffffffffffffffffffffffffffff\n' >"$work/window"
    printf '[receive]\ncommits_file = "%s/window"\n' "$work" >"$work/receive.toml"
    begin receiver "$receiver" "$sealift" receive --config "$work/receive.toml" --listen "127.0.0.1:$receiver" --store "$work/store"
    port=$(free_port)
    begin varnish "$port" varnishd -j none -F -n "$work/varnish" -a "127.0.0.1:$port" -b "127.0.0.1:$receiver"
    seal $commit 3000000
    once "http://127.0.0.1:$port"
    must [ "$code" = 1 ]
    must [ -d "$data/quarantine/run-1" ]
    must grep -q '"status_code": 412' "$data/quarantine/run-1/quarantine_reason.json"
    echo "varnish: a refusal that it hides is heard"
fi
