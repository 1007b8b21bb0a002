package io.appstatsd.examples;

import io.appstatsd.client.Client;
import jakarta.servlet.DispatcherType;
import java.net.URI;
import java.util.EnumSet;
import org.eclipse.jetty.ee10.servlet.FilterHolder;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.ee10.websocket.server.config.JettyWebSocketServletContainerInitializer;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

/**
 * A small reverse proxy on Jetty, HTTP and WebSockets, that reports to appstatsd who uses which app.
 *
 * <pre>ReverseProxy 127.0.0.1:8080 http://127.0.0.1:9000 unix:/run/appstatsd/appstatsd.sock</pre>
 *
 * <p>{@link ReportingFilter} says what it reports. It runs until it is terminated.
 */
public final class ReverseProxy {
    private ReverseProxy() {}

    /** Where to listen (port 0: any), the app's URL, and where appstatsd listens. */
    public static void main(String[] arguments) throws Exception {
        URI listen = URI.create("http://" + arguments[0]);
        Client client = new Client(arguments[2]);
        ServletContextHandler context = new ServletContextHandler("/");
        FilterHolder filter = new FilterHolder(new ReportingFilter(client));
        filter.setAsyncSupported(true);
        context.addFilter(filter, "/*", EnumSet.of(DispatcherType.REQUEST));
        context.addServlet(new ServletHolder(new ForwardServlet(arguments[1], client)), "/*");
        JettyWebSocketServletContainerInitializer.configure(context, null);

        Server server = new Server();
        ServerConnector connector = new ServerConnector(server);
        connector.setHost(listen.getHost());
        connector.setPort(listen.getPort());
        server.addConnector(connector);
        server.setHandler(context);
        server.start();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                server.stop();
            } catch (Exception error) { // what Jetty declares; the sessions are to be ended all the same
                System.err.println("the server did not stop in order: " + error);
            }
            client.close();
        }));
        System.out.println("proxy on http://" + listen.getHost() + ":" + connector.getLocalPort());
        server.join();
    }
}
