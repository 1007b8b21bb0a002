/** A proxy with a client, for tests. */

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import type { TestContext } from "node:test";
import {
  AccessMethod,
  App,
  Client,
  type BeginOptions,
  type Event,
  type Limits,
  type Session,
  type Tls,
} from "../src/index.js";
import { DEADLINE_MS, waitFor, type ScriptedDaemon } from "./scripted_daemon.js";
import { uuid } from "./support.js";

export const APP = new App(uuid(1), uuid(2), uuid(3), AccessMethod.SUBDOMAIN, "code");
export const QUICK: Partial<Limits> = {
  lingerMs: 1,
  backoffBaseMs: 1,
  backoffMaxMs: 10,
  retrySlowestMs: 20,
  refusedRetryMs: 10,
};

type OfType<T> = Extract<Event, { type: T }>;

export class Proxy {
  readonly client: Client;
  readonly sessions: Session[] = [];
  private readonly told: Event[] = [];
  private readonly telling = new EventEmitter();

  constructor(context: TestContext, target: string, limits: Partial<Limits> = {}, tls?: Tls) {
    const onEvent = (event: Event) => {
      this.told.push(event);
      this.telling.emit("told");
    };
    this.client = new Client(target, { limits: { ...QUICK, ...limits }, onEvent, ...(tls && { tls }) });
    context.after(() => this.client.close(0));
  }

  begin(count = 1, options: BeginOptions = {}): Session {
    for (let i = 0; i < count; i += 1) this.sessions.push(this.client.begin(APP, options));
    return this.sessions.at(-1)!;
  }

  end(): void {
    for (const session of this.sessions) session.end();
  }

  close(timeoutMs = DEADLINE_MS): Promise<boolean> {
    return this.client.close(timeoutMs);
  }

  /** The first event of this type that no earlier call returned; those before it are forgotten. */
  async event<T extends Event["type"]>(type: T): Promise<OfType<T>> {
    const place = () => this.told.findIndex((event) => event.type === type);
    await waitFor(
      this.telling,
      "told",
      () => place() >= 0,
      () => JSON.stringify(this.told, (_, value) => String(value)),
    );
    return this.told.splice(0, place() + 1).at(-1) as OfType<T>;
  }

  /** Whether the daemon knows every session of the proxy as it is. */
  isKnownTo(daemon: ScriptedDaemon): boolean {
    const held = daemon.model.sessions;
    return (
      held.size === this.sessions.length &&
      this.sessions.every(({ sessionId, startedNs, endedNs, requests }) => {
        const known = held.get(sessionId.replaceAll("-", ""));
        return known && known.startedNs === startedNs && known.endedNs === endedNs && known.requests === requests;
      })
    );
  }

  /** Waits until the daemon does. */
  async arrives(daemon: ScriptedDaemon): Promise<void> {
    await daemon.wait(() => this.isKnownTo(daemon));
    assert.ok(this.isKnownTo(daemon));
  }
}
