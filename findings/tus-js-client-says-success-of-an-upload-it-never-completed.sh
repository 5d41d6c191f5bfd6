#!/usr/bin/env bash
# tus-js-client 4.3.1 (npm), protocol "ietf-draft-05", in Node from a file stream: the last piece of
# an upload is sent with `Upload-Complete: ?0` unless it is also the first, and onSuccess is called.
#
# The protocol says what the last piece is by `Upload-Complete: ?1` alone: an upload of which all
# bytes are there and `?1` never came is unfinished, and a server may throw it away. For an
# fs.ReadStream, which is what its own example for Node uploads, the client looks at whether the
# piece is as long as the file (`stream.size >= this.size`) and not at whether it ends where the
# file does. So an upload in pieces (chunkSize), and any that broke off and goes on, is never
# completed. The application is told that all went well, since Upload-Offset has come to the length.
# From a Buffer the same upload is completed.
#
#                                             Upload-Complete      the application is told
#   file stream, in three pieces              ?0 ?0 ?0             success
#   file stream, going on in the middle       ?0                   success
#   file stream, in one piece                 ?1                   success
#   Buffer, in three pieces                   ?0 ?0 ?1             success
#   Buffer, going on in the middle            ?1                   success
#
# Seen with Node 20.20.2. Exits 0 while it behaves so, 1 where it does not; needs node and npm.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true }' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts tus-js-client@4.3.1
head -c 3000000 /dev/urandom >recording

cat >try.cjs <<'END_OF_TRY'
const fs = require("node:fs");
const http = require("node:http");
const tus = require("tus-js-client");

const length = fs.statSync("recording").size;
let offset = 0;
let complete = [];

// Where it stands, and any piece that goes on there.
const server = http.createServer((request, response) => {
  request.on("data", (bytes) => (offset += bytes.length));
  request.on("end", () => {
    if (request.method === "PATCH") complete.push(request.headers["upload-complete"]);
    const done = complete.at(-1) === "?1" ? "?1" : "?0";
    response.writeHead(204, { "Upload-Offset": offset, "Upload-Complete": done });
    response.end();
  });
});

function upload(file, chunkSize, startsAt) {
  offset = startsAt;
  complete = [];
  return new Promise((resolve) => {
    new tus.Upload(file, {
      uploadUrl: `http://127.0.0.1:${server.address().port}/upload`,
      protocol: "ietf-draft-05",
      chunkSize,
      onSuccess: () => resolve(`${complete.join(" ")}, success`),
      onError: (error) => resolve(`${complete.join(" ")}, ${error.message}`),
    }).start();
  });
}

server.listen(0, "127.0.0.1", async () => {
  console.log(`node ${process.version}, tus-js-client ${require("tus-js-client/package.json").version}`);
  let strange = 0;
  const stream = () => fs.createReadStream("recording");
  const buffer = () => fs.readFileSync("recording");
  for (const [what, file, chunkSize, startsAt, expected] of [
    ["file stream, in three pieces", stream, 1000000, 0, "?0 ?0 ?0, success"],
    ["file stream, going on in the middle", stream, Infinity, 1500000, "?0, success"],
    ["file stream, in one piece", stream, Infinity, 0, "?1, success"],
    ["Buffer, in three pieces", buffer, 1000000, 0, "?0 ?0 ?1, success"],
    ["Buffer, going on in the middle", buffer, Infinity, 1500000, "?1, success"],
  ]) {
    const seen = await upload(file(), chunkSize, startsAt);
    if (offset !== length || seen !== expected) strange = 1;
    console.log(`${what.padEnd(38)} ${seen}${seen === expected ? "" : `  (expected: ${expected})`}`);
  }
  process.exit(strange);
});
END_OF_TRY
node try.cjs
