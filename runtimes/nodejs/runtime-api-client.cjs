// The Runtime API's client that aws-lambda-ric calls, as a module instead of its compiled addon: same three functions.
//
// `done` and `error` return when the kernel has the whole request, as the addon's do: what the function does after its
// answer, process.exit() included, can't take it back. That is why requests are written past the event loop, straight
// to the connection's descriptor. Answers are read by the event loop, which the connection keeps alive only while
// `next` waits: functions rely on the loop becoming empty (callbackWaitsForEmptyEventLoop).
"use strict";

// Taken now: functions replace such functions by their own.
const { writeSync } = require("node:fs");
const { connect } = require("node:net");
const { concat, from } = Buffer;

const [HOST, PORT] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const BASE = "/2018-06-01/runtime/invocation/";
const HEAD_END = "\r\n\r\n";
const FULL_PIPE_PAUSE_MS = 1;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** One connection: at most one request at a time is without an answer. */
class Connection {
  /** Resolves to a new connection that does not keep the event loop alive. */
  static open() {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: HOST, port: Number(PORT), noDelay: true });
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        socket.unref();
        resolve(new Connection(socket));
      });
    });
  }

  constructor(socket) {
    this.socket = socket;
    this.failure = null;
    this.chunks = [];
    this.missing = 0;
    this.head = null;
    // The answer to the last request, as a promise that never rejects before somebody waits for it.
    this.answer = null;
    this.settle = null;
    socket.on("data", (chunk) => this.receive(chunk));
    socket.on("error", (error) => this.fail(error));
    socket.on("close", () => this.fail(new Error("the Runtime API has closed the connection")));
  }

  /** Writes a request, all of it; throws when the connection is broken. */
  send(request) {
    if (this.failure) throw this.failure;
    this.answer = new Promise((resolve, reject) => (this.settle = { resolve, reject }));
    this.answer.catch(() => {});
    for (let sent = 0; sent < request.length; ) {
      try {
        sent += writeSync(this.socket._handle.fd, request, sent);
      } catch (error) {
        if (error.code !== "EAGAIN") {
          this.fail(error);
          throw error;
        }
        // The other side is slower; nothing else may run meanwhile.
        Atomics.wait(sleeper, 0, 0, FULL_PIPE_PAUSE_MS);
      }
    }
  }

  /** Resolves to the answer of the last request, and keeps the event loop alive until then. */
  async wait() {
    this.socket.ref();
    try {
      return await this.answer;
    } finally {
      this.socket.unref();
    }
  }

  receive(chunk) {
    this.chunks.push(chunk);
    if (!this.head) {
      const bytes = concat(this.chunks);
      const end = bytes.indexOf(HEAD_END);
      if (end < 0) return;
      this.head = parseHead(bytes.toString("utf8", 0, end));
      const body = bytes.subarray(end + HEAD_END.length);
      this.chunks = [body];
      this.missing = Number(this.head.headers["content-length"] ?? 0) - body.length;
    } else {
      this.missing -= chunk.length;
    }
    if (this.missing > 0) return;
    const { settle, head, chunks } = this;
    this.settle = this.head = null;
    this.chunks = [];
    settle?.resolve({ ...head, body: concat(chunks).toString() });
  }

  fail(error) {
    if (this.failure) return;
    this.failure = error;
    this.socket.destroy();
    this.settle?.reject(error);
  }
}

function parseHead(text) {
  const [first, ...lines] = text.split("\r\n");
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return { status: Number(first.split(" ")[1]), headers };
}

let connection = null;

/** Resolves to the next event: `{ bodyJson, headers }`. */
async function next() {
  // The answer to the last response or error. It is of no interest, and neither is how that failed: the addon
  // ignores it, too, and the Runtime API answers the next request as it sees fit.
  if (connection?.answer) await connection.wait().catch(() => {});
  if (!connection || connection.failure) connection = await Connection.open();
  connection.send(from(`GET ${BASE}next HTTP/1.1\r\nHost: ${HOST}:${PORT}${HEAD_END}`));
  const { status, headers, body } = await connection.wait();
  connection.answer = null;
  if (status !== 200) throw new Error(`Failed to get next invocation, the Runtime API answered ${status}: ${body}`);
  headers["lambda-runtime-deadline-ms"] = Number(headers["lambda-runtime-deadline-ms"]);
  return { bodyJson: body, headers };
}

function post(path, body) {
  if (!connection) return;
  const bytes = from(body);
  const head =
    `POST ${BASE}${path} HTTP/1.1\r\nHost: ${HOST}:${PORT}\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${bytes.length}${HEAD_END}`;
  try {
    connection.send(concat([from(head), bytes]));
  } catch {
    // `next` will tell.
  }
}

/** Answers an event; `id` is encoded for a URL. */
function done(id, body) {
  post(`${id}/response`, body);
}

/** Answers an event with an error. The cause for X-Ray goes nowhere. */
function error(id, body, _xray) {
  post(`${id}/error`, body);
}

module.exports = { next, done, error };
