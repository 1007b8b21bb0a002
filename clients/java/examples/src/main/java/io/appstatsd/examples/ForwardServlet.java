package io.appstatsd.examples;

import io.appstatsd.client.App;
import io.appstatsd.client.Client;
import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.URI;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.eclipse.jetty.ee10.proxy.AsyncProxyServlet;
import org.eclipse.jetty.ee10.websocket.server.JettyWebSocketServerContainer;
import org.eclipse.jetty.websocket.api.Session;
import org.eclipse.jetty.websocket.client.ClientUpgradeRequest;
import org.eclipse.jetty.websocket.client.WebSocketClient;

/** Passes requests and WebSockets on to the app; a WebSocket is one session, from when it is open on both sides. */
final class ForwardServlet extends AsyncProxyServlet {
    private static final int CONNECT_SECONDS = 10;
    private static final Set<String> ONE_HOP = Set.of("connection", "host", "upgrade", "keep-alive", "te", "trailer");

    private final String upstream;
    private final transient Client client;
    private final transient WebSocketClient sockets = new WebSocketClient();

    /** {@code upstream} is the app's URL, without a path. */
    ForwardServlet(String upstream, Client client) {
        this.upstream = upstream.replaceFirst("/$", "");
        this.client = client;
    }

    @Override
    public void init() throws ServletException {
        super.init();
        try {
            sockets.start();
        } catch (Exception error) { // what Jetty declares
            throw new ServletException(error);
        }
    }

    @Override
    public void destroy() {
        super.destroy();
        try {
            sockets.stop();
        } catch (Exception error) { // what Jetty declares
            throw new IllegalStateException(error);
        }
    }

    @Override
    protected String rewriteTarget(HttpServletRequest request) {
        String query = request.getQueryString();
        return upstream + request.getAttribute(ReportingFilter.PATH) + (query == null ? "" : "?" + query);
    }

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response)
            throws ServletException, IOException {
        if (ReportingFilter.isWebSocket(request)) {
            forwardWebSocket(request, response);
        } else {
            super.service(request, response);
        }
    }

    private void forwardWebSocket(HttpServletRequest request, HttpServletResponse response) throws IOException {
        Bridge bridge = new Bridge(client, (App) request.getAttribute(ReportingFilter.APP));
        Session app;
        try {
            app = sockets.connect(bridge.app, upgrade(request)).get(CONNECT_SECONDS, TimeUnit.SECONDS);
        } catch (ExecutionException | TimeoutException error) {
            response.sendError(HttpServletResponse.SC_BAD_GATEWAY, "the app does not answer: " + error.getMessage());
            return;
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            response.sendError(HttpServletResponse.SC_BAD_GATEWAY, "the proxy ends");
            return;
        }
        boolean isUpgraded = JettyWebSocketServerContainer.getContainer(getServletContext())
                .upgrade(
                        (asked, answer) -> {
                            String protocol = app.getUpgradeResponse().getAcceptedSubProtocol();
                            if (protocol != null) {
                                answer.setAcceptedSubProtocol(protocol);
                            }
                            return bridge.browser;
                        },
                        request,
                        response);
        if (!isUpgraded) {
            app.disconnect();
        }
    }

    private ClientUpgradeRequest upgrade(HttpServletRequest request) {
        ClientUpgradeRequest upgrade = new ClientUpgradeRequest(URI.create(rewriteTarget(request).replaceFirst("^http", "ws")));
        for (String name : Collections.list(request.getHeaderNames())) {
            String lower = name.toLowerCase(Locale.ROOT);
            if (!ONE_HOP.contains(lower) && !lower.startsWith("sec-websocket")) {
                upgrade.setHeader(name, Collections.list(request.getHeaders(name)));
            }
        }
        List<String> protocols = Collections.list(request.getHeaders("Sec-WebSocket-Protocol"));
        if (!protocols.isEmpty()) {
            upgrade.setSubProtocols(String.join(",", protocols)); // not one by one: some apps read the first header only
        }
        return upgrade;
    }
}
