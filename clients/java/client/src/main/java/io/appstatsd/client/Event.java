package io.appstatsd.client;

import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.UUID;

/**
 * What happened, for logs and metrics? One value for each kind of thing, handed to the client's {@code onEvent}.
 *
 * <p>The number of events is bounded by what the transport does (attempts, responses), never by how many reports there are: a
 * full buffer makes one {@link Dropped} with a count.
 */
public sealed interface Event {
    /**
     * A stream was opened and answered.
     *
     * @param clientId who the client is
     * @param ackedSequence the number that the daemon held for this client_id
     */
    record Connected(String clientId, long ackedSequence) implements Event {}

    /**
     * A stream ended, or could not be opened; another attempt follows.
     *
     * @param status how it ended
     * @param details in the words of the daemon or of gRPC
     * @param attempt 1: the first since a stream was answered
     * @param retryIn how long until the next attempt
     */
    record Disconnected(Status.Code status, String details, int attempt, Duration retryIn) implements Event {}

    /**
     * The daemon did not accept some reports; their neighbors it did.
     *
     * @param rejections one for each of them
     */
    record Rejected(List<Rejection> rejections) implements Event {}

    /**
     * One report that the daemon did not accept.
     *
     * @param sessionId whose report it was
     * @param reason {@code RejectionReason} by name
     * @param message the field, the value and what is allowed
     */
    record Rejection(UUID sessionId, String reason, String message) {}

    /**
     * The daemon refused a whole batch, and it is not sent again.
     *
     * @param status how it was refused
     * @param details why
     * @param reports how many reports it held
     * @param dropped how many of them are lost; the others are sent again, each alone
     */
    record BatchRefused(Status.Code status, String details, int reports, int dropped) implements Event {}

    /**
     * There was no room for reports, or the client was closed.
     *
     * @param reports how many since this was last told
     * @param total how many since the client began
     */
    record Dropped(long reports, long total) implements Event {}

    /**
     * The client took a new client_id.
     *
     * @param oldId what it was called before
     * @param newId what it is called now
     * @param status how the stream of the old one ended
     * @param details why
     */
    record ClientIdReplaced(String oldId, String newId, Status.Code status, String details) implements Event {}

    /**
     * The client is closed.
     *
     * @param confirmed whether the daemon has confirmed everything
     * @param left how many reports were not acknowledged
     */
    record Closed(boolean confirmed, long left) implements Event {}
}
