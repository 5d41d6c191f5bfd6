#!/usr/bin/env bash
# Varnish 7.1 asks its backend by GET what it was asked by HEAD, also where the answer is not to be
# kept; and it keeps an answer without any freshness for 120 seconds.
#
# Seen with varnish 7.1.1-2+deb12u1 (Debian 12), no setting but the backend's address:
#
#   client asks        backend is asked      backend says                       client is told
#   HEAD /none         GET /none             405 to GET, 204 to HEAD            405
#   GET /count, twice  once                  200, a new number each time        the first number, Age: 0, 1, ...
#   HEAD /no-store     GET /no-store         200, Cache-Control: no-store       200
#   GET /no-store x2   twice                 200, Cache-Control: no-store       a new number each time
#   DELETE, then GET   the DELETE only       200                                the number from before the DELETE
#
# A server that answers HEAD and not GET (an upload's offset, draft-ietf-httpbis-resumable-upload)
# is therefore never heard, and the answer to "is it still there?" is two minutes old. RFC 9111 lets
# a cache estimate a freshness only from what an answer says of its age (section 4.2.2: 10 per cent
# of the time since Last-Modified, say); 120 s is Varnish's default_ttl, whatever the answer says.
# `Cache-Control: no-store`, or `return (pass)` in vcl_recv, is what helps.
#
# Installs nothing: Debian's packages are unpacked into a temporary folder. Needs apt-get, dpkg,
# gcc, curl and python3 (no root). Exits with 1 where the behaviour is another.
set -euo pipefail
work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
cd "$work"

apt-get download varnish=7.1.1-2+deb12u1 libvarnishapi3=7.1.1-2+deb12u1 libjemalloc2=5.3.0-1 >fetched.log 2>&1 ||
    { cat fetched.log >&2; exit 2; }
for package in *.deb; do dpkg -x "$package" root; done
libraries=$work/root/usr/lib/$(gcc -print-multiarch)
export LD_LIBRARY_PATH=$libraries:$libraries/varnish

cat >backend.py <<'END'
import http.server, itertools, sys

numbers = itertools.count(1)


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        with open("asked", "a") as asked:
            asked.write(f"{self.command} {self.path}\n")
        body = b"" if self.command == "HEAD" else b"%d\n" % next(numbers)
        status = 200
        if self.path == "/none":
            status, body = (204, b"") if self.command == "HEAD" else (405, b"")
        self.send_response(status)
        if self.path == "/no-store":
            self.send_header("Cache-Control", "no-store")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_DELETE = answer

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
with open("port", "w") as port:
    port.write(str(server.server_address[1]))
server.serve_forever()
END
: >asked
python3 backend.py &
started+=("$!")
for _ in $(seq 100); do [ -s port ] && break; read -rt 0.1 <> <(:) || true; done
front=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'vcl 4.1;\nbackend default { .host = "127.0.0.1"; .port = "%s"; }\n' "$(cat port)" >default.vcl
root/usr/sbin/varnishd -j none -F -a "127.0.0.1:$front" -f "$work/default.vcl" -n "$work/instance" \
    -p vmod_path="$libraries/varnish/vmods" \
    -p cc_command='exec gcc -O0 -pthread -fpic -shared -Wl,-x -o %o %s' >varnish.log 2>&1 &
started+=("$!")
through=http://127.0.0.1:$front
for _ in $(seq 200); do curl -sfo ready "$through/ready" && break; read -rt 0.1 <> <(:) || true; done
root/usr/sbin/varnishd -V 2>&1 | head -1

strange=0
expect() { # WHAT EXPECTED SEEN
    printf '%-58s %s\n' "$1" "$3"
    [ "$2" = "$3" ] || { echo "  expected: $2" >&2; strange=1; }
}
asked() { grep -c -x "$1" asked || true; }

expect "HEAD of what only HEAD answers: status" 405 "$(curl -sI -o out -w '%{http_code}' "$through/none")"
expect "  and the backend was asked by" "GET /none" "$(grep ' /none' asked)"
first=$(curl -s "$through/count")
expect "GET again without freshness: the same answer" "$first" "$(curl -s "$through/count")"
expect "  and the backend was asked, times" 1 "$(asked 'GET /count')"
expect "  kept for, seconds (default_ttl)" 120 \
    "$(root/usr/bin/varnishadm -n "$work/instance" param.show default_ttl | sed -n 's/.*Value is: \([0-9]*\).*/\1/p')"
curl -s -X DELETE -o out "$through/count"
expect "GET after a DELETE of it: the same answer" "$first" "$(curl -s "$through/count")"
expect "HEAD with no-store: status" 200 "$(curl -sI -o out -w '%{http_code}' "$through/no-store")"
expect "  and the backend was asked by" "GET /no-store" "$(grep ' /no-store' asked | head -1)"
first=$(curl -s "$through/no-store")
second=$(curl -s "$through/no-store")
expect "GET again with no-store: another answer" "$((first + 1))" "$second"
exit "$strange"
