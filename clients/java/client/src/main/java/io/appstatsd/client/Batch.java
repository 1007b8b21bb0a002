package io.appstatsd.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import io.appstatsd.v1.SessionReportColumns;
import io.appstatsd.v1.StreamReportsRequest;
import java.nio.ByteBuffer;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/**
 * What goes out under one number? A batch of reports as columns.
 *
 * <p>The content of a batch never changes after it was cut, whatever happens to its sessions; only its number does, and only
 * when it is sent under another client_id.
 */
final class Batch {
    long number;
    /** Whose state it holds, in the order of its columns. */
    final List<Report> reports;
    /** Those whose end is in it; the others may have ended since. */
    final List<Report> ends;

    private final SessionReportColumns columns;

    Batch(long number, List<Report> reports) {
        this.number = number;
        this.reports = reports;
        ends = reports.stream().filter(report -> report.endedNs != 0).toList();
        columns = columns(reports);
    }

    /** The message that carries it. */
    StreamReportsRequest message(long droppedReports) {
        return StreamReportsRequest.newBuilder()
                .setSequence(number)
                .setColumns(columns)
                .setDroppedReports(droppedReports)
                .build();
    }

    /** The reports as columns, each distinct app once. */
    static SessionReportColumns columns(List<Report> reports) {
        SessionReportColumns.Builder columns = SessionReportColumns.newBuilder();
        Map<App, Integer> places = new HashMap<>();
        ByteBuffer sessionIds = ByteBuffer.allocate(reports.size() * Ids.BYTES);
        for (Report report : reports) {
            Integer place = places.get(report.app);
            if (place == null) {
                place = places.size();
                places.put(report.app, place);
                columns.addApps(wire(report.app));
            }
            columns.addApp(place);
            put(sessionIds, report.sessionId);
            columns.addSessionStartedAtUnixNano(report.startedNs);
            columns.addSessionEndedAtUnixNano(report.endedNs);
            columns.addRequests(report.requests);
        }
        return columns.setSessionIds(UnsafeByteOperations.unsafeWrap(sessionIds.flip()))
                .build();
    }

    private static io.appstatsd.v1.App wire(App app) {
        return io.appstatsd.v1.App.newBuilder()
                .setUserId(bytes(app.userId()))
                .setWorkspaceId(bytes(app.workspaceId()))
                .setAgentId(bytes(app.agentId()))
                .setAccessMethod(app.accessMethod().wire)
                .setSlugOrPort(app.slugOrPort())
                .build();
    }

    private static ByteString bytes(UUID id) {
        ByteBuffer buffer = ByteBuffer.allocate(Ids.BYTES);
        put(buffer, id);
        return UnsafeByteOperations.unsafeWrap(buffer.flip());
    }

    private static void put(ByteBuffer buffer, UUID id) {
        buffer.putLong(id.getMostSignificantBits()).putLong(id.getLeastSignificantBits());
    }
}
