#!/usr/bin/env bash
# Ships through nginx as a front of `sealift receive`: contrib/nginx/sealift-front.conf, over TLS,
# with the certificates that docs/receiver.md makes.
#
#   tests/rigs/nginx/front.sh [PATH-OF-SEALIFT]
#
# Needs nginx, curl and openssl. Without them the rig is skipped with exit code 77, and fails where
# CI=true.
set -euo pipefail
cd "$(dirname "$0")/../../.."
. tests/rigs/documented.sh

rig=front
. tests/rigs/needs.sh
needs nginx curl openssl
sealift=$(built "${1-target/release/sealift}")

work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do { kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; } || true; done
    rm -rf "$work"
}
trap finish EXIT
trap 'echo "front rig: line $LINENO failed" >&2' ERR

documented docs/receiver.md certificates >"$work/certificates.sh"
cp contrib/nginx/sealift-front.conf "$work/front.conf"
cd "$work"
bash -euo pipefail certificates.sh >certificates.log 2>&1 || { cat certificates.log >&2; exit 1; }

NO_COLOR=1 "$sealift" receive --listen 127.0.0.1:0 --store store 2>receiver.log &
receiver_pid=$!
pids+=("$receiver_pid")
until_true "$receiver_pid" grep -q ' local_addr=' receiver.log || { cat receiver.log >&2; exit 1; }
behind=$(sed -n 's/.*local_addr=127\.0\.0\.1:\([0-9]*\).*/\1/p' receiver.log)

# nginx cannot be asked for a free port: take one that nobody listens on.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
for port in $(shuf -i 20000-32000 -n 20); do
    answers "$port" || break
done
mkdir front
cp ca.pem receiver.pem receiver.key front/
sed -i "s/127\.0\.0\.1:8490/127.0.0.1:$behind/; s/listen 8443/listen 127.0.0.1:$port/" front.conf
nginx -p "$work/front" -e stderr -c "$work/front.conf" 2>nginx.log &
nginx_pid=$!
pids+=("$nginx_pid")
until_true "$nginx_pid" answers "$port" || { cat nginx.log >&2; exit 1; }

failed() { cat ship.log receiver.log nginx.log >&2; exit 1; }
ship() { "$sealift" ship --once --json --config "$1" --data data --receiver "https://localhost:$port" >ship.json 2>ship.log; }
printf '[receiver]\nca_file = "%s/ca.pem"\nrequire_receipt = true\n' "$PWD" >stranger.toml
{ cat stranger.toml; printf 'client_cert_file = "%s/lab-07.pem"\nclient_key_file = "%s/lab-07.key"\n' "$PWD" "$PWD"; } >host.toml
mkdir -p data/episodes/large
head -c 5000000 /dev/urandom >data/episodes/large/noise.bin
"$sealift" seal data/episodes/large >/dev/null

# Who shows no certificate is held, and nothing moves.
if ship stranger.toml; then failed; fi
grep -q 'STATUS_CODE=403' ship.log || failed
[ -d data/episodes/large ]

ship host.toml || failed
[ -f data/shipped/large/shipping_receipt.json ]
# The acknowledgement was lost: the receiver knows the episode, and says so over the front as well.
# nginx may lose an answer that comes while it still sends, and says 502 then; the second attempt
# asks before it sends.
mv data/shipped/large data/episodes/large
rm data/episodes/large/shipping_receipt.json
ship host.toml || ship host.toml || failed
[ -f data/shipped/large/shipping_receipt.json ]
grep -Eq 'method=(PUT|PATCH) .* status_code=200 ' receiver.log || failed

# What breaks off at the front is kept behind it.
ask() { curl --silent --show-error --cacert ca.pem --cert lab-07.pem --key lab-07.key "$@"; }
head -c 8000000 /dev/urandom >run-7.tar.zst
digest=sha-256=:$(openssl dgst -sha256 -binary run-7.tar.zst | base64):
upload=https://localhost:$port/v1/uploads/run-7/$(sha256sum run-7.tar.zst | cut -d ' ' -f 1)
if ask -m 1 --limit-rate 2M -T run-7.tar.zst -H "Repr-Digest: $digest" "https://localhost:$port/v1/episodes/run-7" 2>curl.log; then
    echo "front rig: the upload did not break off" >&2
    exit 1
fi
offset=$(ask --head "$upload" | tr -d '\r' | sed -n 's/^upload-offset: //p')
[ "$offset" -gt 0 ] && [ "$offset" -lt 8000000 ]
[ "$(ask -X PATCH -C "$offset" -T run-7.tar.zst -H 'Content-Type: application/partial-upload' -H "Upload-Offset: $offset" \
    -H 'Upload-Complete: ?1' --output /dev/null --write-out '%{http_code}' "$upload")" = 201 ]
cmp run-7.tar.zst store/episodes/run-7.tar.zst

# The receiver tells its own machine how it is, and nobody through the front.
for path in metrics /metrics %6detrics metrics?x; do
    [ "$(ask --path-as-is --output /dev/null --write-out '%{http_code}' "https://localhost:$port/$path")" = 403 ]
done
[ "$(ask --output /dev/null --write-out '%{http_code}' "https://localhost:$port/healthz")" = 200 ]

echo "front rig: delivered through nginx, acknowledged again, went on at $offset of 8000000 bytes"
