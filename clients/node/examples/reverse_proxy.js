/**
 * A small reverse proxy, HTTP and WebSockets through node:http alone, that reports to appstatsd who uses which app.
 *
 *     node reverse_proxy.js --upstream http://127.0.0.1:9000 --appstatsd unix:/run/appstatsd/appstatsd.sock
 *
 * Who asks, and for what, comes in headers that whatever authenticates in front of this proxy sets (and strips from
 * what came from outside): `X-User-Id`, `X-Workspace-Id` and `X-Agent-Id`, each a UUID. A request without them is not
 * let through. How the app is reached stands in the URL:
 *
 * | request | access method | slug or port |
 * | --- | --- | --- |
 * | `/apps/SLUG/…`, passed on as `/…` | path | SLUG |
 * | Host `SLUG.apps.…` | subdomain | SLUG |
 * | `/terminal` | terminal | (empty) |
 *
 * A WebSocket is one session, reported when it opens and ended when it is over, however that comes about. Any other
 * request is a short session of its own, and none where nothing was used: a redirect, a 404, an upstream that is not
 * there.
 */

import { createServer, request, STATUS_CODES } from "node:http";
import { pipeline } from "node:stream";
import { parseArgs } from "node:util";
import { AccessMethod, App, Client } from "appstatsd-client";

/** @import { IncomingMessage, ServerResponse } from "node:http" */
/** @import { Duplex } from "node:stream" */

const NOT_USED = new Set([301, 302, 303, 307, 308, 404]);
/** Headers that are between two neighbors only. */
const ONE_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

const { values: options } = parseArgs({
  options: {
    listen: { type: "string", default: "127.0.0.1:8080" },
    upstream: { type: "string" },
    appstatsd: { type: "string" },
  },
});
if (!options.upstream || !options.appstatsd) {
  console.error("usage: reverse_proxy.js --upstream URL --appstatsd unix:PATH|HOST:PORT [--listen HOST:PORT]");
  process.exit(2);
}
const upstream = new URL(options.upstream);
const reporter = new Client(options.appstatsd);
/** @type {Set<Duplex>} */
const websockets = new Set();

/** Why a request goes no further. */
class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} message
   */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * The app that a request is for, and the path to ask the upstream for.
 *
 * @param {IncomingMessage} asked
 */
function whatIsUsed(asked) {
  const [slug = "", apps] = (asked.headers.host ?? "").split(".");
  const [path = "/", query] = (asked.url ?? "/").split(/(?=\?)/, 2);
  const inPath = /^\/apps\/([^/]*)(.*)$/.exec(path);
  const passOn = (/** @type {string} */ rest) => (rest || "/") + (query ?? "");
  if (apps === "apps") return { app: appOf(asked, AccessMethod.SUBDOMAIN, slug), path: passOn(path) };
  if (inPath) return { app: appOf(asked, AccessMethod.PATH, inPath[1] ?? ""), path: passOn(inPath[2] ?? "") };
  if (path === "/terminal") return { app: appOf(asked, AccessMethod.TERMINAL, ""), path: passOn(path) };
  throw new Refused(404, "no app; ask for /apps/SLUG/, SLUG.apps.HOST or /terminal");
}

/**
 * @param {IncomingMessage} asked
 * @param {AccessMethod} method
 * @param {string} slug
 */
function appOf(asked, method, slug) {
  const id = (/** @type {string} */ name) => String(asked.headers[name] ?? "");
  try {
    return new App(id("x-user-id"), id("x-workspace-id"), id("x-agent-id"), method, slug);
  } catch (error) {
    throw new Refused(401, String(error));
  }
}

/**
 * Headers, name after value, that go on to the other side: all but those of one hop.
 *
 * @param {IncomingMessage} message
 */
function passedOn(message) {
  const named = new Set((message.headers.connection ?? "").toLowerCase().split(/\s*,\s*/));
  const goesOn = (/** @type {string} */ name) => !ONE_HOP.has(name.toLowerCase()) && !named.has(name.toLowerCase());
  const { rawHeaders } = message;
  return rawHeaders.filter((_, i) => goesOn(rawHeaders[i - (i % 2)] ?? ""));
}

/**
 * @param {IncomingMessage} asked
 * @param {string} path
 * @param {string[]} more
 */
function ask(asked, path, more = []) {
  const { hostname: host, port } = upstream;
  return request({ host, port, path, method: asked.method, headers: [...passedOn(asked), ...more], setHost: false });
}

/**
 * One request, one short session.
 *
 * @param {IncomingMessage} asked
 * @param {ServerResponse} response
 */
function forward(asked, response) {
  const { app, path } = whatIsUsed(asked);
  // Nothing is reported before it ends: only the answer shows whether the app was used.
  const session = reporter.begin(app, { reportLive: false });
  const body = asked.headers["transfer-encoding"] ? ["Transfer-Encoding", "chunked"] : [];
  const asking = ask(asked, path, body);
  asking.on("error", (error) => {
    if (response.headersSent) response.destroy();
    else response.writeHead(502).end(`the app does not answer: ${error.message}\n`);
  });
  asking.on("response", (answer) => {
    const status = answer.statusCode ?? 502;
    response.writeHead(status, answer.statusMessage, passedOn(answer));
    pipeline(answer, response, () => {
      if (!NOT_USED.has(status)) session.end();
    });
  });
  response.on("close", () => asking.destroy());
  asked.pipe(asking);
}

/**
 * One WebSocket, one session, from when it is open on both sides until it is over on one.
 *
 * @param {IncomingMessage} asked
 * @param {Duplex} browser
 */
function forwardWebSocket(asked, browser) {
  const { app, path } = whatIsUsed(asked);
  const asking = ask(asked, path, ["Connection", "Upgrade", "Upgrade", "websocket"]);
  browser.on("close", () => asking.destroy());
  asking.on("error", () => refuse(browser, 502, "the app does not answer"));
  asking.on("response", (answer) => refuse(browser, answer.statusCode ?? 502, "the app opens no WebSocket"));
  asking.on("upgrade", (answer, server, head) => {
    const session = reporter.begin(app);
    websockets.add(browser);
    const { rawHeaders } = answer;
    const lines = rawHeaders.map((word, i) => (i % 2 ? `${word}\r\n` : `${word}: `));
    browser.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("")}\r\n`);
    browser.write(head);
    const over = () => {
      session.end();
      websockets.delete(browser);
      browser.destroy();
      server.destroy();
    };
    pipeline(server, browser, over);
    pipeline(browser, server, over);
  });
  asking.end();
}

/**
 * @param {Duplex} browser
 * @param {number} status
 * @param {string} why
 */
function refuse(browser, status, why) {
  browser.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n\r\n${why}\n`);
}

const server = createServer((asked, response) => {
  try {
    forward(asked, response);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    response.writeHead(error.status).end(`${error.message}\n`);
  }
});
server.on("upgrade", (asked, browser) => {
  browser.on("error", () => {}); // it is gone; `close` follows
  try {
    forwardWebSocket(asked, browser);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    refuse(browser, error.status, error.message);
  }
});

/** Open WebSockets do not end by themselves; their sessions end here. */
async function stop() {
  server.close();
  for (const browser of websockets) browser.destroy();
  await reporter.close();
  process.exit(0);
}

process.once("SIGTERM", stop);
process.once("SIGINT", stop);
const [, host, port] = /^(.*):(\d+)$/.exec(options.listen) ?? [];
server.listen(Number(port), host, () => {
  const address = server.address();
  if (address && typeof address === "object") console.log(`listening on http://${address.address}:${address.port}`);
});
