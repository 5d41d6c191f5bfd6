#!/usr/bin/env bash
# Ships, asks and goes on through Varnish, which keeps what it may and asks by GET what it is asked by HEAD.
#
#   tests/rigs/varnish/run.sh [PATH-OF-SEALIFT]
#
# Fetches Debian's Varnish into target/rigs/varnish and installs nothing. No root; needs apt-get, dpkg
# and gcc (Varnish compiles its configuration). Without them it is skipped with exit code 77, and
# fails where CI=true.
set -euo pipefail
cd "$(dirname "$0")/../../.."

rig=varnish
. tests/rigs/needs.sh
needs apt-get dpkg gcc curl python3
sealift=$(built "${1-target/debug/sealift}")

place=$PWD/target/rigs/varnish
if [ ! -x "$place/root/usr/sbin/varnishd" ]; then
    mkdir -p "$place/packages" "$place/root"
    (cd "$place/packages" && apt-get download varnish libvarnishapi3 libjemalloc2 >fetched.log 2>&1) ||
        cannot "Debian's packages cannot be fetched"
    for package in "$place"/packages/*.deb; do dpkg -x "$package" "$place/root"; done
fi
libraries=$place/root/usr/lib/$(gcc -print-multiarch)

work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

failed() {
    echo "$rig rig: $*" >&2
    tail -n 30 "$work"/*.log >&2
    exit 1
}

# The commit window is read again when its file changes.
printf '%040d\n' 1 >"$work/commits"
printf '[receive]\ncommits_file = "%s/commits"\n' "$work" >"$work/receiver.toml"
"$sealift" receive --listen 127.0.0.1:0 --store "$work/store" --config "$work/receiver.toml" 2>"$work/receiver.log" &
receiver=$!
started+=("$receiver")
for _ in $(seq 300); do grep -q local_addr= "$work/receiver.log" && break; read -rt 0.1 <> <(:) || true; done
port=$(sed -n 's/.*local_addr=127.0.0.1:\([0-9]*\).*/\1/p' "$work/receiver.log")
front=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
# As it comes: only where the receiver is.
printf 'vcl 4.1;\nbackend default { .host = "127.0.0.1"; .port = "%s"; }\n' "$port" >"$work/default.vcl"
LD_LIBRARY_PATH=$libraries:$libraries/varnish "$place/root/usr/sbin/varnishd" -j none -F \
    -a "127.0.0.1:$front" -f "$work/default.vcl" -n "$work/varnish" -p vmod_path="$libraries/varnish/vmods" \
    -p cc_command='exec gcc -O0 -pthread -fpic -shared -Wl,-x -o %o %s' >"$work/varnish.log" 2>&1 &
started+=("$!")
through=http://127.0.0.1:$front
for _ in $(seq 300); do curl -sfo "$work/ok" "$through/healthz" && break; read -rt 0.1 <> <(:) || true; done
[ -s "$work/ok" ] || failed "Varnish does not answer"

# Whether a commit is admitted is asked anew each time.
admission() { curl -s -o "$work/answer" -w '%{http_code}' -H "X-Cis490-Code-Commit: $(printf '%040d' 1)" "$through/v1/admission"; }
until_admission() {
    for _ in $(seq 100); do
        [ "$(admission)" = "$1" ] && return
        read -rt 0.1 <> <(:) || true
    done
    failed "admission is not $1: $(cat "$work/answer")"
}
until_admission 204
printf '%040d\n' 2 >"$work/commits"
kill -HUP "$receiver"
until_admission 412
printf '%040d\n' 1 >"$work/commits"
kill -HUP "$receiver"
until_admission 204

# What is held is asked anew each time.
mkdir -p "$work/data/episodes/run-1"
echo recorded >"$work/data/episodes/run-1/data.bin"
printf '{"code_version":{"commit":"%040d"}}' 1 >"$work/data/episodes/run-1/meta.json"
touch "$work/data/episodes/run-1/done.marker"
"$sealift" ship --once --data "$work/data" --receiver "$through" || failed "nothing was shipped"
verify() { "$sealift" verify --all --data "$work/data" --receiver "$through"; }
verify || failed "what was shipped is not held"
mv "$work/store/episodes/run-1.tar.zst" "$work/taken-away"
verify && failed "what is gone is held, says verify: an answer was kept"
mv "$work/taken-away" "$work/store/episodes/run-1.tar.zst"
verify || failed "what is back is not held, says verify: an answer was kept"

# An upload that broke off goes on: where, is asked by HEAD, which arrives as GET.
python3 - "$work" "$front" <<'END' || failed "the upload cannot be gone on with"
import base64, hashlib, os, socket, sys, time

work, port = sys.argv[1], int(sys.argv[2])
archive = os.urandom(3 << 20)
sha256 = hashlib.sha256(archive)
head = "PUT /v1/episodes/run-2 HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/zstd\r\n"
head += f"Content-Length: {len(archive)}\r\nX-Cis490-Code-Commit: {1:040}\r\n"
head += f"Repr-Digest: sha-256=:{base64.b64encode(sha256.digest()).decode()}:\r\n\r\n"
path = f"/v1/uploads/run-2/{sha256.hexdigest()}"


def ask(head, body=b""):
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(head.encode() + body)
    answer = connection.makefile("rb")
    lines = []
    while (line := answer.readline().strip()):
        lines.append(line.decode())
    return lines[0].split()[1], {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}


broken = socket.create_connection(("127.0.0.1", port))
broken.sendall(head.encode() + archive[: 2 << 20])
broken.close()
deadline = time.monotonic() + 60
while True:
    status, headers = ask(f"HEAD {path} HTTP/1.1\r\nHost: receiver\r\nConnection: close\r\n\r\n")
    if status == "204" and headers.get("upload-offset", "0") != "0":
        break
    assert time.monotonic() < deadline, f"{status} {headers}"
    time.sleep(0.1)
offset = int(headers["upload-offset"])
print(f"goes on at byte {offset} of {len(archive)}")
head = f"PATCH {path} HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/partial-upload\r\n"
head += f"Upload-Offset: {offset}\r\nUpload-Complete: ?1\r\nContent-Length: {len(archive) - offset}\r\n"
head += f"X-Cis490-Code-Commit: {1:040}\r\nConnection: close\r\n\r\n"
status, headers = ask(head, archive[offset:])
assert status == "201", (status, headers)
END
echo "$rig rig: passed"
