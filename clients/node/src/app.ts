/**
 * Which app is a session of? The five fields that many sessions share, checked once.
 *
 * Invariant: what an `App` holds the daemon accepts, so a mistake shows where it is made and never on the way of a
 * report. Two apps of one `key` are the same to the daemon.
 */

/** A UUID as text, or as its 16 bytes in network order. */
export type UuidLike = string | Uint8Array;

/** How a user reached an app; the numbers of the wire. */
export enum AccessMethod {
  /** By a path on the proxy's own host name. */
  PATH = 1,
  /** By a host name of the app's own. */
  SUBDOMAIN = 2,
  /** By a terminal. */
  TERMINAL = 3,
}

const MAX_SLUG_CHARACTERS = 256;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const UUID_IN_OTHER_WORDS = /^([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})$/;
const NIL = "00000000-0000-0000-0000-000000000000";

/**
 * An id as text, in lower case and with hyphens. Throws `RangeError` where `value` is no UUID, or is the nil one; the
 * message calls it `name`.
 */
export function idText(name: string, value: UuidLike): string {
  let text = typeof value === "string" ? value : Buffer.from(value).toString("hex");
  if (!UUID.test(text)) {
    text = text.toLowerCase();
    text = UUID_IN_OTHER_WORDS.test(text) ? text.replace(UUID_IN_OTHER_WORDS, "$1-$2-$3-$4-$5") : NIL;
  }
  if (text === NIL)
    throw new RangeError(`${name} is ${JSON.stringify(value)}; it has to be a UUID (text or 16 bytes) and not nil`);
  return text;
}

/** The bytes of ids that `idText` made, one after another. */
export function idBytes(ids: readonly string[]): Buffer {
  return Buffer.from(ids.join("").replaceAll("-", ""), "hex");
}

/** One app of one workspace as one user reaches it. It does not change, and can be used for any number of sessions. */
export class App {
  /** Who uses the app: a UUID as text. */
  readonly userId: string;
  /** The workspace that it runs in. */
  readonly workspaceId: string;
  /** The agent in the workspace that serves it. */
  readonly agentId: string;
  /** How it is reached. */
  readonly accessMethod: AccessMethod;
  /** The app's slug, or the forwarded port. */
  readonly slugOrPort: string;
  /** All five fields, one after another: equal keys are equal apps. */
  readonly key: string;
  /** At most how much it adds to a batch, in bytes. */
  readonly wireBytes: number;

  /**
   * Throws `RangeError` where an id is no UUID or nil, or where `slugOrPort` is longer than 256 characters, holds a NUL
   * or half a character, or is empty though the access method is not the terminal.
   */
  constructor(
    userId: UuidLike,
    workspaceId: UuidLike,
    agentId: UuidLike,
    accessMethod: AccessMethod,
    slugOrPort: string,
  ) {
    this.userId = idText("userId", userId);
    this.workspaceId = idText("workspaceId", workspaceId);
    this.agentId = idText("agentId", agentId);
    if (typeof accessMethod !== "number" || AccessMethod[accessMethod] === undefined) {
      throw new RangeError(`accessMethod is ${JSON.stringify(accessMethod)}; it has to be an AccessMethod`);
    }
    if (slugOrPort === "" && accessMethod !== AccessMethod.TERMINAL) {
      throw new RangeError("slugOrPort is empty; only a terminal's may be");
    }
    if (isTooLong(slugOrPort) || slugOrPort.includes("\0") || !slugOrPort.isWellFormed()) {
      const what = JSON.stringify(slugOrPort);
      throw new RangeError(
        `slugOrPort is ${what}; it has at most ${MAX_SLUG_CHARACTERS} characters, and no NUL or lone surrogate`,
      );
    }
    this.accessMethod = accessMethod;
    this.slugOrPort = slugOrPort;
    this.key = `${this.userId}${this.workspaceId}${this.agentId}${accessMethod}${slugOrPort}`;
    // The ids and the access method, the slug, and tags and lengths of five fields and of the message itself.
    this.wireBytes = 3 * 16 + 1 + Buffer.byteLength(slugOrPort) + 18;
  }
}

/** Characters are code points, as the daemon counts them. */
function isTooLong(slug: string): boolean {
  return slug.length > MAX_SLUG_CHARACTERS && [...slug].length > MAX_SLUG_CHARACTERS;
}
