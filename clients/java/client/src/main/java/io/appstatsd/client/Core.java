package io.appstatsd.client;

import io.appstatsd.v1.RejectedReport;
import io.appstatsd.v1.RejectionReason;
import io.appstatsd.v1.StreamReportsRequest;
import io.appstatsd.v1.StreamReportsResponse;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.DoubleBinaryOperator;
import java.util.function.Supplier;

/**
 * What does the client say next, and when? Buffer and protocol of {@code docs/client-protocol.md}, without I/O.
 *
 * <p>The shell tells the core what the transport did and asks what to send; time, random numbers and statuses are passed in.
 * Times are nanoseconds of the monotonic clock. Whoever calls it holds the client's lock.
 *
 * <p>The batches in {@code unacked} are numbered without a gap, end at {@code nextNumber - 1}, and the first {@code sent} of
 * them were sent on the present stream. No batch is sent before the stream's first answer.
 */
final class Core {
    /** A time that does not come. */
    static final long NEVER = Long.MAX_VALUE;

    /** Something that was sent is at fault. */
    private static final Set<Status.Code> REFUSALS =
            Collections.unmodifiableSet(EnumSet.of(Status.Code.INVALID_ARGUMENT, Status.Code.RESOURCE_EXHAUSTED));
    /** The client_id is in use twice. */
    private static final Set<Status.Code> MISTAKEN_IDENTITY =
            Collections.unmodifiableSet(EnumSet.of(Status.Code.ALREADY_EXISTS, Status.Code.ABORTED));
    /** Nothing that the client could do would mend it. */
    private static final Set<Status.Code> FOR_A_PERSON = Collections.unmodifiableSet(EnumSet.of(
            Status.Code.UNAUTHENTICATED, Status.Code.PERMISSION_DENIED, Status.Code.UNIMPLEMENTED));

    final Buffer buffer;

    private final Limits limits;
    private final Supplier<String> newClientId;
    private final DoubleBinaryOperator uniform;

    private String clientId = "";
    private final List<Batch> unacked = new ArrayList<>(); // at most windowBatches
    private long nextNumber = 1;
    private long lastSent; // the highest number sent under this client_id
    private boolean singly;
    private long openedAtNs = NEVER; // NEVER: no stream
    private boolean answered;
    private int sent;
    private boolean closingSent;
    private String misused = ""; // why the client_id cannot be ours alone
    private int attempts;
    private int failures;
    private long acknowledged;
    private long rejected;
    private long droppedTold;
    private List<Event> events = new ArrayList<>();
    private long connectAtNs;
    private boolean done;
    private boolean confirmed;

    /**
     * A client's state.
     *
     * @param uniform a random number between the two it is given
     */
    Core(Limits limits, Supplier<String> newClientId, DoubleBinaryOperator uniform) {
        this.limits = limits;
        this.newClientId = newClientId;
        this.uniform = uniform;
        buffer = new Buffer(limits);
    }

    /** When the next stream is to be opened. */
    long connectAtNs() {
        return connectAtNs;
    }

    /** Whether there is nothing more to do, ever. */
    boolean done() {
        return done;
    }

    /** Whether the daemon has confirmed everything after {@link #close}. */
    boolean confirmed() {
        return confirmed;
    }

    /** Ends what is left; what waits is due now, and so is the next attempt to connect. */
    void close(long nowNs) {
        if (buffer.closed()) {
            return;
        }
        buffer.close(nowNs);
        connectAtNs = nowNs;
        attempts = 0;
        if (lastSent == 0 && unacked.isEmpty() && buffer.waiting() == 0) {
            finish(true);
        }
    }

    /** Gives up: takes nothing any more, and what was not acknowledged is lost. */
    void abandon() {
        if (!done) {
            finish(false);
        }
    }

    /** A stream is being opened. Returns its first message. */
    StreamReportsRequest opened(long nowNs) {
        if (clientId.isEmpty()) {
            clientId = newClientId.get();
        }
        openedAtNs = nowNs;
        return StreamReportsRequest.newBuilder()
                .setClientId(clientId)
                .setDroppedReports(buffer.dropped())
                .build();
    }

    /** The daemon has answered. False: it speaks of what was never sent, and the stream has to be cancelled. */
    boolean answered(StreamReportsResponse response, long nowNs) {
        long acked = response.getAckedSequence();
        if (Long.compareUnsigned(acked, lastSent) > 0) {
            misused = Long.toUnsignedString(acked) + " is acknowledged, and " + lastSent + " was the last one sent";
            return false;
        }
        reject(response.getRejectedList());
        acknowledge(acked);
        if (!answered) {
            answered = true;
            failures = 0;
            events.add(new Event.Connected(clientId, acked));
            buffer.reportLiveAgain(nowNs);
        }
        return true;
    }

    /** The message to send now; null: none yet (see {@link #lookAgainAtNs}). */
    StreamReportsRequest nextMessage(long nowNs) {
        if (!answered || closingSent || singly && sent > 0) {
            return null;
        }
        if (sent == unacked.size()) {
            if (!mayCut() || !buffer.isDue(nowNs)) {
                return closing();
            }
            unacked.add(new Batch(nextNumber++, buffer.take()));
        }
        Batch batch = unacked.get(sent++);
        lastSent = Math.max(lastSent, batch.number);
        return batch.message(buffer.dropped());
    }

    /** When {@link #nextMessage} may have something though nothing else happened; {@link #NEVER}: not before it does. */
    long lookAgainAtNs() {
        return answered && mayCut() ? buffer.dueAtNs() : NEVER;
    }

