package io.appstatsd.client;

import java.security.SecureRandom;
import java.time.Duration;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Consumer;

/**
 * What does the proxy call? Reports sessions from any thread; one for each process.
 *
 * <p>{@link #begin} and the methods of {@link Session} wait for nothing but the client's own lock, which is never held over
 * I/O, and throw nothing for what the transport does. What they say goes out by the thread {@code appstatsd-client}, which the
 * first session starts and {@link #close} joins.
 */
public final class Client implements AutoCloseable {
    private final Transport transport;
    private final Limits limits;
    private final Consumer<Event> onEvent;
    private final Clock clock;

    private final ReentrantLock lock = new ReentrantLock(); // guards the core, every report, and all below
    private final Condition changed = lock.newCondition();
    private final Ids ids;
    private final Core core;
    private boolean started;
    private Thread shell; // null: not started, or there was no thread to be had

    /**
     * A client with all defaults, on a unix socket or on TCP without TLS.
     *
     * @param target {@code unix:PATH} or {@code HOST:PORT}
     * @throws IllegalArgumentException where {@code target} is neither
     */
    public Client(String target) {
        this(builder(target));
    }

    private Client(Builder builder) {
        transport = new Transport(builder.target, builder.tls, builder.limits);
        limits = builder.limits;
        onEvent = builder.onEvent;
        clock = builder.clock;
        SecureRandom random = new SecureRandom();
        ids = new Ids(random);
        core = new Core(
                limits,
                () -> Ids.newClientId(random),
                (least, most) -> least + random.nextDouble() * (most - least));
    }

    /**
     * A client that differs from the defaults.
     *
     * @param target {@code unix:PATH} or {@code HOST:PORT}
     */
    public static Builder builder(String target) {
        return new Builder(target);
    }

    /** Begins a session of this app, now, with a new session id and one request, and reports it as live. */
    public Session begin(App app) {
        return begin(app, DEFAULTS);
    }

    /** Begins a session of this app, as the options say. */
    public Session begin(App app, SessionOptions options) {
        long monotonicNs = clock.monotonicNs().getAsLong();
        long wallNs = clock.wallNs().getAsLong();
        long startedNs = options.startedNs == 0 ? wallNs : options.startedNs;
        long originNs = monotonicNs - Math.max(0, wallNs - startedNs);
        lock.lock();
        try {
            if (!started) {
                start();
            }
            UUID sessionId = options.sessionId == null ? ids.next() : options.sessionId;
            Report report = new Report(app, sessionId, startedNs, originNs, options.requests);
            if (options.reportLive && core.buffer.begin(report, monotonicNs)) {
                changed.signalAll();
            }
            return new Session(this, report);
        } finally {
            lock.unlock();
        }
    }

    /** What the client holds and has done so far. */
    public Stats stats() {
        lock.lock();
        try {
            return core.stats();
        } finally {
            lock.unlock();
        }
    }

    /** Closes with {@link Limits#CLOSE_TIMEOUT}. */
    @Override
    public void close() {
        close(Limits.CLOSE_TIMEOUT);
    }

    /**
     * Ends what is left and sends it. Later calls, of this and of all else, do nothing.
     *
     * <p>Not to be called by {@code onEvent}, which runs on the thread that this waits for. A thread that is interrupted while it
     * waits gives up as at the deadline, and stays interrupted.
     *
     * @return whether the daemon has confirmed everything in time
     */
    public boolean close(Duration timeout) {
        Thread running;
        lock.lock();
        try {
            core.close(clock.monotonicNs().getAsLong());
            changed.signalAll();
            running = shell;
        } finally {
            lock.unlock();
        }
        boolean interrupted = running != null && joinWithin(running, timeout.toNanos());
        lock.lock();
        try {
            core.abandon();
            changed.signalAll();
        } finally {
            lock.unlock();
        }
        while (running != null && running.isAlive()) {
            interrupted |= joinWithin(running, Long.MAX_VALUE);
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
        tell();
        lock.lock();
        try {
            return core.confirmed();
        } finally {
            lock.unlock();
        }
    }

    void update(Report report, long requests) {
        lock.lock();
        try {
            if (report.endedNs == 0) {
                report.count(requests);
                if (core.buffer.changed(report, clock.monotonicNs().getAsLong())) {
                    changed.signalAll();
                }
            }
        } finally {
            lock.unlock();
        }
    }

    void end(Report report) {
        lock.lock();
        try {
            if (report.endedNs == 0) {
                long nowNs = clock.monotonicNs().getAsLong();
                report.end(nowNs);
                if (core.buffer.ended(report, nowNs)) {
                    changed.signalAll();
                }
            }
        } finally {
            lock.unlock();
        }
    }

    int requests(Report report) {
        lock.lock();
        try {
            return report.requests;
        } finally {
            lock.unlock();
        }
    }

    long endedNs(Report report) {
        lock.lock();
        try {
            return report.endedNs;
        } finally {
            lock.unlock();
        }
    }

    /** Hands what happened to {@code onEvent}; without the lock, and never on the proxy's way. */
    void tell() {
        Iterable<Event> happened;
        lock.lock();
        try {
            happened = core.takeEvents();
        } finally {
            lock.unlock();
        }
        for (Event event : happened) {
            try {
                onEvent.accept(event);
            } catch (RuntimeException error) { // the proxy's own code: its mistakes must not cost reports
                EventLog.LOG.log(System.Logger.Level.ERROR, "onEvent failed for " + event, error);
            }
        }
    }

    /** The first session begins. */
    private void start() {
        started = true;
        if (core.done()) {
            return;
        }
        Thread thread = new Thread(new Shell(core, lock, changed, clock, limits, transport, this::tell), "appstatsd-client");
        thread.setDaemon(true);
        try {
            thread.start();
            shell = thread;
        } catch (OutOfMemoryError error) { // no more threads: the proxy must not suffer for it
            EventLog.LOG.log(System.Logger.Level.ERROR, "cannot report sessions: no thread; the client stays silent", error);
            core.abandon();
        }
    }

    /** Returns whether it was interrupted. */
    private static boolean joinWithin(Thread thread, long timeoutNs) {
        try {
            TimeUnit.NANOSECONDS.timedJoin(thread, timeoutNs);
            return false;
        } catch (InterruptedException error) {
            return true;
        }
    }

    private static final SessionOptions DEFAULTS = new SessionOptions();

    /** What may differ from the defaults. */
    public static final class Builder {
        private final String target;
        private Tls tls;
        private Limits limits = Limits.builder().build();
        private Consumer<Event> onEvent = new EventLog();
        private Clock clock = Clock.system();

        private Builder(String target) {
            this.target = target;
        }

        /** Mutual TLS, for {@code HOST:PORT} only. */
        public Builder tls(Tls tls) {
            this.tls = tls;
            return this;
        }

        /** Bounds and times. */
        public Builder limits(Limits limits) {
            this.limits = limits;
            return this;
        }

        /** Is told what happens, by the client's thread; without it that goes to the platform's logger. */
        public Builder onEvent(Consumer<Event> onEvent) {
            this.onEvent = onEvent;
            return this;
        }

        /** A wall clock and a monotonic clock. */
        public Builder clock(Clock clock) {
            this.clock = clock;
            return this;
        }

        /**
         * The client; nothing is started before its first session.
         *
         * @throws IllegalArgumentException where the target is neither {@code unix:PATH} nor {@code HOST:PORT}, has TLS on a
         *     unix socket, or where the TLS holds no usable PEM
         */
        public Client build() {
            return new Client(this);
        }
    }
}
