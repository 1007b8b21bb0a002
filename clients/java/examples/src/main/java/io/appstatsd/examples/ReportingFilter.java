package io.appstatsd.examples;

import io.appstatsd.client.AccessMethod;
import io.appstatsd.client.App;
import io.appstatsd.client.Client;
import io.appstatsd.client.Session;
import io.appstatsd.client.SessionOptions;
import jakarta.servlet.AsyncContext;
import jakarta.servlet.AsyncEvent;
import jakarta.servlet.AsyncListener;
import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletRequestWrapper;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.util.Set;

/**
 * A servlet filter that reports to appstatsd who uses which app.
 *
 * <p>Who asks, and for what, comes in headers that whatever authenticates in front of this proxy sets (and strips from what came
 * from outside): {@code X-User-Id}, {@code X-Workspace-Id} and {@code X-Agent-Id}, each a UUID. A request without them is not let
 * through. How the app is reached stands in the URL:
 *
 * <ul>
 *   <li>{@code /apps/SLUG/…}, passed on as {@code /…}: path, SLUG
 *   <li>Host {@code SLUG.apps.…}: subdomain, SLUG
 *   <li>{@code /terminal}: terminal
 * </ul>
 *
 * <p>A request is a short session of its own, and none where nothing was used: a redirect, a 404, an app that is not there. A
 * WebSocket is left to what handles it further down, which finds the app in the attribute {@link #APP}.
 */
final class ReportingFilter implements Filter {
    /** Attribute of a request: the {@link App} that it is for. */
    static final String APP = "appstatsd.app";
    /** Attribute of a request: the path to ask the app for. */
    static final String PATH = "appstatsd.path";

    private static final String PREFIX = "/apps/";
    private static final Set<Integer> UNUSED = Set.of(301, 302, 303, 307, 308, 404, 502, 504);

    private final Client client;

    ReportingFilter(Client client) {
        this.client = client;
    }

    /** Whether it asks for a WebSocket. */
    static boolean isWebSocket(HttpServletRequest request) {
        return "websocket".equalsIgnoreCase(request.getHeader("Upgrade"));
    }

    @Override
    public void doFilter(ServletRequest anyRequest, ServletResponse anyResponse, FilterChain chain)
            throws IOException, ServletException {
        HttpServletRequest request = (HttpServletRequest) anyRequest;
        HttpServletResponse response = (HttpServletResponse) anyResponse;
        if (!isForAnApp(request, response)) {
            return;
        }
        if (isWebSocket(request)) {
            chain.doFilter(request, response);
            return;
        }
        // Nothing is reported before it ends: only the answer shows whether the app was used.
        Session session = client.begin((App) request.getAttribute(APP), new SessionOptions().reportLive(false));
        Watched watched = new Watched(request, () -> {
            if (!UNUSED.contains(response.getStatus())) {
                session.end();
            }
        });
        chain.doFilter(watched, response);
        watched.returned();
    }

    /** Notes what is asked for, or answers that it is nothing. */
    private static boolean isForAnApp(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String[] host = request.getServerName().split("\\.");
        String path = request.getRequestURI();
        AccessMethod method = AccessMethod.PATH;
        String slug = "";
        if (host.length > 1 && host[1].equals("apps")) {
            method = AccessMethod.SUBDOMAIN;
            slug = host[0];
        } else if (path.startsWith(PREFIX)) {
            int end = path.indexOf('/', PREFIX.length());
            slug = path.substring(PREFIX.length(), end < 0 ? path.length() : end);
            path = end < 0 ? "/" : path.substring(end);
        } else if (path.equals("/terminal")) {
            method = AccessMethod.TERMINAL;
        } else {
            response.sendError(HttpServletResponse.SC_NOT_FOUND, "no app; ask for /apps/SLUG/, SLUG.apps.HOST or /terminal");
            return false;
        }
        try {
            String user = request.getHeader("X-User-Id");
            String workspace = request.getHeader("X-Workspace-Id");
            request.setAttribute(APP, new App(user, workspace, request.getHeader("X-Agent-Id"), method, slug));
        } catch (IllegalArgumentException error) {
            response.sendError(HttpServletResponse.SC_UNAUTHORIZED, error.getMessage());
            return false;
        }
        request.setAttribute(PATH, path);
        return true;
    }

    /** A request that says when it is over, be it asynchronous or not. */
    private static final class Watched extends HttpServletRequestWrapper implements AsyncListener {
        private final Runnable over;
        private boolean isAsync;

        Watched(HttpServletRequest request, Runnable over) {
            super(request);
            this.over = over;
        }

        /** The chain has returned. */
        void returned() {
            if (!isAsync) {
                over.run();
            }
        }

        @Override
        public AsyncContext startAsync() {
            return watched(super.startAsync());
        }

        @Override
        public AsyncContext startAsync(ServletRequest request, ServletResponse response) {
            return watched(super.startAsync(request, response));
        }

        private AsyncContext watched(AsyncContext context) {
            isAsync = true;
            context.addListener(this);
            return context;
        }

        @Override
        public void onComplete(AsyncEvent event) {
            over.run();
        }

        @Override
        public void onTimeout(AsyncEvent event) {}

        @Override
        public void onError(AsyncEvent event) {}

        @Override
        public void onStartAsync(AsyncEvent event) {
            event.getAsyncContext().addListener(this);
        }
    }
}
