package io.appstatsd.client;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.MessageLite;
import com.google.protobuf.Parser;
import io.appstatsd.v1.StreamReportsRequest;
import io.appstatsd.v1.StreamReportsResponse;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.Status;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NegotiationType;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.ChannelOption;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.epoll.Epoll;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.nio.NioEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.socket.nio.NioSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import io.grpc.netty.shaded.io.netty.handler.ssl.SslContext;
import io.grpc.netty.shaded.io.netty.util.concurrent.DefaultThreadFactory;
import java.io.ByteArrayInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/**
 * How is the daemon reached? Target, credentials and channel settings.
 *
 * <p>No thread of gRPC is started before an event loop is asked for, and none but the event loop's one runs anything of this
 * client.
 */
final class Transport {
    static final String VERSION = "0.1.0";
    static final MethodDescriptor<StreamReportsRequest, StreamReportsResponse> METHOD =
            MethodDescriptor.<StreamReportsRequest, StreamReportsResponse>newBuilder()
                    .setType(MethodType.BIDI_STREAMING)
                    .setFullMethodName("appstats.v1.SessionReportService/StreamReports")
                    .setRequestMarshaller(new Wire<>(StreamReportsRequest.parser()))
                    .setResponseMarshaller(new Wire<>(StreamReportsResponse.parser()))
                    .build();

    /** Trailing metadata of a stream: when to come back. */
    static final Metadata.Key<String> RETRY_DELAY =
            Metadata.Key.of("appstats-retry-delay-ms", Metadata.ASCII_STRING_MARSHALLER);
    /** Metadata of a stream: who speaks. */
    static final Metadata.Key<String> CLIENT = Metadata.Key.of("appstats-client", Metadata.ASCII_STRING_MARSHALLER);

    private static final String UNIX = "unix:";
    private static final Pattern HOST_AND_PORT = Pattern.compile("(\\[[0-9a-fA-F:.%]+\\]|[^:/\\[\\]]+):\\d{1,5}");
    private static final Pattern MILLISECONDS = Pattern.compile("\\d{1,12}");

    private final String target;
    private final Limits limits;
    private final SslContext tls; // null: none

    /**
     * Checks all that can be known before a connection.
     *
     * @throws IllegalArgumentException where {@code target} is neither {@code unix:PATH} nor {@code HOST:PORT}, has TLS on a
     *     unix socket, or where {@code tls} holds no usable PEM
     */
    Transport(String target, Tls tls, Limits limits) {
        boolean isUnix = target.startsWith(UNIX) && target.length() > UNIX.length();
        if (!isUnix && !HOST_AND_PORT.matcher(target).matches()) {
            throw new IllegalArgumentException("target is \"" + target + "\"; it has to be unix:PATH or HOST:PORT");
        }
        if (isUnix && tls != null) {
            throw new IllegalArgumentException("target is \"" + target
                    + "\"; TLS is for HOST:PORT, the mode of a unix socket says who may connect");
        }
        if (isUnix && !Epoll.isAvailable()) {
            throw new IllegalArgumentException(
                    "target is \"" + target + "\"; unix sockets need Linux on x86_64 or aarch64", Epoll.unavailabilityCause());
        }
        this.target = target;
        this.limits = limits;
        this.tls = tls == null ? null : sslContext(tls);
    }

    /** What the sockets of this client run on: one thread, which must be shut down by whoever asked for it. */
    EventLoopGroup newEventLoop() {
        DefaultThreadFactory daemons = new DefaultThreadFactory("appstatsd-client-io", true);
        return isUnix() ? new EpollEventLoopGroup(1, daemons) : new NioEventLoopGroup(1, daemons);
    }

    /** A channel for one stream. Its own backoff never comes on top of the client's, since it never connects twice. */
    ManagedChannel channel(EventLoopGroup eventLoop) {
        NettyChannelBuilder builder = isUnix()
                ? NettyChannelBuilder.forAddress(new DomainSocketAddress(target.substring(UNIX.length())))
                        .channelType(EpollDomainSocketChannel.class, DomainSocketAddress.class)
                        .overrideAuthority("localhost")
                        .withOption(ChannelOption.SO_KEEPALIVE, null) // a unix socket has none, and netty would say so
                : NettyChannelBuilder.forTarget("dns:///" + target).channelType(NioSocketChannel.class);
        return builder.eventLoopGroup(eventLoop)
                .negotiationType(tls == null ? NegotiationType.PLAINTEXT : NegotiationType.TLS)
                .sslContext(tls)
                .directExecutor() // what comes in only wakes the shell
                .keepAliveTime(limits.keepaliveTime().toNanos(), TimeUnit.NANOSECONDS)
                .keepAliveTimeout(limits.keepaliveTimeout().toNanos(), TimeUnit.NANOSECONDS)
                // What is sent again is the client's decision, and a daemon on this host is not behind anybody's proxy.
                .disableRetry()
                .disableServiceConfigLookUp()
                .proxyDetector(address -> null)
                .build();
    }

    /** The metadata of a stream. */
    static Metadata metadata() {
        Metadata metadata = new Metadata();
        metadata.put(CLIENT, "java/" + VERSION);
        return metadata;
    }

    /** What the daemon said about when to come back; negative: nothing that can be read. */
    static long retryDelayMs(Metadata trailers) {
        String told = trailers.get(RETRY_DELAY);
        return told != null && MILLISECONDS.matcher(told).matches() ? Long.parseLong(told) : -1;
    }

    /** Why a stream ended, with the reason below it, which says more. */
    String details(Status status) {
        StringBuilder details = new StringBuilder(status.getDescription() == null ? "" : status.getDescription());
        for (Throwable cause = status.getCause(); cause != null; cause = cause.getCause()) {
            // A socket that is not there is an exception without a word.
            String message = cause instanceof FileNotFoundException ? "no socket at " + target : cause.toString();
            message = cause.getMessage() == null ? message : cause.getMessage();
            if (details.indexOf(message) < 0) {
                details.append(details.isEmpty() ? "" : ": ").append(message);
            }
        }
        return details.toString();
    }

    private boolean isUnix() {
        return target.startsWith(UNIX);
    }

    private static SslContext sslContext(Tls tls) {
        try (InputStream ca = new ByteArrayInputStream(tls.ca());
                InputStream certificate = new ByteArrayInputStream(tls.certificate());
                InputStream key = new ByteArrayInputStream(tls.key())) {
            return GrpcSslContexts.forClient()
                    .trustManager(ca)
                    .keyManager(certificate, key)
                    .build();
        } catch (IOException | IllegalArgumentException error) {
            throw new IllegalArgumentException(
                    "tls holds no usable PEM (a CA, a certificate and its key as PKCS #8): " + error.getMessage(), error);
        }
    }

    /** Messages of protobuf as gRPC wants them. */
    private record Wire<T extends MessageLite>(Parser<T> parser) implements MethodDescriptor.Marshaller<T> {
        @Override
        public InputStream stream(T message) {
            return new ByteArrayInputStream(message.toByteArray());
        }

        @Override
        public T parse(InputStream stream) {
            try {
                return parser.parseFrom(stream);
            } catch (InvalidProtocolBufferException error) {
                throw Status.INTERNAL
                        .withDescription("appstatsd sent what is no message of the protocol")
                        .withCause(error)
                        .asRuntimeException();
            }
        }
    }
}
