package io.appstatsd.conformance;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.appstatsd.client.AccessMethod;
import io.appstatsd.client.App;
import io.appstatsd.client.Client;
import io.appstatsd.client.Clock;
import io.appstatsd.client.Event;
import io.appstatsd.client.Limits;
import io.appstatsd.client.Session;
import io.appstatsd.client.SessionOptions;
import io.appstatsd.client.Stats;
import io.appstatsd.client.Tls;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Queue;
import java.util.UUID;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicLong;

/**
 * What does the Java client do when it is told? The command of the conformance suite; {@code tests/conformance/README.md} has
 * its instructions.
 *
 * <p>Each line of input is answered by one line of output, before the next one is carried out.
 */
public final class Command {
    private final Map<String, Session> sessions = new HashMap<>();
    private final Queue<Event> events = new ConcurrentLinkedQueue<>();
    private final AtomicLong wallStepNs = new AtomicLong();
    private final Gson gson = new Gson();
    private Client client;

    private Command() {}

    /** Reads, does and answers until the input ends. */
    public static void main(String[] arguments) throws Exception {
        Command command = new Command();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        BufferedWriter output = new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            output.write(command.answer(JsonParser.parseString(line).getAsJsonObject()));
            output.newLine();
            if (!input.ready()) {
                output.flush();
            }
        }
        output.flush();
        Runtime.getRuntime().halt(0); // at once, and without closing the client
    }

    private String answer(JsonObject told) throws IOException, InterruptedException {
        try {
            return gson.toJson(carryOut(told));
        } catch (IllegalArgumentException error) {
            JsonObject answer = new JsonObject();
            answer.addProperty("error", error.getMessage());
            return gson.toJson(answer);
        }
    }

    private JsonObject carryOut(JsonObject told) throws IOException, InterruptedException {
        JsonObject answer = new JsonObject();
        switch (told.get("do").getAsString()) {
            case "open" -> client = opened(told);
            case "begin" -> {
                Session session = client.begin(app(told.getAsJsonObject("app")), options(told));
                sessions.put(told.get("session").getAsString(), session);
                answer.addProperty("session_id", session.sessionId().toString());
            }
            case "update" -> session(told).update(told.get("requests").getAsLong());
            case "end" -> session(told).end();
            case "stats" -> answer = stats(client.stats());
            case "events" -> {
                JsonArray happened = new JsonArray();
                for (Event event = events.poll(); event != null; event = events.poll()) {
                    happened.add(json(event));
                }
                answer.add("events", happened);
            }
            case "step_wall" -> wallStepNs.addAndGet((long) (told.get("seconds").getAsDouble() * 1e9));
            case "close" -> answer.addProperty("confirmed", client.close(seconds(told.get("timeout_seconds"))));
            case "bench" -> answer = new Bench(told.get("target").getAsString())
                    .run(told.get("rounds").getAsInt(), told.get("pairs").getAsInt(), told.get("calls").getAsInt());
            default -> throw new IllegalArgumentException("no instruction is called " + told.get("do"));
        }
        return answer;
    }

    private Client opened(JsonObject told) throws IOException {
        Clock system = Clock.system();
        Client.Builder builder = Client.builder(told.get("target").getAsString())
                .onEvent(events::add)
                .clock(new Clock(() -> Clock.systemWallNs() + wallStepNs.get(), system.monotonicNs()));
        if (isGiven(told, "limits")) {
            builder.limits(limits(told.getAsJsonObject("limits")));
        }
        if (isGiven(told, "tls")) {
            JsonObject tls = told.getAsJsonObject("tls");
            builder.tls(Tls.fromFiles(path(tls, "ca"), path(tls, "certificate"), path(tls, "key")));
        }
        return builder.build();
    }

    private Session session(JsonObject told) {
        return sessions.get(told.get("session").getAsString());
    }

    private static App app(JsonObject told) {
        return new App(
                told.get("user_id").getAsString(),
                told.get("workspace_id").getAsString(),
                told.get("agent_id").getAsString(),
                AccessMethod.valueOf(told.get("access_method").getAsString().toUpperCase(Locale.ROOT)),
                told.get("slug_or_port").getAsString());
    }

    private static SessionOptions options(JsonObject told) {
        SessionOptions options = new SessionOptions();
        if (isGiven(told, "requests")) {
            options.requests(told.get("requests").getAsLong());
        }
        if (isGiven(told, "report_live")) {
            options.reportLive(told.get("report_live").getAsBoolean());
        }
        if (isGiven(told, "session_id")) {
            options.sessionId(UUID.fromString(told.get("session_id").getAsString()));
        }
        if (isGiven(told, "started_ns")) {
            options.startedNs(told.get("started_ns").getAsLong());
        }
        return options;
    }

    private static Limits limits(JsonObject told) {
        Limits.Builder limits = Limits.builder();
        for (Map.Entry<String, JsonElement> one : told.entrySet()) {
            JsonElement value = one.getValue();
            switch (one.getKey()) {
                case "batch_max_reports" -> limits.batchMaxReports(value.getAsInt());
                case "batch_max_bytes" -> limits.batchMaxBytes(value.getAsInt());
                case "linger_seconds" -> limits.linger(seconds(value));
                case "window_batches" -> limits.windowBatches(value.getAsInt());
                case "max_live_sessions" -> limits.maxLiveSessions(value.getAsInt());
                case "max_pending_reports" -> limits.maxPendingReports(value.getAsInt());
                case "backoff_base_seconds" -> limits.backoffBase(seconds(value));
                case "backoff_max_seconds" -> limits.backoffMax(seconds(value));
                case "channel_backoff_max_seconds" -> seconds(value); // a channel of this client has none
                case "connect_timeout_seconds" -> limits.connectTimeout(seconds(value));
                case "retry_slowest_seconds" -> limits.retrySlowest(seconds(value));
                case "refused_retry_seconds" -> limits.refusedRetry(seconds(value));
                case "keepalive_time_seconds" -> limits.keepaliveTime(seconds(value));
                case "keepalive_timeout_seconds" -> limits.keepaliveTimeout(seconds(value));
                default -> throw new IllegalArgumentException("no limit is called " + one.getKey());
            }
        }
        return limits.build();
    }

    private static JsonObject stats(Stats stats) {
        JsonObject said = new JsonObject();
        said.addProperty("client_id", stats.clientId());
        said.addProperty("connected", stats.connected());
        said.addProperty("live_sessions", stats.liveSessions());
        said.addProperty("pending_reports", stats.pendingReports());
        said.addProperty("unacknowledged_reports", stats.unacknowledgedReports());
        said.addProperty("acknowledged_reports", stats.acknowledgedReports());
        said.addProperty("rejected_reports", stats.rejectedReports());
        said.addProperty("dropped_reports", stats.droppedReports());
        return said;
    }

    private static JsonObject json(Event event) {
        JsonObject said = new JsonObject();
        said.addProperty("event", event.getClass().getSimpleName());
        if (event instanceof Event.Disconnected gone) {
            said.addProperty("status", gone.status().name());
            said.addProperty("retry_seconds", gone.retryIn().toNanos() / 1e9);
        } else if (event instanceof Event.Rejected rejected) {
            JsonArray reasons = new JsonArray();
            rejected.rejections().forEach(rejection -> reasons.add(rejection.reason()));
            said.add("reasons", reasons);
        } else if (event instanceof Event.BatchRefused refused) {
            said.addProperty("status", refused.status().name());
            said.addProperty("reports", refused.reports());
            said.addProperty("dropped", refused.dropped());
        } else if (event instanceof Event.Dropped dropped) {
            said.addProperty("reports", dropped.reports());
        } else if (event instanceof Event.ClientIdReplaced replaced) {
            said.addProperty("status", replaced.status().name());
        } else if (event instanceof Event.Closed closed) {
            said.addProperty("confirmed", closed.confirmed());
            said.addProperty("left", closed.left());
        }
        return said;
    }

    private static boolean isGiven(JsonObject told, String name) {
        return told.has(name) && !told.get(name).isJsonNull();
    }

    private static Path path(JsonObject told, String name) {
        return Path.of(told.get(name).getAsString());
    }

    private static Duration seconds(JsonElement value) {
        return Duration.ofNanos((long) (value.getAsDouble() * 1e9));
    }
}
