package io.appstatsd.examples;

import io.appstatsd.client.App;
import io.appstatsd.client.Client;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Set;
import org.eclipse.jetty.websocket.api.Callback;
import org.eclipse.jetty.websocket.api.Session;

/**
 * One WebSocket between a browser and an app: passes messages on, one at a time in each direction, and reports the session.
 *
 * <p>It is live from when it is open on both sides, and ended when it is over on one, however that comes about.
 */
final class Bridge {
    /** Codes that say how a WebSocket ended without being sent over it. */
    private static final Set<Integer> NOT_SENT = Set.of(1005, 1006, 1015);

    private static final int WENT_WRONG = 1011;

    final Side browser = new Side();
    final Side app = new Side();
    private final Client client;
    private final App used;
    private io.appstatsd.client.Session session; // null: not open on both sides yet

    Bridge(Client client, App used) {
        this.client = client;
        this.used = used;
    }

    private synchronized void opened() {
        if (browser.socket != null && app.socket != null) {
            session = client.begin(used);
            browser.socket.demand();
            app.socket.demand();
        }
    }

    private synchronized void ended(Side other, int code, String reason) {
        if (session != null) {
            session.end();
        }
        if (other.socket != null) {
            other.socket.close(NOT_SENT.contains(code) ? WENT_WRONG : code, reason, Callback.NOOP);
        }
    }

    /** One of its two ends; public for Jetty, which calls it. */
    public final class Side implements Session.Listener {
        private Session socket;

        private Side other() {
            return this == browser ? app : browser;
        }

        @Override
        public void onWebSocketOpen(Session opened) {
            opened.setIdleTimeout(Duration.ZERO);
            opened.setMaxTextMessageSize(-1);
            opened.setMaxBinaryMessageSize(-1);
            synchronized (Bridge.this) {
                socket = opened;
            }
            opened();
        }

        @Override
        public void onWebSocketText(String text) {
            other().socket.sendText(text, Callback.from(socket::demand, this::onWebSocketError));
        }

        @Override
        public void onWebSocketBinary(ByteBuffer bytes, Callback callback) {
            other().socket.sendBinary(bytes, Callback.from(
                    () -> {
                        callback.succeed();
                        socket.demand();
                    },
                    error -> {
                        callback.fail(error);
                        onWebSocketError(error);
                    }));
        }

        @Override
        public void onWebSocketClose(int code, String reason) {
            ended(other(), code, reason);
        }

        @Override
        public void onWebSocketError(Throwable error) {
            ended(other(), WENT_WRONG, "the other side is gone");
        }
    }
}
