package io.appstatsd.client;

import java.time.Duration;

/**
 * How much may a client hold, and how long may it wait? The constants of {@code docs/client-protocol.md}.
 *
 * <p>No combination that passes here breaks a limit of the daemon (10,000 reports and 4 MiB a batch). A client holds at most
 * {@code maxLiveSessions} + {@code maxPendingReports} + {@code windowBatches} × {@code batchMaxReports} reports. There is no
 * bound on a channel's own backoff, since every stream has a channel of its own.
 *
 * <p>Made by {@link #builder}.
 */
public final class Limits {
    /** How long {@link Client#close()} tries. */
    public static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(5);

    private static final Duration LEAST_TIME = Duration.ofMillis(1);

    private final int batchMaxReports;
    private final int batchMaxBytes;
    private final Duration linger;
    private final int windowBatches;
    private final int maxLiveSessions;
    private final int maxPendingReports;
    private final Duration backoffBase;
    private final Duration backoffMax;
    private final Duration connectTimeout;
    private final Duration retrySlowest;
    private final Duration refusedRetry;
    private final Duration keepaliveTime;
    private final Duration keepaliveTimeout;

    private Limits(Builder builder) {
        batchMaxReports = checked("batchMaxReports", builder.batchMaxReports, 10_000);
        batchMaxBytes = checked("batchMaxBytes", builder.batchMaxBytes, 4 << 20);
        linger = checked("linger", builder.linger, Duration.ZERO);
        windowBatches = checked("windowBatches", builder.windowBatches, Integer.MAX_VALUE);
        maxLiveSessions = checked("maxLiveSessions", builder.maxLiveSessions, Integer.MAX_VALUE);
        maxPendingReports = checked("maxPendingReports", builder.maxPendingReports, Integer.MAX_VALUE);
        backoffBase = checked("backoffBase", builder.backoffBase, LEAST_TIME);
        backoffMax = checked("backoffMax", builder.backoffMax, LEAST_TIME);
        connectTimeout = checked("connectTimeout", builder.connectTimeout, LEAST_TIME);
        retrySlowest = checked("retrySlowest", builder.retrySlowest, LEAST_TIME);
        refusedRetry = checked("refusedRetry", builder.refusedRetry, LEAST_TIME);
        keepaliveTime = checked("keepaliveTime", builder.keepaliveTime, LEAST_TIME);
        keepaliveTimeout = checked("keepaliveTimeout", builder.keepaliveTimeout, LEAST_TIME);
    }

    /** The defaults, to be changed. */
    public static Builder builder() {
        return new Builder();
    }

    /** Reports in a batch; at most 10,000. */
    public int batchMaxReports() {
        return batchMaxReports;
    }

    /** Bytes in a batch; at most 4 MiB. */
    public int batchMaxBytes() {
        return batchMaxBytes;
    }

    /** How long a report waits for others to share its batch with; may be zero. */
    public Duration linger() {
        return linger;
    }

    /** Batches on their way without an acknowledgement. */
    public int windowBatches() {
        return windowBatches;
    }

    /** Sessions that the daemon may believe to be in use, or will. Others are reported when they end. */
    public int maxLiveSessions() {
        return maxLiveSessions;
    }

    /** Reports of ended sessions that wait to be sent. Further ones are dropped and counted. */
    public int maxPendingReports() {
        return maxPendingReports;
    }

    /** Bound of the first random wait before a reconnect; it doubles with every attempt. */
    public Duration backoffBase() {
        return backoffBase;
    }

    /** Bound of every such wait. */
    public Duration backoffMax() {
        return backoffMax;
    }

    /** How long an attempt to connect may take that nobody answers. */
    public Duration connectTimeout() {
        return connectTimeout;
    }

    /** The longest wait of all, and the one after a refusal that only a person can mend. */
    public Duration retrySlowest() {
        return retrySlowest;
    }

    /** When a report that the daemon refused alone, and that must not be lost, is tried again. */
    public Duration refusedRetry() {
        return refusedRetry;
    }

    /** Silence after which the client pings; gRPC takes less than ten seconds as ten. */
    public Duration keepaliveTime() {
        return keepaliveTime;
    }

