package io.appstatsd.conformance;

import com.google.gson.JsonObject;
import io.appstatsd.client.AccessMethod;
import io.appstatsd.client.App;
import io.appstatsd.client.Client;
import io.appstatsd.client.Stats;
import io.grpc.CallOptions;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import io.grpc.stub.ClientCalls;
import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.util.Arrays;
import java.util.UUID;

/** What does the proxy's call cost, beside an empty unary call? The instruction {@code bench} of the conformance suite. */
final class Bench {
    private static final MethodDescriptor<byte[], byte[]> CHECK = MethodDescriptor.<byte[], byte[]>newBuilder()
            .setType(MethodType.UNARY)
            .setFullMethodName("grpc.health.v1.Health/Check")
            .setRequestMarshaller(new Raw())
            .setResponseMarshaller(new Raw())
            .build();

    private final String target;

    Bench(String target) {
        this.target = target;
    }

    JsonObject run(int rounds, int pairs, int calls) throws InterruptedException {
        App app = new App(new UUID(0, 1), new UUID(0, 2), new UUID(0, 3), AccessMethod.PATH, "bench");
        double[] costs = new double[rounds];
        try (Client client = new Client(target)) {
            for (int round = -1; round < rounds; round++) {
                double cost = round(client, app, pairs);
                if (round >= 0) {
                    costs[round] = cost;
                }
            }
        }
        JsonObject said = new JsonObject();
        said.addProperty("begin_end_ns", Math.round(median(costs)));
        said.addProperty("unary_call_ns", Math.round(unaryCall(calls)));
        return said;
    }

    private static double round(Client client, App app, int pairs) throws InterruptedException {
        long began = System.nanoTime();
        for (int pair = 0; pair < pairs; pair++) {
            client.begin(app).end();
        }
        double cost = (double) (System.nanoTime() - began) / pairs;
        for (Stats stats = client.stats();
                stats.pendingReports() > 0 || stats.unacknowledgedReports() > 0;
                stats = client.stats()) {
            Thread.sleep(10);
        }
        return cost;
    }

    private double unaryCall(int calls) {
        EventLoopGroup eventLoop = null;
        NettyChannelBuilder builder;
        if (target.startsWith("unix:")) {
            eventLoop = new EpollEventLoopGroup(1);
            builder = NettyChannelBuilder.forAddress(new DomainSocketAddress(target.substring("unix:".length())))
                    .eventLoopGroup(eventLoop)
                    .channelType(EpollDomainSocketChannel.class, DomainSocketAddress.class)
                    .overrideAuthority("localhost");
        } else {
            builder = NettyChannelBuilder.forTarget(target);
        }
        ManagedChannel channel = builder.usePlaintext().build();
        double[] times = new double[calls];
        for (int call = -calls / 10; call < calls; call++) {
            long began = System.nanoTime();
            ClientCalls.blockingUnaryCall(channel, CHECK, CallOptions.DEFAULT, new byte[0]);
            if (call >= 0) {
                times[call] = System.nanoTime() - began;
            }
        }
        channel.shutdownNow();
        if (eventLoop != null) {
            eventLoop.shutdownGracefully();
        }
        return median(times);
    }

    private static double median(double[] values) {
        Arrays.sort(values);
        int half = values.length / 2;
        return values.length % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
    }

    private static final class Raw implements MethodDescriptor.Marshaller<byte[]> {
        @Override
        public InputStream stream(byte[] message) {
            return new ByteArrayInputStream(message);
        }

        @Override
        public byte[] parse(InputStream stream) {
            return new byte[0];
        }
    }
}