    /**
     * The stream has ended, or could not be opened.
     *
     * @param retryDelayMs what the daemon said about when to come back; negative: nothing
     */
    void ended(Status.Code status, String details, long retryDelayMs, long nowNs) {
        if (done) {
            return;
        }
        if (closingSent && status == Status.Code.OK) {
            finish(true);
            return;
        }
        if (!misused.isEmpty()) {
            status = Status.Code.ALREADY_EXISTS;
            details = misused;
        }
        if (REFUSALS.contains(status)) {
            if (sent == 1 && unacked.get(0).number == 1) {
                refuse(unacked.remove(0), status, details, nowNs);
            }
            singly = true;
        }
        if (REFUSALS.contains(status) || MISTAKEN_IDENTITY.contains(status)) {
            replaceClientId(status, details);
        }
        if (answered && openedAtNs != NEVER && nowNs - openedAtNs >= limits.backoffMax().toNanos()) {
            attempts = 0;
        }
        openedAtNs = NEVER;
        answered = false;
        sent = 0;
        closingSent = false;
        misused = "";
        long waitNs = waitNs(status, retryDelayMs);
        connectAtNs = nowNs + waitNs;
        failures++;
        events.add(new Event.Disconnected(status, details, failures, Duration.ofNanos(waitNs)));
    }

    /** What happened since the last call. */
    List<Event> takeEvents() {
        List<Event> taken = events;
        events = new ArrayList<>();
        long dropped = buffer.dropped() - droppedTold;
        if (dropped > 0) {
            droppedTold = buffer.dropped();
            taken.add(new Event.Dropped(dropped, droppedTold));
        }
        return taken;
    }

    /** What the client holds and has done. */
    Stats stats() {
        return new Stats(
                clientId,
                answered,
                buffer.live(),
                buffer.waiting(),
                unackedReports(),
                acknowledged,
                rejected,
                buffer.dropped());
    }

    private int unackedReports() {
        return unacked.stream().mapToInt(batch -> batch.reports.size()).sum();
    }

    private boolean mayCut() {
        return unacked.size() < (singly ? 1 : limits.windowBatches());
    }

    private StreamReportsRequest closing() {
        if (!buffer.closed() || !unacked.isEmpty() || buffer.waiting() > 0) {
            return null;
        }
        closingSent = true;
        return StreamReportsRequest.newBuilder()
                .setClosing(true)
                .setDroppedReports(buffer.dropped())
                .build();
    }

    private void acknowledge(long acked) {
        for (Iterator<Batch> batches = unacked.iterator(); batches.hasNext(); ) {
            Batch batch = batches.next();
            if (batch.number > acked) {
                return;
            }
            batches.remove();
            sent = Math.max(0, sent - 1);
            acknowledged += batch.reports.size();
            buffer.accepted(batch.reports, batch.ends);
            singly = false;
            attempts = 0;
        }
    }

    private void reject(List<RejectedReport> told) {
        if (told.isEmpty()) {
            return;
        }
        Map<Long, Batch> batches = new HashMap<>();
        unacked.forEach(batch -> batches.put(batch.number, batch));
        List<Event.Rejection> rejections = new ArrayList<>();
        for (RejectedReport one : told) {
            Batch batch = batches.get(one.getSequence());
            if (batch != null && Integer.compareUnsigned(one.getIndex(), batch.reports.size()) < 0) {
                Report report = batch.reports.get(one.getIndex());
                report.rejected = true;
                boolean known = one.getReason() != RejectionReason.UNRECOGNIZED; // a newer daemon may have more reasons
                String reason = known ? one.getReason().name() : String.valueOf(one.getReasonValue());
                rejections.add(new Event.Rejection(report.sessionId, reason, one.getMessage()));
            }
        }
        rejected += rejections.size();
        if (!rejections.isEmpty()) {
            events.add(new Event.Rejected(List.copyOf(rejections)));
        }
    }

    private void refuse(Batch batch, Status.Code status, String details, long nowNs) {
        int lost = buffer.refused(batch.reports, nowNs);
        droppedTold += lost;
        events.add(new Event.BatchRefused(status, details, batch.reports.size(), lost));
    }

    private void replaceClientId(Status.Code status, String details) {
        String old = clientId;
        clientId = newClientId.get();
        events.add(new Event.ClientIdReplaced(old, clientId, status, details));
        lastSent = 0;
        nextNumber = 1;
        for (Batch batch : unacked) {
            batch.number = nextNumber++;
        }
    }

    private long waitNs(Status.Code status, long retryDelayMs) {
        long slowestNs = limits.retrySlowest().toNanos();
        if (FOR_A_PERSON.contains(status)) {
            return slowestNs;
        }
        if (retryDelayMs >= 0) {
            return (long) Math.min(retryDelayMs * 1e6 * uniform.applyAsDouble(1, 1.25), slowestNs);
        }
        double mostNs = limits.backoffBase().toNanos() * Math.pow(2, Math.min(attempts++, 30));
        return (long) uniform.applyAsDouble(0, Math.min(limits.backoffMax().toNanos(), mostNs));
    }

    private void finish(boolean confirmed) {
        long left = buffer.waiting() + unackedReports();
        buffer.abandon(left);
        droppedTold += left;
        answered = false;
        done = true;
        this.confirmed = confirmed;
        events.add(new Event.Closed(confirmed, left));
    }
}
