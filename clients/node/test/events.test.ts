/** What an operator reads of a client whose proxy has no hook. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { logEvent, type Event } from "../src/events.js";
import { uuid } from "./support.js";

const outage = { type: "Disconnected", status: "UNAVAILABLE", details: "gone", retryMs: 250 } as const;
const replaced = { type: "ClientIdReplaced", oldId: "a", newId: "b", details: "why" } as const;
const rejections = [{ sessionId: uuid(7), reason: "REJECTION_REASON_CONFLICT", message: "another slug" }];
const LOGGED: [Event, "info" | "warn" | "error", RegExp][] = [
  [{ type: "Connected", clientId: "a", ackedSequence: 0n }, "info", /^connected to appstatsd as a$/],
  [{ ...outage, attempt: 1 }, "warn", /not reached \(UNAVAILABLE: gone\); reports wait, next attempt in 0\.3 s$/],
  [
    { type: "Rejected", rejections },
    "warn",
    /rejected 1 reports; .*-000000000007, as REJECTION_REASON_CONFLICT: another slug$/,
  ],
  [
    { type: "BatchRefused", status: "INVALID_ARGUMENT", details: "why", reports: 3, dropped: 2 },
    "error",
    /batch of 3 reports \(INVALID_ARGUMENT: why\); 2 of them are lost/,
  ],
  [{ type: "Dropped", reports: 2, total: 5 }, "warn", /^no room for 2 reports \(5 since the start\)/],
  [{ ...replaced, status: "ABORTED" }, "error", /new client_id b for a \(ABORTED: why\)$/],
  [{ ...replaced, status: "INVALID_ARGUMENT" }, "warn", /new client_id b for a/],
  [{ type: "Closed", confirmed: true, left: 0 }, "info", /not confirmed: 0$/],
  [{ type: "Closed", confirmed: false, left: 4 }, "warn", /not confirmed: 4$/],
];

test("every event is one line of the console, as loud as it matters", (t) => {
  for (const [event, level, line] of LOGGED) {
    const logged = t.mock.method(console, level, () => {});
    logEvent(event);
    assert.equal(logged.mock.callCount(), 1);
    assert.match(String(logged.mock.calls[0]?.arguments[0]), line);
    logged.mock.restore();
  }
});

test("an outage is one warning, however long it lasts", (t) => {
  const logged = (["debug", "info", "warn", "error"] as const).map((level) => t.mock.method(console, level, () => {}));
  logEvent({ ...outage, attempt: 2 });
  assert.deepEqual(
    logged.map((calls) => calls.mock.callCount()),
    [0, 0, 0, 0],
  );
});
