#!/usr/bin/env bash
# curl alone puts an episode, breaks off, goes on, and reads it back, over TLS with client
# certificates: by the very lines of docs/receiver.md and docs/transport.md. Then `sealift ship`
# delivers with the configuration that stands there.
#
#   tests/rigs/curl/run.sh [PATH-OF-SEALIFT]
#
# Needs curl and openssl. Without them the rig is skipped with exit code 77, and fails where
# CI=true.
set -euo pipefail
cd "$(dirname "$0")/../../.."
. tests/rigs/documented.sh

rig=curl
. tests/rigs/needs.sh
needs curl openssl
sealift=$(built "${1-target/release/sealift}")

work=$(mktemp -d)
receiver_pid=
finish() {
    [ -z "$receiver_pid" ] || { kill "$receiver_pid" 2>/dev/null; wait "$receiver_pid" 2>/dev/null; } || true
    rm -rf "$work"
}
trap finish EXIT
trap 'echo "curl rig: line $LINENO failed" >&2' ERR

documented docs/receiver.md certificates >"$work/certificates.sh"
documented docs/receiver.md token >"$work/token.sh"
# Here it is this machine, any free port, and this folder; and one host has a token.
documented docs/receiver.md receiver.toml |
    sed "s/^# tokens_file/tokens_file/; s#0\.0\.0\.0:8490#127.0.0.1:0#; s#/etc/sealift/#$work/#; s#/var/lib/sealift-receiver#$work/store#" >"$work/receiver.toml"
documented docs/receiver.md shipper.toml | sed "s#/etc/sealift/#$work/#" >"$work/shipper.toml"
documented docs/transport.md curl >"$work/curl.sh"
cp docs/receiver.md "$work/guide.md"
cd "$work"

commands=$(grep -c '^openssl' certificates.sh)
[ "$commands" = 5 ] || { echo "curl rig: five commands are promised, and there are $commands" >&2; exit 1; }
bash -euo pipefail certificates.sh >certificates.log 2>&1 || { cat certificates.log >&2; exit 1; }
grep -q 'DNS:lab-07' certificates.log
bash -euo pipefail token.sh

"$sealift" config check --config receiver.toml >/dev/null
NO_COLOR=1 "$sealift" receive --config receiver.toml 2>receiver.log &
receiver_pid=$!
until_true "$receiver_pid" grep -q ' local_addr=' receiver.log || { cat receiver.log >&2; exit 1; }
port=$(sed -n 's/.*local_addr=127\.0\.0\.1:\([0-9]*\).*/\1/p' receiver.log)

size=8000000
head -c "$size" /dev/urandom >run-7.tar.zst
sed -i "s#localhost:8490#localhost:$port#" curl.sh
bash -euo pipefail curl.sh >curl.log 2>&1 || { cat curl.log receiver.log >&2; exit 1; }

[ "$(grep -c '^broke off' curl.log)" = 2 ]
offset=$(tr -d '\r' <kept.txt | sed -n 's/^upload-offset: //p')
[ "$offset" -gt 0 ] && [ "$offset" -lt "$size" ]
grep -q "\"sha256\":\"$(sha256sum run-7.tar.zst | cut -d ' ' -f 1)\"" receipt.json
grep -q '"host":"lab-07"' receipt.json
grep -q '^repr-digest: sha-256=:' held.txt
cmp run-7.tar.zst store/episodes/run-7.tar.zst
# No byte came twice, and the way back was gone on with as well.
grep -q "method=PATCH .* status_code=201 bytes=$((size - offset)) " receiver.log
grep -q "method=GET .* status_code=206 " receiver.log
[ -z "$(ls -A store/incoming)" ]

# Each metric that is there is explained.
curl --silent --cacert ca.pem "https://localhost:$port/metrics" >metrics.txt
metrics=$(sed -n 's/^# TYPE sealift_receiver_\([a-z_]*\) .*/\1/p' metrics.txt)
[ "$(wc -w <<<"$metrics")" -ge 17 ]
for name in $metrics; do
    grep -Eq "\`$name(_total)?[\`{]" guide.md || { echo "curl rig: docs/receiver.md does not explain $name" >&2; exit 1; }
done

# Who comes with the token, with nothing, and with a certificate that nobody here has signed.
admission() { curl --silent --cacert ca.pem --output /dev/null --write-out '%{http_code}' "$@" "https://localhost:$port/v1/admission"; }
[ "$(admission -H "Authorization: Bearer $(cat token)")" = 204 ]
[ "$(admission)" = 401 ]
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 1 -subj /CN=lab-07 \
    -keyout stranger.key -out stranger.pem 2>/dev/null
if admission --cert stranger.pem --key stranger.key >/dev/null; then
    echo "curl rig: a certificate that nobody here has signed came in" >&2
    exit 1
fi

mkdir -p data/episodes
sed -i "s#receiver\.example:8490#localhost:$port#" shipper.toml
mkdir data/episodes/run-8
head -c 5000000 /dev/urandom >data/episodes/run-8/noise.bin
"$sealift" seal data/episodes/run-8 >/dev/null
"$sealift" ship --once --config shipper.toml --data data >ship.log 2>&1 || { cat ship.log receiver.log >&2; exit 1; }
grep -q '"host": *"lab-07"' data/shipped/run-8/shipping_receipt.json

kill "$receiver_pid"
wait "$receiver_pid"
receiver_pid=
echo "curl rig: broke off at $offset of $size bytes, went on, came back the same"
