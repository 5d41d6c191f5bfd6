// Node's http and https, waited for in two ways, its fetch, or undici's request, by name: one
// request a line of standard input, one outcome a line. A line is METHOD, URL, FILE, FRAMING and
// SAVE, and any number of headers, between tabs.
"use strict";
const fs = require("node:fs");
const { once } = require("node:events");
const readline = require("node:readline");
const { Readable } = require("node:stream");
const { pipeline } = require("node:stream/promises");

const ca = fs.readFileSync(process.env.CA);

function asking({ method, url, file, framing, headers }) {
  const { request } = require(url.startsWith("https:") ? "node:https" : "node:http");
  if (framing === "length") headers["Content-Length"] = fs.statSync(file).size;
  return request(url, { method, headers, ca });
}

// The answer is waited for, whatever becomes of the upload.
async function withHttp(job) {
  const asked = asking(job);
  asked.on("error", () => {});
  if (job.method === "GET") asked.end();
  else fs.createReadStream(job.file).pipe(asked);
  const [answer] = await once(asked, "response");
  return [answer.statusCode, Buffer.concat(await answer.toArray())];
}

// The upload is waited for, and then its answer.
async function withPipeline(job) {
  const asked = asking(job);
  const answered = once(asked, "response");
  const content = answered.then(([answer]) => answer.toArray());
  // Where the upload fails, that is what is told.
  content.catch(() => {});
  if (job.method === "GET") asked.end();
  else await pipeline(fs.createReadStream(job.file), asked);
  const [answer] = await answered;
  return [answer.statusCode, Buffer.concat(await content)];
}

// It trusts what NODE_EXTRA_CA_CERTS names.
async function withFetch({ method, url, file, framing, headers }) {
  const options = { method, headers };
  if (method !== "GET" && framing === "length") options.body = await fs.openAsBlob(file);
  if (method !== "GET" && framing === "chunked") {
    options.body = Readable.toWeb(fs.createReadStream(file));
    options.duplex = "half";
  }
  const answer = await fetch(url, options);
  return [answer.status, Buffer.from(await answer.arrayBuffer())];
}

let dispatcher;
async function withUndici({ method, url, file, framing, headers }) {
  const undici = require("undici");
  dispatcher ??= new undici.Agent({ connect: { ca } });
  if (framing === "length") headers["content-length"] = String(fs.statSync(file).size);
  const body = method === "GET" ? undefined : fs.createReadStream(file);
  const answer = await undici.request(url, { method, headers, body, dispatcher });
  return [answer.statusCode, Buffer.from(await answer.body.arrayBuffer())];
}

const clients = { http: withHttp, pipeline: withPipeline, fetch: withFetch, undici: withUndici };
const ask = clients[process.argv[2]];

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [method, url, file, framing, save, ...lines] = line.split("\t");
    const headers = Object.fromEntries(lines.map((header) => header.split(": ", 2)));
    const job = { method, url, file, framing: method === "GET" ? "" : framing, headers };
    try {
      const [status, content] = await ask(job);
      fs.writeFileSync(save, content);
      console.log(`status ${status}`);
    } catch (error) {
      const cause = error.cause ? `, ${error.cause.code ?? ""} ${error.cause.message}` : "";
      console.log(`error ${error.code ?? error.name} ${error.message}${cause}`.replaceAll("\n", " "));
    }
  }
}

main();
