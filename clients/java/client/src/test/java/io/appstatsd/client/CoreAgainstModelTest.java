package io.appstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.appstatsd.v1.StreamReportsRequest;
import io.appstatsd.v1.StreamReportsResponse;
import io.grpc.Status;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.UUID;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.RepetitionInfo;

/**
 * Whatever the transport does, every session's newest state reaches the daemon, by the wire's rules, within the bounds.
 *
 * <p>A model daemon and a network stand opposite a core with tight limits. Messages and acknowledgements wait on the network and
 * are lost with their stream, which may end at any moment with any status. The model daemon fails the test at a gap, a changed
 * content or a broken batch. At the end everything is mended, and what the daemon knows is compared with the sessions.
 */
class CoreAgainstModelTest {
    private static final int STEPS = 80;
    private static final List<App> APPS =
            List.of(Wire.app(3, AccessMethod.PATH, "code"), Wire.app(3, AccessMethod.PATH, "jupyter"));
    private static final Limits LIMITS = Limits.builder()
            .batchMaxReports(3)
            .windowBatches(2)
            .maxLiveSessions(4)
            .maxPendingReports(5)
            .build();
    private static final List<Status.Code> STATUSES = List.of(
            Status.Code.OK,
            Status.Code.UNAVAILABLE,
            Status.Code.INVALID_ARGUMENT,
            Status.Code.RESOURCE_EXHAUSTED,
            Status.Code.ALREADY_EXISTS,
            Status.Code.ABORTED,
            Status.Code.UNAUTHENTICATED,
            Status.Code.PERMISSION_DENIED,
            Status.Code.INTERNAL,
            Status.Code.CANCELLED);

    @RepeatedTest(20)
    void everySessionsNewestStateReachesTheDaemon(RepetitionInfo repetition) {
        for (int story = 0; story < 100; story++) {
            long seed = repetition.getCurrentRepetition() * 1000L + story;
            try {
                new Network(seed).run();
            } catch (AssertionError | RuntimeException error) {
                throw new AssertionError("seed " + seed, error);
            }
        }
    }

    /** Sessions that come and go, a stream that moves message by message, and everything that can happen to it. */
    private static final class Network {
        private final Random random;
        private final ModelDaemon daemon = new ModelDaemon();
        private final Set<UUID> poison = new HashSet<>();
        private final List<Report> reports = new ArrayList<>();
        private final Core core;
        private long now = Wire.SECOND;
        private int ids;
        private boolean isOpen;
        private String clientId;
        private Deque<StreamReportsRequest> up;
        private Deque<StreamReportsResponse> down;

        Network(long seed) {
            random = new Random(seed);
            core = new Core(
                    LIMITS,
                    () -> "client-" + ++ids,
                    (least, most) -> least + random.nextDouble() * (most - least));
        }

        void run() {
            open();
            for (int step = 0; step < STEPS; step++) {
                step();
                Stats stats = core.stats();
                assertTrue(stats.liveSessions() <= 4);
                assertTrue(stats.pendingReports() <= 4 + 5);
                assertTrue(stats.unacknowledgedReports() <= 2 * 3);
            }
            mend();
        }

        private void step() {
            switch (random.nextInt(14)) {
                case 0, 1 -> begin();
                case 2 -> {
                    Report report = any();
                    if (report != null && report.endedNs == 0) {
                        report.count(1);
                        core.buffer.changed(report, now);
                    }
                }
                case 3, 4 -> {
                    Report report = any();
                    if (report != null && report.endedNs == 0) {
                        report.end(now);
                        core.buffer.ended(report, now);
                    }
                }
                case 5, 6 -> now += (long) (List.of(0.3, 1.0, 10.0, 60.0).get(random.nextInt(4)) * Wire.SECOND);
                case 7 -> {
                    if (random.nextInt(3) > 0) {
                        poison.clear();
                    } else if (!reports.isEmpty()) {
                        poison.add(any().sessionId);
                    }
                }
                case 8 -> {
                    if (isOpen && random.nextBoolean()) {
                        lose(STATUSES.get(random.nextInt(STATUSES.size())));
                    } else if (random.nextInt(4) == 0) {
                        if (isOpen) {
                            lose(Status.Code.UNAVAILABLE);
                        }
                        daemon.forget();
                    }
                }
                default -> move();
            }
        }

