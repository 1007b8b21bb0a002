/** The shell, against a daemon that does as it is told. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/index.js";
import type { Core } from "../src/core.js";
import { RejectionReason } from "../src/wire/appstats/v1/appstats.js";
import { APP, Proxy, QUICK } from "./proxy.js";
import { daemonOf, DEADLINE_MS, folderOf, ScriptedDaemon, type Refusal } from "./scripted_daemon.js";

test("a session is live at the daemon until it ends", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  const session = proxy.begin();
  await proxy.arrives(daemon);
  session.update(3);
  await proxy.arrives(daemon);
  session.end();
  await proxy.arrives(daemon);
  const [held] = daemon.model.sessions.values();
  assert.ok(held && held.endedNs >= held.startedNs);
  assert.equal(held.requests, 4);
  assert.match(held.app, / 2 code$/);
});

test("a client says who it is and chooses a random id", async (t) => {
  const daemon = await daemonOf(t);
  new Proxy(t, daemon.target).begin();
  new Proxy(t, daemon.target).begin();
  await daemon.wait(() => daemon.model.clients.size === 2);
  assert.deepEqual(
    daemon.metadata.map((metadata) => metadata.get("appstats-client")),
    [["node/0.1.0"], ["node/0.1.0"]],
  );
  for (const clientId of daemon.model.clients.keys()) assert.match(clientId, /^[0-9a-f]{32}$/);
});

test("many reports go as few batches and arrive", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target, { lingerMs: 200 });
  proxy.begin(5000);
  proxy.end();
  assert.ok(await proxy.close());
  await proxy.arrives(daemon);
  assert.ok(daemon.model.applied.length < 100);
});

test("an acknowledgement that was lost costs a resend and counts nothing twice", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  daemon.script.push({ status: "UNAVAILABLE", apply: true });
  proxy.begin(3, { reportLive: false });
  proxy.end();
  await proxy.arrives(daemon);
  assert.ok(await proxy.close());
  assert.equal(new Set(daemon.model.applied).size, daemon.model.applied.length);
  assert.equal(daemon.model.clients.size, 1);
});

const STATUSES: Refusal["status"][] = [
  "INVALID_ARGUMENT",
  "RESOURCE_EXHAUSTED",
  "ALREADY_EXISTS",
  "ABORTED",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "UNAVAILABLE",
  "INTERNAL",
];
for (const at of ["first", "batch", "closing"] as const) {
  test(`live sessions survive every status that meets the ${at} message`, async (t) => {
    for (const status of STATUSES) {
      const daemon = await daemonOf(t);
      const proxy = new Proxy(t, daemon.target);
      daemon.script.push({ status, at });
      proxy.begin(5);
      if (at !== "closing") {
        await daemon.wait(() => daemon.refused.length > 0);
        await proxy.arrives(daemon);
        const event = await proxy.event("Disconnected");
        assert.deepEqual([event.status, event.attempt], [status, 1]);
      }
      assert.ok(await proxy.close());
      await proxy.arrives(daemon);
      assert.ok(proxy.sessions.every((session) => session.endedNs));
      assert.equal(daemon.refused.length, 1);
      assert.equal(proxy.client.stats().droppedReports, 0);
    }
  });
}

test("a report that is refused every time costs no other", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  for (let i = 0; i < 3; i += 1) daemon.script.push({ status: "INVALID_ARGUMENT" });
  proxy.begin(5);
  await daemon.wait(() => daemon.refused.length === 3);
  await proxy.arrives(daemon);
  await proxy.event("BatchRefused");
  await proxy.event("ClientIdReplaced");
});

test("the daemon says when to come back", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  daemon.script.push({ status: "UNAVAILABLE", at: "first", retryDelay: "8" });
  proxy.begin();
  const { retryMs } = await proxy.event("Disconnected");
  assert.ok(retryMs >= 8 && retryMs <= 10, `${retryMs} ms`);
});

test("a delay that cannot be read is none", async (t) => {
  for (const retryDelay of ["soon", "-5", ""]) {
    const daemon = await daemonOf(t);
    const proxy = new Proxy(t, daemon.target, { backoffBaseMs: 2, backoffMaxMs: 2 });
    daemon.script.push({ status: "UNAVAILABLE", at: "first", retryDelay });
    proxy.begin();
    assert.ok((await proxy.event("Disconnected")).retryMs <= 2);
  }
});

test("rejected reports are told and counted", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  daemon.rejections.push({ sequence: 1n, index: 0, reason: RejectionReason.REJECTION_REASON_CONFLICT, message: "why" });
  const { sessionId } = proxy.begin();
  const told = await proxy.event("Rejected");
  assert.deepEqual(told.rejections, [{ sessionId, reason: "REJECTION_REASON_CONFLICT", message: "why" }]);
  assert.equal(proxy.client.stats().rejectedReports, 1);
});

test("a daemon that acknowledges what was never sent means a new client_id", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  proxy.begin();
  await proxy.arrives(daemon);
  const { clientId } = await proxy.event("Connected");
  daemon.model.clients.get(clientId)!.last += 5n;
  daemon.script.push({ status: "UNAVAILABLE" });
  proxy.begin();
  const replaced = await proxy.event("ClientIdReplaced");
  assert.deepEqual([replaced.oldId, replaced.status], [clientId, "ALREADY_EXISTS"]);
  await proxy.arrives(daemon);
});

test("reports wait for a daemon that is not there yet", async (t) => {
  const daemon = new ScriptedDaemon(`unix:${folderOf(t)}/late.sock`);
  const proxy = new Proxy(t, daemon.target);
  proxy.begin(3);
  assert.equal((await proxy.event("Disconnected")).status, "UNAVAILABLE");
  assert.equal((await proxy.event("Disconnected")).attempt, 2);
  await daemon.start();
  t.after(() => daemon.stop());
  await proxy.arrives(daemon);
  assert.equal((await proxy.event("Connected")).ackedSequence, 0n);
  assert.ok(await proxy.close());
});

test("a daemon that forgot everything knows live sessions again", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  proxy.begin(3);
  await proxy.arrives(daemon);
  daemon.stop();
  daemon.model.forget();
  await daemon.start();
  await proxy.arrives(daemon);
  proxy.end();
  await proxy.arrives(daemon);
});

test("a slow daemon holds up no session", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target, { batchMaxReports: 2, windowBatches: 2 });
  daemon.hold();
  proxy.begin(100);
  await daemon.wait(() => daemon.seen.length > 0);
  proxy.end();
  proxy.begin(100, { reportLive: false });
  proxy.end();
  daemon.goOn();
  await proxy.arrives(daemon);
});

test("closing ends what is left and waits for the confirmation", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  proxy.begin(3);
  assert.ok(await proxy.close());
  assert.ok(proxy.isKnownTo(daemon));
  assert.ok(daemon.seen.at(-1)?.closing);
  assert.deepEqual([...daemon.model.closed], [...daemon.model.clients.keys()]);
  assert.deepEqual(await proxy.event("Closed"), { type: "Closed", confirmed: true, left: 0 });
  assert.ok(!proxy.client.stats().connected);
  assert.ok(await proxy.close());
  proxy.begin();
  assert.equal(proxy.client.stats().liveSessions, 0);
});

test("closing with a daemon that is away ends at the deadline", async (t) => {
  const proxy = new Proxy(t, `unix:${folderOf(t)}/none.sock`);
  proxy.begin(3);
  assert.ok(!(await proxy.close(50)));
  assert.deepEqual(await proxy.event("Closed"), { type: "Closed", confirmed: false, left: 3 });
  assert.equal(proxy.client.stats().droppedReports, 3);
});

test("closing with a daemon that is stuck ends at the deadline", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  daemon.hold();
  proxy.begin(3);
  await daemon.wait(() => daemon.seen.length > 0);
  assert.ok(!(await proxy.close(50)));
  assert.equal((await proxy.event("Closed")).left, 3);
});

test("a client that never reported closes at once and never connects", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  assert.ok(await proxy.close());
  proxy.begin();
  assert.ok(await proxy.close());
  assert.deepEqual(daemon.seen, []);
});

test("a client that has sent nothing closes at once though it is connected", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  proxy.begin(1, { reportLive: false });
  await proxy.event("Connected");
  assert.ok(await proxy.close());
  assert.deepEqual(
    daemon.seen.map((message) => message.closing),
    [false],
  );
});

test("a hook that fails costs no report", async (t) => {
  const daemon = await daemonOf(t);
  const logged = t.mock.method(console, "error", () => {});
  const client = new Client(daemon.target, {
    limits: QUICK,
    onEvent: () => {
      throw new Error("the proxy's own mistake");
    },
  });
  client.begin(APP);
  await daemon.wait(() => daemon.model.sessions.size === 1);
  assert.ok(await client.close(DEADLINE_MS));
  assert.match(String(logged.mock.calls[0]?.arguments[0]), /^onEvent failed for Connected/);
});

test("a mistake of the client's own costs a stream and no report", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  const logged = t.mock.method(console, "error", () => {});
  const { core } = proxy.client as unknown as { core: Core };
  for (const name of ["answered", "nextMessage"] as const) {
    const failing = t.mock.method(core, name, () => {
      failing.mock.restore();
      throw new TypeError("a mistake");
    });
    proxy.begin(3);
    assert.equal((await proxy.event("Disconnected")).status, "UNKNOWN");
    await proxy.arrives(daemon);
  }
  assert.equal(logged.mock.callCount(), 2);
});

test("without a hook events are logged", async (t) => {
  const daemon = await daemonOf(t);
  const logged = t.mock.method(console, "info", () => {});
  {
    const client = new Client(daemon.target);
    client.begin(APP).end();
    await client[Symbol.asyncDispose]();
  }
  const lines = logged.mock.calls.map((call) => String(call.arguments[0]));
  assert.match(lines[0]!, /^connected to appstatsd as [0-9a-f]{32}$/);
  assert.equal(lines[1], "closed; reports that appstatsd has not confirmed: 0");
});
