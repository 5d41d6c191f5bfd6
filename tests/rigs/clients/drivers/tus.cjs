// tus-js-client: goes on with an upload that was announced. A line of standard input is HOW, URL,
// FILE, PROTOCOL and SAVE, and any number of headers, between tabs. One outcome a line.
//
// HOW is `create`, `whole`, `pieces` or `broken` (off, and gone on with): from a Buffer, or where
// `-stream` follows, from a file stream.
"use strict";
const fs = require("node:fs");
const readline = require("node:readline");
const tus = require("tus-js-client");

const retries = process.argv[2] === "once" ? { retryDelays: null } : {};

function upload({ url, source, protocol, headers, where, chunkSize }, breakAt) {
  return new Promise((resolve, reject) => {
    const going = new tus.Upload(source(), {
      [where]: url,
      protocol,
      headers,
      chunkSize,
      ...retries,
      onError: reject,
      onSuccess: () => resolve("success"),
      onProgress: (sent) => {
        if (sent < breakAt || !breakAt) return;
        breakAt = 0;
        going.abort().then(() => resolve("broken"), reject);
      },
    });
    going.start();
  });
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [how, url, file, protocol, , ...lines] = line.split("\t");
    const headers = Object.fromEntries(lines.map((header) => header.split(": ", 2)));
    const where = how === "create" ? "endpoint" : "uploadUrl";
    const source = () => (how.endsWith("-stream") ? fs.createReadStream(file) : fs.readFileSync(file));
    const chunkSize = how.startsWith("pieces") ? 4 << 20 : Infinity;
    const job = { url, source, protocol, headers, where, chunkSize };
    try {
      if (how.startsWith("broken")) await upload(job, fs.statSync(file).size / 3);
      console.log(`status ${await upload(job)}`);
    } catch (error) {
      console.log(`error ${error.message}`.replaceAll("\n", " ").slice(0, 300));
    }
  }
}

main();
