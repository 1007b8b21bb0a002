package io.appstatsd.client;

import io.grpc.Status;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.util.function.Consumer;

/** The {@code onEvent} of a client that was given none: writes to the platform's logger {@code io.appstatsd.client}. */
final class EventLog implements Consumer<Event> {
    static final Logger LOG = System.getLogger("io.appstatsd.client");

    @Override
    public void accept(Event event) {
        if (event instanceof Event.Connected connected) {
            log(Level.INFO, "connected to appstatsd as %s", connected.clientId());
        } else if (event instanceof Event.Disconnected gone) {
            // An outage is one warning, however long it lasts.
            Level level = gone.attempt() == 1 ? Level.WARNING : Level.DEBUG;
            String what = "appstatsd is not reached (%s: %s); reports wait, next attempt in %d ms";
            log(level, what, gone.status(), gone.details(), gone.retryIn().toMillis());
        } else if (event instanceof Event.Rejected rejected) {
            Event.Rejection first = rejected.rejections().get(0);
            String what = "appstatsd rejected %d reports; the first, of session %s, as %s: %s";
            log(Level.WARNING, what, rejected.rejections().size(), first.sessionId(), first.reason(), first.message());
        } else if (event instanceof Event.BatchRefused refused) {
            String what = "appstatsd refused a batch of %d reports (%s: %s); %d of them are lost, the others are sent again";
            log(Level.ERROR, what, refused.reports(), refused.status(), refused.details(), refused.dropped());
        } else if (event instanceof Event.Dropped dropped) {
            String what = "no room for %d reports (%d since the start); they are lost";
            log(Level.WARNING, what, dropped.reports(), dropped.total());
        } else if (event instanceof Event.ClientIdReplaced replaced) {
            boolean inUseTwice =
                    replaced.status() == Status.Code.ABORTED || replaced.status() == Status.Code.ALREADY_EXISTS;
            String what = "took the new client_id %s for %s (%s: %s)";
            Level level = inUseTwice ? Level.ERROR : Level.WARNING;
            log(level, what, replaced.newId(), replaced.oldId(), replaced.status(), replaced.details());
        } else if (event instanceof Event.Closed closed) {
            Level level = closed.confirmed() ? Level.INFO : Level.WARNING;
            log(level, "closed; reports that appstatsd has not confirmed: %d", closed.left());
        }
    }

    private static void log(Level level, String format, Object... values) {
        if (LOG.isLoggable(level)) {
            LOG.log(level, String.format(format, values));
        }
    }
}
