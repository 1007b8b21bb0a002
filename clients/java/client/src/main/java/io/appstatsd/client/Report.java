package io.appstatsd.client;

import java.util.UUID;

/**
 * What is known of one session? The one value that a session's handle, the buffer and the batches share.
 *
 * <p>{@code startedNs} and {@code sessionId} never change, {@code requests} only grows, and {@code endedNs} is set once.
 * Whoever reads or changes it holds the client's lock. Two reports are never equal, whatever their ids.
 */
final class Report {
    final App app;
    final UUID sessionId;
    /** Nanoseconds since the Unix epoch. */
    final long startedNs;
    /** What the monotonic clock said at the start. */
    final long originNs;
    /** Nanoseconds since the Unix epoch; 0 while the session is live. */
    long endedNs;
    /** Stays at the largest int, 2^31-1, when it gets there; the database has no room for more. */
    int requests;
    /** Whether the daemon may believe the session to be in use, or soon will: its reports are never dropped. */
    boolean tracked;
    /** Whether it was put into a batch as live. */
    boolean saidLive;
    /** Whether the daemon rejected a report of it: it is not reported live again. */
    boolean rejected;
    /** Whether it was in a batch that was refused: it shares none until one of its own is acknowledged. */
    boolean alone;

    Report(App app, UUID sessionId, long startedNs, long originNs, long requests) {
        this.app = app;
        this.sessionId = sessionId;
        this.startedNs = startedNs;
        this.originNs = originNs;
        this.requests = (int) Math.min(requests, Integer.MAX_VALUE);
    }

    /** Counts that many more requests. */
    void count(long more) {
        requests = (int) Math.min(requests + Math.min(more, Integer.MAX_VALUE), Integer.MAX_VALUE);
    }

    /** Sets the end: the start plus what has passed since. */
    void end(long monotonicNs) {
        endedNs = startedNs + Math.max(0, monotonicNs - originNs);
    }

    /** As good as the identity's, which the virtual machine would have to make up and to store first. */
    @Override
    public int hashCode() {
        return sessionId.hashCode();
    }

    @Override
    public boolean equals(Object other) {
        return this == other;
    }
}