    /** How long an answer to a ping may take. */
    public Duration keepaliveTimeout() {
        return keepaliveTimeout;
    }

    private static int checked(String name, int value, int most) {
        if (value < 1 || value > most) {
            throw new IllegalArgumentException(name + " is " + value + "; it has to be from 1 to " + most);
        }
        return value;
    }

    private static Duration checked(String name, Duration value, Duration least) {
        if (value.compareTo(least) < 0 || value.compareTo(Duration.ofDays(365)) > 0) {
            throw new IllegalArgumentException(name + " is " + value + "; it has to be at least " + least
                    + " and at most a year");
        }
        return value;
    }

    /** Bounds and times that begin as the defaults. */
    public static final class Builder {
        private int batchMaxReports = 1_000;
        private int batchMaxBytes = 1 << 20;
        private Duration linger = Duration.ofSeconds(1);
        private int windowBatches = 8;
        private int maxLiveSessions = 100_000;
        private int maxPendingReports = 100_000;
        private Duration backoffBase = Duration.ofMillis(250);
        private Duration backoffMax = Duration.ofSeconds(8);
        private Duration connectTimeout = Duration.ofSeconds(5);
        private Duration retrySlowest = Duration.ofSeconds(10);
        private Duration refusedRetry = Duration.ofSeconds(60);
        private Duration keepaliveTime = Duration.ofSeconds(20);
        private Duration keepaliveTimeout = Duration.ofSeconds(10);

        private Builder() {}

        /** Reports in a batch; at most 10,000. */
        public Builder batchMaxReports(int batchMaxReports) {
            this.batchMaxReports = batchMaxReports;
            return this;
        }

        /** Bytes in a batch; at most 4 MiB. */
        public Builder batchMaxBytes(int batchMaxBytes) {
            this.batchMaxBytes = batchMaxBytes;
            return this;
        }

        /** How long a report waits for others to share its batch with; may be zero. */
        public Builder linger(Duration linger) {
            this.linger = linger;
            return this;
        }

        /** Batches on their way without an acknowledgement. */
        public Builder windowBatches(int windowBatches) {
            this.windowBatches = windowBatches;
            return this;
        }

        /** Sessions that the daemon may believe to be in use, or will. Others are reported when they end. */
        public Builder maxLiveSessions(int maxLiveSessions) {
            this.maxLiveSessions = maxLiveSessions;
            return this;
        }

        /** Reports of ended sessions that wait to be sent. Further ones are dropped and counted. */
        public Builder maxPendingReports(int maxPendingReports) {
            this.maxPendingReports = maxPendingReports;
            return this;
        }

        /** Bound of the first random wait before a reconnect; it doubles with every attempt. */
        public Builder backoffBase(Duration backoffBase) {
            this.backoffBase = backoffBase;
            return this;
        }

        /** Bound of every such wait. */
        public Builder backoffMax(Duration backoffMax) {
            this.backoffMax = backoffMax;
            return this;
        }

        /** How long an attempt to connect may take that nobody answers. */
        public Builder connectTimeout(Duration connectTimeout) {
            this.connectTimeout = connectTimeout;
            return this;
        }

        /** The longest wait of all, and the one after a refusal that only a person can mend. */
        public Builder retrySlowest(Duration retrySlowest) {
            this.retrySlowest = retrySlowest;
            return this;
        }

        /** When a report that the daemon refused alone, and that must not be lost, is tried again. */
        public Builder refusedRetry(Duration refusedRetry) {
            this.refusedRetry = refusedRetry;
            return this;
        }

        /** Silence after which the client pings; gRPC takes less than ten seconds as ten. */
        public Builder keepaliveTime(Duration keepaliveTime) {
            this.keepaliveTime = keepaliveTime;
            return this;
        }

        /** How long an answer to a ping may take. */
        public Builder keepaliveTimeout(Duration keepaliveTimeout) {
            this.keepaliveTimeout = keepaliveTimeout;
            return this;
        }

        /**
         * The limits.
         *
         * @throws IllegalArgumentException where one is out of range
         */
        public Limits build() {
            return new Limits(this);
        }
    }
}
