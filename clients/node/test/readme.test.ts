/** The lines that the README shows do what it says. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { daemonOf, DEADLINE_MS } from "./scripted_daemon.js";

const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));
const PLACE = "unix:/run/appstatsd/appstatsd.sock";

test("the lines of the README work", async (t) => {
  const daemon = await daemonOf(t);
  const lines = /```js\n(.*?)```/s.exec(readFileSync(`${PACKAGE}README.md`, "utf8"))?.[1] ?? "";
  assert.ok(lines.includes(PLACE));
  const program = ["--input-type=module", "--eval", lines.replace(PLACE, daemon.target)];
  await promisify(execFile)(process.execPath, program, { cwd: PACKAGE, timeout: DEADLINE_MS });
  const [held, ...others] = [...daemon.model.sessions.values()];
  assert.ok(held && held.endedNs > 0n);
  assert.deepEqual([held.requests, others], [2, []]);
  assert.equal(daemon.model.closed.size, 1);
});
