package io.appstatsd.client;

import java.util.UUID;

/** How a session begins, where it is not as usual. Begins as the defaults; each method sets one thing and returns this. */
public final class SessionOptions {
    long requests = 1;
    boolean reportLive = true;
    UUID sessionId; // null: a new one
    long startedNs; // 0: now

    /** One request, reported live, a new id, from now on. */
    public SessionOptions() {}

    /**
     * How many requests it begins with, instead of one.
     *
     * @throws IllegalArgumentException where that is negative
     */
    public SessionOptions requests(long requests) {
        if (requests < 0) {
            throw new IllegalArgumentException("requests is " + requests + "; it cannot be negative");
        }
        this.requests = requests;
        return this;
    }

    /**
     * Whether it is reported as it begins. If not, nothing is reported until it ends, and nothing at all if it never does: for
     * requests that may turn out to be redirects or 404s.
     */
    public SessionOptions reportLive(boolean reportLive) {
        this.reportLive = reportLive;
        return this;
    }

    /**
     * The id of a session that another process began.
     *
     * @throws IllegalArgumentException where it is nil
     */
    public SessionOptions sessionId(UUID sessionId) {
        this.sessionId = Ids.checked("session_id", sessionId);
        return this;
    }

    /**
     * When a session that another process began did so: nanoseconds since the Unix epoch, UTC.
     *
     * @throws IllegalArgumentException where that is not after the epoch
     */
    public SessionOptions startedNs(long startedNs) {
        if (startedNs <= 0) {
            throw new IllegalArgumentException(
                    "started_ns is " + startedNs + "; it has to be nanoseconds since the Unix epoch");
        }
        this.startedNs = startedNs;
        return this;
    }
}
