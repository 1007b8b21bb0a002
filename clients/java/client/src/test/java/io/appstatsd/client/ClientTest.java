package io.appstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The client over real sockets, against a daemon that does as it is told. */
@Timeout(60)
class ClientTest {
    private static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final App APP = Wire.APP;

    @TempDir
    Path folder;

    private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();
    private final List<Client> clients = new ArrayList<>();
    private String target;
    private ScriptedDaemon daemon;

    @BeforeEach
    void startDaemon() throws IOException {
        target = "unix:" + folder.resolve("a.sock");
        daemon = new ScriptedDaemon(folder.resolve("a.sock"));
    }

    @AfterEach
    void stopDaemon() throws InterruptedException {
        clients.forEach(client -> client.close(Duration.ZERO)); // where a test failed
        daemon.close();
        for (Thread thread : Thread.getAllStackTraces().keySet()) {
            if (thread.getName().startsWith("appstatsd-client")) {
                thread.join(PATIENCE.toMillis()); // netty says that it has ended a moment before it has
                assertFalse(thread.isAlive(), thread.getName() + " is left of a closed client");
            }
        }
    }

    private static Limits.Builder quick() {
        return Limits.builder()
                .linger(Duration.ofMillis(1))
                .backoffBase(Duration.ofMillis(1))
                .backoffMax(Duration.ofMillis(10))
                .retrySlowest(Duration.ofMillis(10));
    }

    private Client client(String target) {
        Client client = Client.builder(target).limits(quick().build()).onEvent(events::add).build();
        clients.add(client);
        return client;
    }

    private <T extends Event> T next(Class<T> kind) throws InterruptedException {
        while (true) {
            Event event = events.poll(PATIENCE.toSeconds(), TimeUnit.SECONDS);
            assertNotNull(event, "no " + kind.getSimpleName());
            if (kind.isInstance(event)) {
                return kind.cast(event);
            }
        }
    }

    private static boolean knows(ScriptedDaemon daemon, Session session) {
        ModelDaemon.Held held = daemon.model.sessions.get(session.sessionId());
        return held != null
                && held.requests() == session.requests()
                && held.startedNs() == session.startedNs()
                && held.endedNs() == session.endedNs();
    }

    @Test
    void aSessionIsLiveAtTheDaemonUntilItEndsAndTheClientSaysWhoItIs() throws InterruptedException {
        try (Client client = client(target)) {
            Session session = client.begin(APP);
            daemon.waitFor(d -> knows(d, session));
            session.update(3);
            daemon.waitFor(d -> knows(d, session));
            session.end();
            daemon.waitFor(d -> knows(d, session));
            assertTrue(session.endedNs() >= session.startedNs());
        }
        assertEquals(List.of("java/0.1.0"), daemon.names);
        assertTrue(daemon.model.closed.iterator().next().matches("[0-9a-f]{32}"));
        assertEquals(new Event.Closed(true, 0), next(Event.Closed.class));
    }

    @ParameterizedTest
    @EnumSource(
            names = {
                "OK",
                "INVALID_ARGUMENT",
                "RESOURCE_EXHAUSTED",
                "ALREADY_EXISTS",
                "ABORTED",
                "UNAUTHENTICATED",
                "PERMISSION_DENIED",
                "UNAVAILABLE",
                "INTERNAL"
            })
    void liveSessionsSurviveEveryStatus(Status.Code code) throws InterruptedException {
        daemon.refusals.add(code.toStatus().withDescription("because"));
        Client client = client(target);
        List<Session> sessions = IntStream.range(0, 5).mapToObj(i -> client.begin(APP)).toList();
        daemon.waitFor(d -> d.refusals.isEmpty() && sessions.stream().allMatch(session -> knows(d, session)));
        Event.Disconnected gone = next(Event.Disconnected.class);
        assertEquals(code, gone.status());
        assertEquals(1, gone.attempt());
        assertTrue(client.close(PATIENCE));
        assertTrue(sessions.stream().allMatch(session -> session.endedNs() > 0 && knows(daemon, session)));
        assertEquals(0, client.stats().droppedReports());
    }

