/**
 * How is the daemon reached? Target, credentials and channel settings; and channels, one for each stream.
 *
 * A channel of @grpc/grpc-js waits for ever for a connection that is neither refused nor answered, and has waits of its
 * own between attempts. So the client makes a new one for every stream, and gives it up when it hangs.
 *
 * Invariant: of channels that were given up because they hang, which may keep their socket until the peer or the kernel
 * ends it, there are at most `MAX_HANGING`.
 */

import { readFileSync } from "node:fs";
import {
  Client as Channel,
  connectivityState,
  credentials,
  Metadata,
  type ChannelCredentials,
  type ChannelOptions,
} from "@grpc/grpc-js";
import type { Limits } from "./limits.js";

export const VERSION = "0.1.0";
export const METHOD = "/appstats.v1.SessionReportService/StreamReports";
/** Trailing metadata of a stream: when to come back. */
const RETRY_DELAY = "appstats-retry-delay-ms";
const MAX_HANGING = 4;

/** Mutual TLS: each is PEM. */
export interface Tls {
  /** Certificates that the daemon's is checked against. */
  readonly ca: Buffer;
  /** The client's own certificate, with its chain. */
  readonly certificate: Buffer;
  /** The key of it. */
  readonly key: Buffer;
}

/** Reads three PEM files. Throws what `readFileSync` throws. */
export function tlsFromFiles(ca: string, certificate: string, key: string): Tls {
  return { ca: readFileSync(ca), certificate: readFileSync(certificate), key: readFileSync(key) };
}

/** Opens channels to one daemon. */
export class Transport {
  private readonly target: string;
  private readonly credentials: ChannelCredentials;
  private readonly options: ChannelOptions;
  private readonly hanging: Channel[] = [];

  /**
   * Throws `RangeError` where `target` is neither `unix:PATH` nor `HOST:PORT`, or has TLS on a unix socket; `Error`
   * where the PEM cannot be read.
   */
  constructor(target: string, tls: Tls | undefined, limits: Limits) {
    const isUnix = /^unix:./.test(target);
    if (!isUnix && !/^(\[[0-9a-fA-F:.%]+\]|[^:/[\]]+):\d{1,5}$/.test(target)) {
      throw new RangeError(`target is ${JSON.stringify(target)}; it has to be unix:PATH or HOST:PORT`);
    }
    if (isUnix && tls) {
      throw new RangeError(
        `target is ${JSON.stringify(target)}; TLS is for HOST:PORT, the mode of a unix socket says who may connect`,
      );
    }
    this.target = isUnix ? target : `dns:${target}`;
    this.credentials = tls ? credentials.createSsl(tls.ca, tls.key, tls.certificate) : credentials.createInsecure();
    this.options = channelOptions(limits);
  }

  /** A channel for one stream. Whoever takes it gives it back. */
  take(): Channel {
    if (this.hanging.length >= MAX_HANGING) return this.hanging.shift()!;
    return new Channel(this.target, this.credentials, this.options);
  }

  /** The stream is over; `hangs` says that the channel never came as far as a connection, nor was refused one. */
  giveBack(channel: Channel, hangs: boolean): void {
    if (hangs) this.hanging.push(channel);
    else channel.close();
  }

  /** There is a better connection, or none is wanted any more. */
  closeHanging(): void {
    for (const channel of this.hanging.splice(0)) channel.close();
  }
}

/** Whether the channel has a connection. */
export function isConnected(channel: Channel): boolean {
  return channel.getChannel().getConnectivityState(false) === connectivityState.READY;
}

/** Says who speaks. */
export function metadata(): Metadata {
  const metadata = new Metadata();
  metadata.set("appstats-client", `node/${VERSION}`);
  return metadata;
}

/** What the daemon said about when to come back; null: nothing that can be read. */
export function retryDelayMs(trailing: Metadata): number | null {
  const [value] = trailing.get(RETRY_DELAY);
  return typeof value === "string" && /^\d+$/.test(value) ? Number(value) : null;
}

function channelOptions(limits: Limits): ChannelOptions {
  return {
    "grpc.keepalive_time_ms": Math.round(limits.keepaliveTimeMs),
    "grpc.keepalive_timeout_ms": Math.round(limits.keepaliveTimeoutMs),
    // Otherwise channels of one target share connections, and so a new one would get one that hangs.
    "grpc.use_local_subchannel_pool": 1,
    // What is sent again is the client's decision, and a daemon on this host is not behind the proxy of the environment.
    "grpc.enable_retries": 0,
    "grpc.enable_http_proxy": 0,
    "grpc.service_config_disable_resolution": 1,
    "grpc.enable_channelz": 0,
  };
}
