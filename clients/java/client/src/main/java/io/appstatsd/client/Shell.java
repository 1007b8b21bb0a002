package io.appstatsd.client;

import io.appstatsd.v1.StreamReportsRequest;
import io.appstatsd.v1.StreamReportsResponse;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * How do reports leave the proxy? One thread that opens streams, one after another, and moves messages between the core and
 * gRPC.
 *
 * <p>gRPC's own thread only puts down what came and wakes this one. No lock is held over I/O; the thread ends when the core is
 * done.
 */
final class Shell implements Runnable {
    private final Core core;
    private final ReentrantLock lock; // guards the core, and what gRPC has put down
    private final Condition changed;
    private final Clock clock;
    private final Limits limits;
    private final Transport transport;
    private final Runnable tell;

    Shell(
            Core core,
            ReentrantLock lock,
            Condition changed,
            Clock clock,
            Limits limits,
            Transport transport,
            Runnable tell) {
        this.core = core;
        this.lock = lock;
        this.changed = changed;
        this.clock = clock;
        this.limits = limits;
        this.transport = transport;
        this.tell = tell;
    }

    @Override
    public void run() {
        EventLoopGroup eventLoop = null;
        try {
            while (waitForAttempt()) {
                try {
                    eventLoop = eventLoop == null ? transport.newEventLoop() : eventLoop;
                    report(eventLoop);
                } catch (RuntimeException | Error error) {
                    EventLog.LOG.log(System.Logger.Level.ERROR, "a stream is given up; another one follows", error);
                    ended(Status.Code.UNKNOWN, error.toString(), -1);
                }
            }
        } catch (InterruptedException error) { // somebody wants this thread gone
            EventLog.LOG.log(System.Logger.Level.ERROR, "interrupted; the client stays silent until it is closed");
            lock.lock();
            try {
                core.abandon();
            } finally {
                lock.unlock();
            }
        } finally {
            if (eventLoop != null) {
                eventLoop.shutdownGracefully(0, 1, TimeUnit.SECONDS).awaitUninterruptibly(1, TimeUnit.SECONDS);
            }
        }
    }

    /** Waits until a stream is to be opened. False: there is nothing more to do. */
    private boolean waitForAttempt() throws InterruptedException {
        lock.lock();
        try {
            while (!core.done()) {
                long waitNs = core.connectAtNs() - nowNs();
                if (waitNs <= 0) {
                    return true;
                }
                changed.awaitNanos(waitNs);
            }
            return false;
        } finally {
            lock.unlock();
        }
    }

    /** Opens a stream and lives through it. */
    private void report(EventLoopGroup eventLoop) throws InterruptedException {
        ManagedChannel channel = transport.channel(eventLoop);
        try {
            Stream stream = new Stream(channel.newCall(Transport.METHOD, CallOptions.DEFAULT));
            try {
                stream.live();
                ended(stream.status.getCode(), transport.details(stream.status), Transport.retryDelayMs(stream.trailers));
            } finally {
                stream.call.cancel("given up by this client", null);
            }
        } finally {
            channel.shutdownNow();
        }
    }

    private void ended(Status.Code status, String details, long retryDelayMs) {
        lock.lock();
        try {
            core.ended(status, details, retryDelayMs, nowNs());
        } finally {
            lock.unlock();
        }
        tell.run();
    }

    private long nowNs() {
        return clock.monotonicNs().getAsLong();
    }

    /** One stream, and what gRPC has put down of it. */
    private final class Stream extends ClientCall.Listener<StreamReportsResponse> {
        private final ClientCall<StreamReportsRequest, StreamReportsResponse> call;
        private StreamReportsResponse came; // one at a time, since one is asked for at a time
        private boolean connected;
        private Status status; // null: it goes on
        private Metadata trailers = new Metadata();

        Stream(ClientCall<StreamReportsRequest, StreamReportsResponse> call) {
            this.call = call;
        }

        /** Until it has ended. */
        void live() throws InterruptedException {
            StreamReportsRequest first;
            long connectUntilNs;
            lock.lock();
            try {
                connectUntilNs = nowNs() + limits.connectTimeout().toNanos();
                first = core.opened(nowNs());
            } finally {
                lock.unlock();
            }
            call.start(this, Transport.metadata());
            call.request(1);
            call.sendMessage(first);
            while (step(connectUntilNs)) {}
        }

        /** Waits for what is to be done next, and does it. False: the stream is over. */
        private boolean step(long connectUntilNs) throws InterruptedException {
            StreamReportsRequest message = null;
            boolean isOurs = true;
            lock.lock();
            try {
                while (true) {
                    long nowNs = nowNs();
                    if (core.done()) {
                        status = Status.CANCELLED;
                        return false;
                    }
                    if (came != null) {
                        isOurs = core.answered(came, nowNs);
                        came = null;
                        break;
                    }
                    if (status != null) {
                        return false;
                    }
                    if (!connected && nowNs >= connectUntilNs) {
                        String what = "nobody answered the attempt to connect within " + limits.connectTimeout();
                        status = Status.UNAVAILABLE.withDescription(what);
                        return false;
                    }
                    message = call.isReady() ? core.nextMessage(nowNs) : null;
                    if (message != null) {
                        break;
                    }
                    long lookAgainAtNs = call.isReady() ? core.lookAgainAtNs() : Core.NEVER;
                    changed.awaitNanos(Math.min(lookAgainAtNs, connected ? Core.NEVER : connectUntilNs) - nowNs);
                }
            } finally {
                lock.unlock();
            }
            if (message != null) {
                call.sendMessage(message);
            } else if (isOurs) {
                call.request(1);
                tell.run();
            } else {
                call.cancel("appstatsd acknowledges what was never sent", null);
            }
            return true;
        }

        @Override
        public void onReady() {
            put(() -> connected = true);
        }

        @Override
        public void onMessage(StreamReportsResponse message) {
            put(() -> came = message);
        }

        @Override
        public void onClose(Status status, Metadata trailers) {
            put(() -> {
                if (this.status == null) {
                    this.status = status;
                    this.trailers = trailers;
                }
            });
        }

        private void put(Runnable what) {
            lock.lock();
            try {
                what.run();
                changed.signalAll();
            } finally {
                lock.unlock();
            }
        }
    }
}
