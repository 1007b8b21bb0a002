package io.appstatsd.client;

import java.util.UUID;

/** One use of one app by one user, as the proxy holds it: made by {@link Client#begin}, for any thread. */
public final class Session implements AutoCloseable {
    private final Client client;
    private final Report report;

    Session(Client client, Report report) {
        this.client = client;
        this.report = report;
    }

    /** What identifies it, in the database too. */
    public UUID sessionId() {
        return report.sessionId;
    }

    /** The app that is used. */
    public App app() {
        return report.app;
    }

    /** How many requests were counted so far. */
    public int requests() {
        return client.requests(report);
    }

    /** When it began: nanoseconds since the Unix epoch, UTC. */
    public long startedNs() {
        return report.startedNs;
    }

    /** When it ended: nanoseconds since the Unix epoch, UTC; 0 while it is live. */
    public long endedNs() {
        return client.endedNs(report);
    }

    /** Counts one more request. Does nothing once the session has ended. */
    public void update() {
        client.update(report, 1);
    }

    /**
     * Counts that many more requests. Does nothing once the session has ended.
     *
     * @throws IllegalArgumentException where {@code requests} is negative
     */
    public void update(long requests) {
        if (requests < 0) {
            throw new IllegalArgumentException("requests is " + requests + "; a count only grows");
        }
        client.update(report, requests);
    }

    /** Says that it is over, now. Does nothing once the session has ended. */
    public void end() {
        client.end(report);
    }

    /** The same as {@link #end}, for a {@code try} block. */
    @Override
    public void close() {
        end();
    }
}
