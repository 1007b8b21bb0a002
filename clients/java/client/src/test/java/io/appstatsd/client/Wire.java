package io.appstatsd.client;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;

import io.appstatsd.v1.RejectedReport;
import io.appstatsd.v1.StreamReportsRequest;
import io.appstatsd.v1.StreamReportsResponse;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.stream.IntStream;

/** A core, a model daemon and one stream between them; nothing moves but by the test. */
final class Wire {
    static final long SECOND = 1_000_000_000L;
    static final long START = 1_700_000_000L * SECOND;
    static final App APP = app(3, AccessMethod.PATH, "code");

    long now = 5 * SECOND;
    final ModelDaemon daemon = new ModelDaemon();
    final Core core;
    String clientId = "";
    final List<List<Double>> drawn = new ArrayList<>();
    private int made;
    private final List<Event> told = new ArrayList<>();

    Wire() {
        this(Limits.builder());
    }

    Wire(Limits.Builder limits) {
        core = new Core(limits.build(), () -> "client-" + ++made, (least, most) -> {
            drawn.add(List.of(least, most));
            return most;
        });
    }

    static App app(int agent, AccessMethod method, String slug) {
        return new App(new UUID(0, 1), new UUID(0, 2), new UUID(0, agent), method, slug);
    }

    Report report(int number, App app) {
        return new Report(app, new UUID(0, number), START + now, now, 1);
    }

    Report begin(int number, App app) {
        Report report = report(number, app);
        core.buffer.begin(report, now);
        return report;
    }

    Report begin(int number) {
        return begin(number, APP);
    }

    List<Report> beginMany(int first, int count) {
        return IntStream.range(first, first + count).mapToObj(this::begin).toList();
    }

    void count(Report report) {
        report.count(1);
        core.buffer.changed(report, now);
    }

    void end(Report report) {
        report.end(now);
        core.buffer.ended(report, now);
    }

    /** Sessions that are reported only when they end. */
    void endUnheard(int first, int count) {
        IntStream.range(first, first + count).forEach(number -> end(report(number, APP)));
    }

    /** Opens a stream and answers its first message. */
    StreamReportsRequest open() {
        StreamReportsRequest first = core.opened(now);
        assertNull(core.nextMessage(now), "something was sent before the answer");
        clientId = first.getClientId();
        ack(daemon.first(first));
        return first;
    }

    boolean ack(long sequence, RejectedReport... rejected) {
        StreamReportsResponse response = StreamReportsResponse.newBuilder()
                .setAckedSequence(sequence)
                .addAllRejected(List.of(rejected))
                .build();
        return core.answered(response, now);
    }

    /** The next message, which the daemon does not get; null: none. */
    StreamReportsRequest sent() {
        return core.nextMessage(now);
    }

    /** The sessions in the next message, by number. */
    List<Long> sentIds() {
        return ids(sent());
    }

    static List<Long> ids(StreamReportsRequest message) {
        assertNotNull(message, "nothing is sent");
        return ModelDaemon.rows(message.getColumns()).keySet().stream()
                .map(UUID::getLeastSignificantBits)
                .toList();
    }

    /** All that may be sent now is applied but not acknowledged. Returns how many batches. */
    int deliver() {
        int count = 0;
        for (StreamReportsRequest message = sent(); message != null; message = sent()) {
            assertFalse(message.getClosing());
            daemon.batch(clientId, message);
            count++;
        }
        return count;
    }

    /** Sends, applies and acknowledges until nothing is left to send. */
    void settle() {
        for (StreamReportsRequest message = sent(); message != null; message = sent()) {
            if (message.getClosing()) {
                daemon.close(clientId, message);
                core.ended(Status.Code.OK, "", -1, now);
                return;
            }
            ack(daemon.batch(clientId, message));
        }
    }

    /** Ends the stream; returns how many seconds the next attempt is away. */
    double lose(Status.Code status, long delayMs) {
        core.ended(status, "because", delayMs, now);
        return (core.connectAtNs() - now) / 1e9;
    }

    double lose(Status.Code status) {
        return lose(status, -1);
    }

    double lose() {
        return lose(Status.Code.UNAVAILABLE);
    }

    /** Cannot connect; returns how many seconds the next attempt is away. */
    double fail() {
        core.opened(now);
        return lose();
    }

    void linger() {
        now += SECOND;
    }

    <T extends Event> List<T> events(Class<T> kind) {
        told.addAll(core.takeEvents());
        return told.stream().filter(kind::isInstance).map(kind::cast).toList();
    }

    ModelDaemon.Held held(Report report) {
        return daemon.ever.get(report.sessionId);
    }

    long dropped() {
        return core.stats().droppedReports();
    }
}
