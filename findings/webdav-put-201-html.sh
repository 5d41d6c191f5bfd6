#!/usr/bin/env bash
# WsgiDAV 4.3.3 (PyPI) answers a PUT that it has stored with "201 Created" and an HTML page; so does
# Apache's mod_dav (2.4.67, seen in Debian 12 by hand: "<h1>Created</h1> Resource /a has been
# created.").
#
# An uploader that takes any HTML body for a captive portal or an error page, which most answers
# with HTML are, finds no acknowledgement in it and sends everything again; the second PUT of the
# same name is answered 204 without a body.
#
#   findings/webdav-put-201-html.sh      exits 0 while it behaves so, 1 where it does not; needs python3 with venv, curl
set -euo pipefail
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || { kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; } || true; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install wsgidav==4.3.3 cheroot==10.0.1
for port in $(shuf -i 20000-32000 -n 20); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
done
mkdir root
venv/bin/wsgidav --host=127.0.0.1 --port="$port" --root=root --auth=anonymous >log 2>&1 &
pid=$!
for _ in $(seq 200); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
done
echo precious >file
put() { curl --silent --show-error --output "$1" --write-out '%{http_code} %{content_type}' --upload-file file "http://127.0.0.1:$port/a"; }
venv/bin/wsgidav --version
first=$(put body)
second=$(put again)
echo "the first PUT:  $first"
sed 's/^/    /' body
echo
echo "stored:         $(cat root/a)"
echo "the second PUT: $second"
cmp -s file root/a && [[ $first == "201 text/html"* ]] && grep -qi '<html' body && [[ $second == 204* ]]
