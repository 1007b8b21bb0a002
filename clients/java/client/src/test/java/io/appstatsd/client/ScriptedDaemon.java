package io.appstatsd.client;

import io.appstatsd.v1.StreamReportsRequest;
import io.appstatsd.v1.StreamReportsResponse;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollServerDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;

/** A model daemon that serves a unix socket, and refuses batches when the test says so. */
final class ScriptedDaemon implements AutoCloseable {
    private static final long PATIENCE_SECONDS = 30;

    final ModelDaemon model = new ModelDaemon();
    final List<String> names = new ArrayList<>();
    /** How the next batches are answered, instead of being taken. */
    final Deque<Status> refusals = new ArrayDeque<>();
    /** Goes with each refusal. */
    final Metadata trailers = new Metadata();

    private final EventLoopGroup eventLoop = new EpollEventLoopGroup(1);
    private final Server server;
    private AssertionError broken;

    ScriptedDaemon(Path socket) throws IOException {
        server = NettyServerBuilder.forAddress(new DomainSocketAddress(socket.toString()))
                .channelType(EpollServerDomainSocketChannel.class)
                .bossEventLoopGroup(eventLoop)
                .workerEventLoopGroup(eventLoop)
                .directExecutor()
                .addService(ServerServiceDefinition.builder("appstats.v1.SessionReportService")
                        .addMethod(Transport.METHOD, this::stream)
                        .build())
                .build()
                .start();
    }

    /** Waits until it is so; fails when the client has broken a rule of the wire, or the patience is over. */
    synchronized void waitFor(Predicate<ScriptedDaemon> condition) throws InterruptedException {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
        while (!condition.test(this)) {
            long leftMs = TimeUnit.NANOSECONDS.toMillis(until - System.nanoTime());
            if (broken != null || leftMs <= 0) {
                throw new AssertionError("it never came; the daemon holds " + model.sessions, broken);
            }
            wait(leftMs);
        }
    }

    @Override
    public void close() throws InterruptedException {
        server.shutdownNow().awaitTermination();
        eventLoop.shutdownGracefully(0, 1, TimeUnit.SECONDS).await();
    }

    private ServerCall.Listener<StreamReportsRequest> stream(
            ServerCall<StreamReportsRequest, StreamReportsResponse> call, Metadata metadata) {
        synchronized (this) {
            names.add(metadata.get(Transport.CLIENT));
        }
        call.sendHeaders(new Metadata());
        call.request(1);
        return new ServerCall.Listener<>() {
            private String clientId = "";

            @Override
            public void onMessage(StreamReportsRequest message) {
                synchronized (ScriptedDaemon.this) {
                    try {
                        take(message);
                    } catch (AssertionError error) {
                        broken = error;
                        call.close(Status.INTERNAL, new Metadata());
                    }
                    ScriptedDaemon.this.notifyAll();
                }
            }

            private void take(StreamReportsRequest message) {
                if (message.getClosing()) {
                    model.close(clientId, message);
                    call.close(Status.OK, new Metadata());
                    return;
                }
                if (!clientId.isEmpty() && !refusals.isEmpty()) {
                    call.close(refusals.remove(), trailers);
                    return;
                }
                long acked = clientId.isEmpty() ? model.first(message) : model.batch(clientId, message);
                clientId = clientId.isEmpty() ? message.getClientId() : clientId;
                call.sendMessage(StreamReportsResponse.newBuilder().setAckedSequence(acked).build());
                call.request(1);
            }
        };
    }
}