        private void begin() {
            Report report =
                    new Report(APPS.get(random.nextInt(2)), new UUID(0, reports.size() + 1), Wire.START + now, now, 1);
            reports.add(report);
            if (random.nextInt(4) > 0) {
                core.buffer.begin(report, now);
            }
        }

        private Report any() {
            return reports.isEmpty() ? null : reports.get(random.nextInt(reports.size()));
        }

        private void move() {
            if (!isOpen) {
                if (now >= core.connectAtNs()) {
                    open();
                }
                return;
            }
            switch (random.nextInt(3)) {
                case 0 -> send();
                case 1 -> arrive();
                default -> answer();
            }
        }

        private void open() {
            up = new ArrayDeque<>(List.of(core.opened(now)));
            down = new ArrayDeque<>();
            clientId = "";
            isOpen = true;
        }

        private boolean send() {
            StreamReportsRequest message = core.nextMessage(now);
            if (message != null) {
                up.add(message);
                return true;
            }
            assertTrue(core.lookAgainAtNs() > now, "the shell would spin");
            return false;
        }

        private void arrive() {
            if (up.isEmpty()) {
                return;
            }
            StreamReportsRequest message = up.remove();
            long acked;
            if (clientId.isEmpty()) {
                clientId = message.getClientId();
                acked = daemon.first(message);
            } else if (message.getClosing()) {
                daemon.close(clientId, message);
                lose(Status.Code.OK);
                return;
            } else if (ModelDaemon.rows(message.getColumns()).keySet().stream().anyMatch(poison::contains)) {
                lose(Status.Code.INVALID_ARGUMENT);
                return;
            } else {
                acked = daemon.batch(clientId, message);
            }
            down.add(StreamReportsResponse.newBuilder().setAckedSequence(acked).build());
        }

        private void answer() {
            if (!down.isEmpty()) {
                assertTrue(core.answered(down.remove(), now));
            }
        }

        private void lose(Status.Code status) {
            isOpen = false;
            core.ended(status, "", -1, now);
        }

        /** Everything works; moves all that can move. */
        private void pump() {
            for (int round = 0; round < 400; round++) {
                if (!isOpen) {
                    now = Math.max(now, core.connectAtNs());
                    open();
                }
                boolean moved = send() | !up.isEmpty() | !down.isEmpty();
                while (isOpen && !up.isEmpty()) {
                    arrive();
                }
                while (isOpen && !down.isEmpty()) {
                    answer();
                }
                if (core.done()) {
                    return;
                }
                if (!moved && isOpen) {
                    if (core.lookAgainAtNs() == Core.NEVER) {
                        return;
                    }
                    now = Math.max(now, core.lookAgainAtNs());
                }
            }
            throw new AssertionError("it never comes to rest");
        }

        private void mend() {
            poison.clear();
            if (isOpen) {
                lose(Status.Code.UNAVAILABLE);
            }
            pump();
            Stats stats = core.stats();
            assertEquals(0, stats.pendingReports());
            assertEquals(0, stats.unacknowledgedReports());
            int missing = 0;
            for (Report report : reports) {
                ModelDaemon.Held held = daemon.ever.get(report.sessionId);
                if (report.tracked) {
                    assertEquals(report.requests, daemon.sessions.get(report.sessionId).requests());
                    assertEquals(0, report.endedNs);
                } else if (report.saidLive || held != null && report.endedNs != 0) {
                    same(report, held);
                } else if (report.endedNs != 0) {
                    missing++;
                }
            }
            assertTrue(missing <= stats.droppedReports());
            core.close(now);
            pump();
            assertTrue(core.confirmed());
            reports.stream().filter(report -> report.saidLive).forEach(report -> same(report, daemon.ever.get(report.sessionId)));
        }

        private static void same(Report report, ModelDaemon.Held held) {
            assertNotNull(held);
            assertEquals(report.endedNs, held.endedNs());
            assertEquals(report.requests, held.requests());
        }
    }
}
