/**
 * What a client leaves behind; alone in its file, and so in its process, because it counts what the process has open.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Proxy } from "./proxy.js";
import { daemonOf } from "./scripted_daemon.js";

test("a hundred reconnects leave nothing behind", async (t) => {
  const daemon = await daemonOf(t);
  const proxy = new Proxy(t, daemon.target);
  const connections = () => process.getActiveResourcesInfo().filter((name) => name === "PipeWrap").length;
  const before = connections();
  for (let i = 0; i < 100; i += 1) daemon.script.push({ status: "UNAVAILABLE" });
  proxy.begin();
  await daemon.wait(() => daemon.script.length === 0);
  await proxy.arrives(daemon);
  assert.ok(connections() > before);
  assert.ok(await proxy.close());
  for (let turn = 0; turn < 1000 && connections() > before; turn += 1) await new Promise(setImmediate);
  assert.equal(connections(), before);
});
