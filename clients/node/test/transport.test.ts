/**
 * How the daemon is reached: TCP with mutual TLS, past the environment's proxies, and a daemon that does not answer.
 */

import assert from "node:assert/strict";
import { execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { ServerCredentials } from "@grpc/grpc-js";
import { tlsFromFiles } from "../src/index.js";
import { Proxy } from "./proxy.js";
import { DEADLINE_MS, folderOf, ScriptedDaemon } from "./scripted_daemon.js";

/** Makes ca.pem, and NAME.pem and NAME.key of `daemon`, `proxy` and `stranger`, whom the CA does not know. */
function makeCertificates(folder: string): void {
  const openssl = (...args: string[]) =>
    execFileSync("openssl", args, { cwd: folder, stdio: "ignore", timeout: DEADLINE_MS });
  writeFileSync(join(folder, "san"), "subjectAltName=DNS:localhost,IP:127.0.0.1");
  const issuers = { ca: "", daemon: "ca", proxy: "ca", stranger: "" };
  for (const [name, issuer] of Object.entries(issuers)) {
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", `${name}.key`];
    const subject = ["-subj", `/CN=${name}`];
    if (!issuer) {
      openssl("req", "-x509", ...key, "-out", `${name}.pem`, ...subject, "-days", "2");
      continue;
    }
    openssl("req", ...key, "-out", `${name}.csr`, ...subject);
    const signing = ["-CA", `${issuer}.pem`, "-CAkey", `${issuer}.key`, "-CAcreateserial", "-days", "2"];
    openssl("x509", "-req", "-in", `${name}.csr`, "-out", `${name}.pem`, "-extfile", "san", ...signing);
  }
}

async function daemonOn(t: TestContext, target: string, credentials?: ServerCredentials): Promise<ScriptedDaemon> {
  const daemon = new ScriptedDaemon(target, credentials);
  await daemon.start();
  t.after(() => daemon.stop());
  return daemon;
}

test("mutual TLS lets in whom the CA knows and nobody else", async (t) => {
  const folder = folderOf(t);
  makeCertificates(folder);
  const pem = (name: string) => readFileSync(join(folder, name));
  const own = [{ private_key: pem("daemon.key"), cert_chain: pem("daemon.pem") }];
  const daemon = await daemonOn(t, "127.0.0.1:0", ServerCredentials.createSsl(pem("ca.pem"), own, true));
  const target = `localhost:${daemon.port}`;
  const tls = (name: string) =>
    tlsFromFiles(join(folder, "ca.pem"), join(folder, `${name}.pem`), join(folder, `${name}.key`));
  const proxy = new Proxy(t, target, {}, tls("proxy"));
  proxy.begin();
  await proxy.arrives(daemon);
  assert.ok(await proxy.close());
  const stranger = new Proxy(t, target, {}, tls("stranger"));
  stranger.begin();
  assert.equal((await stranger.event("Disconnected")).status, "UNAVAILABLE");
  assert.ok(!(await stranger.close(0)));
  assert.equal(daemon.model.clients.size, 1);
});

test("a proxy in the environment is not asked", async (t) => {
  for (const name of ["http_proxy", "https_proxy", "grpc_proxy"]) {
    process.env[name] = "http://127.0.0.1:9";
    t.after(() => delete process.env[name]);
  }
  const daemon = await daemonOn(t, "127.0.0.1:0");
  const proxy = new Proxy(t, `127.0.0.1:${daemon.port}`);
  proxy.begin();
  await proxy.arrives(daemon);
});

test("a daemon that stops answering is given up and found again", async (t) => {
  const target = `unix:${folderOf(t)}/daemon.sock`;
  const frozen = fork(new URL("./daemon_process.js", import.meta.url), [target]);
  t.after(() => frozen.kill("SIGKILL"));
  await once(frozen, "message");
  const proxy = new Proxy(t, target, { keepaliveTimeMs: 500, keepaliveTimeoutMs: 500, connectTimeoutMs: 500 });
  const session = proxy.begin();
  await proxy.event("Connected");
  frozen.kill("SIGSTOP");
  assert.equal((await proxy.event("Disconnected")).attempt, 1);
  const second = await proxy.event("Disconnected");
  assert.deepEqual([second.status, second.details], ["UNAVAILABLE", "nobody answers the attempt to connect"]);
  frozen.kill("SIGCONT");
  session.end();
  assert.ok(await proxy.close());
});

test("attempts to connect that nobody answers do not pile up", async (t) => {
  const sockets = new Set<Socket>();
  const mute = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  mute.listen(0, "127.0.0.1");
  await once(mute, "listening");
  const { port } = mute.address() as { port: number };
  const proxy = new Proxy(t, `127.0.0.1:${port}`, { connectTimeoutMs: 20 });
  proxy.begin();
  for (let attempt = 1; attempt <= 12; attempt += 1) {
    assert.match((await proxy.event("Disconnected")).details, /^nobody answers/);
    assert.ok(sockets.size <= 5, `${sockets.size} connections`);
  }
  for (const socket of sockets) socket.destroy();
  mute.close();
  await once(mute, "close");
  const daemon = await daemonOn(t, `127.0.0.1:${port}`);
  await proxy.arrives(daemon);
});