    @Test
    void theDaemonSaysWhenToComeBack() throws InterruptedException {
        daemon.trailers.put(Transport.RETRY_DELAY, "8");
        daemon.refusals.add(Status.UNAVAILABLE);
        try (Client client = client(target)) {
            client.begin(APP);
            long retryNs = next(Event.Disconnected.class).retryIn().toNanos();
            assertTrue(retryNs >= 8_000_000 && retryNs <= 10_000_000, retryNs + " ns");
        }
    }

    @Test
    void aHundredReconnectsLeaveNothingBehind() throws InterruptedException {
        daemon.refusals.addAll(Collections.nCopies(100, Status.UNAVAILABLE));
        try (Client client = client(target)) {
            Session session = client.begin(APP);
            daemon.waitFor(d -> knows(d, session));
        }
        assertEquals(1, daemon.model.closed.size());
    }

    @Test
    void closingWithADaemonThatIsAwayEndsAtTheDeadline() throws InterruptedException {
        Client client = client("unix:" + folder.resolve("none.sock"));
        IntStream.range(0, 3).forEach(i -> client.begin(APP));
        Event.Disconnected gone = next(Event.Disconnected.class);
        assertEquals(Status.Code.UNAVAILABLE, gone.status());
        assertTrue(gone.details().contains("none.sock"), gone.details());
        assertFalse(client.close(Duration.ofMillis(50)));
        assertEquals(new Event.Closed(false, 3), next(Event.Closed.class));
        assertEquals(3, client.stats().droppedReports());
        client.begin(APP).end();
    }

    @Test
    void aListenerThatNeverAnswersIsGivenUp() throws Exception {
        try (ServerSocket silent = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            Client client = Client.builder("127.0.0.1:" + silent.getLocalPort())
                    .limits(quick().connectTimeout(Duration.ofMillis(50)).build())
                    .onEvent(events::add)
                    .build();
            client.begin(APP);
            Event.Disconnected gone = next(Event.Disconnected.class);
            assertEquals(Status.Code.UNAVAILABLE, gone.status());
            assertTrue(gone.details().contains("nobody answered"), gone.details());
            client.close(Duration.ofMillis(1));
        }
    }

    @Test
    void aHookThatFailsCostsNoReport() throws InterruptedException {
        Client client = Client.builder(target)
                .limits(quick().build())
                .onEvent(event -> {
                    throw new IllegalStateException("the proxy's own mistake");
                })
                .build();
        Session session = client.begin(APP);
        daemon.waitFor(d -> knows(d, session));
        assertTrue(client.close(PATIENCE));
    }

    @Test
    void anInterruptedCloseGivesUpAndStaysInterrupted() {
        Client client = client("unix:" + folder.resolve("none.sock"));
        client.begin(APP);
        Thread.currentThread().interrupt();
        assertFalse(client.close(PATIENCE));
        assertTrue(Thread.interrupted());
    }

    @Test
    void aClientThatNeverReportedClosesAtOnceAndNeverConnects() {
        Client client = client(target);
        assertTrue(client.close(PATIENCE));
        client.begin(APP).end();
        assertEquals(List.of(), daemon.names);
    }

    @Test
    void sessionsOfManyThreadsAllArrive() throws InterruptedException {
        try (Client client = client(target)) {
            List<Thread> threads = new ArrayList<>();
            for (int number = 0; number < 8; number++) {
                Thread thread = new Thread(() -> {
                    for (int i = 0; i < 500; i++) {
                        try (Session session = client.begin(APP)) {
                            session.update();
                        }
                    }
                });
                thread.start();
                threads.add(thread);
            }
            for (Thread thread : threads) {
                thread.join();
            }
        }
        assertEquals(4000, daemon.model.sessions.size());
        assertTrue(daemon.model.sessions.values().stream().allMatch(held -> held.requests() == 2 && held.endedNs() > 0));
    }
}
