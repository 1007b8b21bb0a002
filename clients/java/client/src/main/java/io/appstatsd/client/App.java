package io.appstatsd.client;

import java.nio.charset.StandardCharsets;
import java.util.UUID;

/**
 * Which app is a session of? The five fields that many sessions share, checked once.
 *
 * <p>What an {@code App} holds the daemon accepts, so a mistake shows where it is made and never on the way of a report. It
 * does not change, and can be used for any number of sessions. Two apps of the same five fields are equal.
 */
public final class App {
    private static final int MAX_SLUG_CHARACTERS = 256;

    private final UUID userId;
    private final UUID workspaceId;
    private final UUID agentId;
    private final AccessMethod accessMethod;
    private final String slugOrPort;
    private final int hash;

    /**
     * An app whose ids are UUIDs.
     *
     * @param userId who uses the app
     * @param workspaceId the workspace that it runs in
     * @param agentId the agent in the workspace that serves it
     * @param accessMethod how the user reached it
     * @param slugOrPort the app's slug, or the forwarded port
     * @throws IllegalArgumentException where an id is nil, or where {@code slugOrPort} has more than 256 characters, holds
     *     a NUL or half a surrogate pair, or is empty though the access method is not the terminal
     */
    public App(UUID userId, UUID workspaceId, UUID agentId, AccessMethod accessMethod, String slugOrPort) {
        this.userId = Ids.checked("user_id", userId);
        this.workspaceId = Ids.checked("workspace_id", workspaceId);
        this.agentId = Ids.checked("agent_id", agentId);
        if (accessMethod == null) {
            throw new IllegalArgumentException("access_method is null; it has to be PATH, SUBDOMAIN or TERMINAL");
        }
        this.accessMethod = accessMethod;
        this.slugOrPort = checkedSlug(accessMethod, slugOrPort);
        int ids = 31 * (31 * userId.hashCode() + workspaceId.hashCode()) + agentId.hashCode();
        hash = 31 * (31 * ids + accessMethod.ordinal()) + slugOrPort.hashCode();
    }

    /**
     * An app whose ids are UUIDs as text.
     *
     * @param userId who uses the app
     * @param workspaceId the workspace that it runs in
     * @param agentId the agent in the workspace that serves it
     * @param accessMethod how the user reached it
     * @param slugOrPort the app's slug, or the forwarded port
     * @throws IllegalArgumentException as the other constructors do
     */
    public App(String userId, String workspaceId, String agentId, AccessMethod accessMethod, String slugOrPort) {
        this(
                Ids.of("user_id", userId),
                Ids.of("workspace_id", workspaceId),
                Ids.of("agent_id", agentId),
                accessMethod,
                slugOrPort);
    }

    /**
     * An app whose ids are UUIDs as 16 bytes in network order.
     *
     * @param userId who uses the app
     * @param workspaceId the workspace that it runs in
     * @param agentId the agent in the workspace that serves it
     * @param accessMethod how the user reached it
     * @param slugOrPort the app's slug, or the forwarded port
     * @throws IllegalArgumentException as the other constructors do
     */
    public App(byte[] userId, byte[] workspaceId, byte[] agentId, AccessMethod accessMethod, String slugOrPort) {
        this(
                Ids.of("user_id", userId),
                Ids.of("workspace_id", workspaceId),
                Ids.of("agent_id", agentId),
                accessMethod,
                slugOrPort);
    }

    /** Who uses the app. */
    public UUID userId() {
        return userId;
    }

    /** The workspace that it runs in. */
    public UUID workspaceId() {
        return workspaceId;
    }

    /** The agent in the workspace that serves it. */
    public UUID agentId() {
        return agentId;
    }

    /** How the user reached it. */
    public AccessMethod accessMethod() {
        return accessMethod;
    }

    /** The app's slug, or the forwarded port. */
    public String slugOrPort() {
        return slugOrPort;
    }

    /** At most how much it adds to a batch, in bytes. */
    int wireBytes() {
        int fields = 3 * Ids.BYTES + 1 + slugOrPort.getBytes(StandardCharsets.UTF_8).length;
        return fields + 18; // tags and lengths of five fields and of the message itself
    }

    @Override
    public boolean equals(Object other) {
        return this == other
                || other instanceof App app
                        && hash == app.hash
                        && accessMethod == app.accessMethod
                        && userId.equals(app.userId)
                        && workspaceId.equals(app.workspaceId)
                        && agentId.equals(app.agentId)
                        && slugOrPort.equals(app.slugOrPort);
    }

    @Override
    public int hashCode() {
        return hash;
    }

    @Override
    public String toString() {
        return "App[userId=" + userId + ", workspaceId=" + workspaceId + ", agentId=" + agentId + ", accessMethod="
                + accessMethod + ", slugOrPort=" + slugOrPort + "]";
    }

    private static String checkedSlug(AccessMethod method, String slug) {
        if (slug == null) {
            throw new IllegalArgumentException("slug_or_port is null; a terminal's may be empty");
        }
        if (slug.isEmpty() && method != AccessMethod.TERMINAL) {
            throw new IllegalArgumentException("slug_or_port is empty; only a terminal's may be");
        }
        boolean fits = slug.codePointCount(0, slug.length()) <= MAX_SLUG_CHARACTERS;
        for (int at = 0; fits && at < slug.length(); at++) {
            char unit = slug.charAt(at);
            if (Character.isHighSurrogate(unit)
                    && at + 1 < slug.length()
                    && Character.isLowSurrogate(slug.charAt(at + 1))) {
                at++;
            } else {
                fits = unit != 0 && !Character.isSurrogate(unit);
            }
        }
        if (!fits) {
            throw new IllegalArgumentException("slug_or_port is \"" + slug
                    + "\"; it has at most 256 characters, no NUL, and no half of a surrogate pair");
        }
        return slug;
    }
}
