package io.appstatsd.client;

import java.time.Instant;
import java.util.function.LongSupplier;

/**
 * What time is it? The two clocks of a client, as one parameter.
 *
 * <p>Starts come from the wall clock, everything that passes from the monotonic one, so a step of the wall clock makes no
 * session negative or days long.
 *
 * @param wallNs nanoseconds since the Unix epoch, UTC
 * @param monotonicNs nanoseconds that never run backwards, from 0 or more
 */
public record Clock(LongSupplier wallNs, LongSupplier monotonicNs) {
    /** The clocks of this machine. */
    public static Clock system() {
        long origin = System.nanoTime(); // which may be anything, and may be negative
        return new Clock(Clock::systemWallNs, () -> System.nanoTime() - origin);
    }

    /** The wall clock of this machine: nanoseconds since the Unix epoch, UTC. */
    public static long systemWallNs() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000_000L + now.getNano();
    }
}
