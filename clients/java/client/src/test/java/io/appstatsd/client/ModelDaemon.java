package io.appstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import io.appstatsd.v1.SessionReportColumns;
import io.appstatsd.v1.StreamReportsRequest;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;

/**
 * What does a daemon make of what clients send? The sequence rules of the wire and the merge of reports, and nothing else.
 *
 * <p>Whatever breaks a rule of the wire that no test asked for is an error of assertion here, and so fails the test.
 */
final class ModelDaemon {
    /** What is known of one session. */
    record Held(io.appstatsd.v1.App app, long startedNs, long endedNs, int requests) {
        Held merged(Held newer) {
            assertEquals(app, newer.app);
            assertEquals(startedNs, newer.startedNs);
            return new Held(app, startedNs, Math.max(endedNs, newer.endedNs), Math.max(requests, newer.requests));
        }
    }

    /** A batch that was applied. */
    record Applied(String clientId, long sequence) {}

    private static final class KnownClient {
        long last;
        final Map<Long, ByteString> contents = new HashMap<>();
    }

    private final Map<String, KnownClient> clients = new HashMap<>();
    final Map<UUID, Held> sessions = new LinkedHashMap<>();
    /** Sessions as they were reported, those included that were forgotten. */
    final Map<UUID, Held> ever = new LinkedHashMap<>();

    final List<Applied> applied = new ArrayList<>();
    final Set<String> closed = new HashSet<>();
    final Map<String, Long> dropped = new HashMap<>();

    /** The first message of a stream; returns the number held. */
    long first(StreamReportsRequest message) {
        assertTrue(message.getClientId().matches(".{1,128}"));
        assertEquals(0, message.getSequence());
        assertFalse(message.hasColumns());
        dropped.put(message.getClientId(), message.getDroppedReports());
        KnownClient known = clients.get(message.getClientId());
        return known == null ? 0 : known.last;
    }

    /** A batch; returns the number to acknowledge. */
    long batch(String clientId, StreamReportsRequest message) {
        ByteString content = message.getColumns().toByteString();
        assertTrue(message.getSequence() > 0);
        assertFalse(message.getClosing());
        assertEquals(0, message.getReportsCount());
        assertTrue(message.getColumns().getAppCount() >= 1 && message.getColumns().getAppCount() <= 10_000);
        assertTrue(content.size() <= 4 << 20);
        dropped.put(clientId, message.getDroppedReports());
        KnownClient known = clients.computeIfAbsent(clientId, id -> {
            KnownClient made = new KnownClient();
            made.last = message.getSequence() - 1;
            return made;
        });
        if (message.getSequence() <= known.last) {
            assertEquals(known.contents.get(message.getSequence()), content, "a number was used again");
            return known.last;
        }
        assertEquals(known.last + 1, message.getSequence(), "a gap");
        known.last = message.getSequence();
        known.contents.put(known.last, content);
        applied.add(new Applied(clientId, known.last));
        rows(message.getColumns()).forEach((id, held) -> {
            sessions.merge(id, held, Held::merged);
            ever.merge(id, held, Held::merged);
        });
        return known.last;
    }

    /** The last word of a client. */
    void close(String clientId, StreamReportsRequest message) {
        assertTrue(message.getClosing());
        assertEquals(0, message.getSequence());
        assertFalse(message.hasColumns());
        dropped.put(clientId, message.getDroppedReports());
        closed.add(clientId);
    }

    /** A daemon without a journal was started again. */
    void forget() {
        clients.clear();
        sessions.clear();
    }

    /** It has lost or won acknowledgements: what it holds for this client is another number. */
    void holds(String clientId, long sequence) {
        clients.get(clientId).last = sequence;
    }

    /** The reports of a batch in their order, with its lengths checked. */
    static Map<UUID, Held> rows(SessionReportColumns columns) {
        int count = columns.getAppCount();
        assertEquals(count, columns.getRequestsCount());
        assertEquals(count, columns.getSessionStartedAtUnixNanoCount());
        assertEquals(count, columns.getSessionEndedAtUnixNanoCount());
        assertEquals(count * 16, columns.getSessionIds().size());
        ByteBuffer ids = columns.getSessionIds().asReadOnlyByteBuffer();
        Map<UUID, Held> rows = new LinkedHashMap<>();
        for (int i = 0; i < count; i++) {
            Held held = new Held(
                    columns.getApps(columns.getApp(i)),
                    columns.getSessionStartedAtUnixNano(i),
                    columns.getSessionEndedAtUnixNano(i),
                    columns.getRequests(i));
            assertEquals(null, rows.put(new UUID(ids.getLong(), ids.getLong()), held), "twice in one batch");
        }
        return rows;
    }
}
