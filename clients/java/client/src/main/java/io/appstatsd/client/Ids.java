package io.appstatsd.client;

import java.nio.ByteBuffer;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.UUID;

/**
 * What is an id? UUIDs as text and as bytes, and new ones.
 *
 * <p>An instance makes new ones from random bytes that it draws many at a time, since drawing costs more than all else that
 * the proxy's call does. Whoever calls it holds the client's lock.
 */
final class Ids {
    static final int BYTES = 16;
    private static final UUID NIL = new UUID(0, 0);

    private final SecureRandom random;
    private final byte[] drawn = new byte[256 * BYTES];
    private final ByteBuffer left = ByteBuffer.wrap(drawn).position(drawn.length);

    Ids(SecureRandom random) {
        this.random = random;
    }

    /** A random UUID (version 4). */
    UUID next() {
        if (!left.hasRemaining()) {
            random.nextBytes(drawn);
            left.clear();
        }
        long high = left.getLong() & ~0xF000L | 0x4000L;
        long low = left.getLong() & ~(3L << 62) | 1L << 63;
        return new UUID(high, low);
    }

    /** A random client_id: 128 bits in hexadecimal. */
    static String newClientId(SecureRandom random) {
        byte[] raw = new byte[BYTES];
        random.nextBytes(raw);
        return HexFormat.of().formatHex(raw);
    }

    /** The same id, unless it is none; the message calls it {@code name}. */
    static UUID checked(String name, UUID id) {
        if (id == null || id.equals(NIL)) {
            throw wrong(name, id);
        }
        return id;
    }

    /** The id that a text stands for. {@code UUID.fromString} would take {@code 1-1-1-1-1}. */
    static UUID of(String name, String text) {
        String digits = text == null ? "" : text.replace("-", "");
        if (digits.length() != 2 * BYTES) {
            throw wrong(name, text);
        }
        try {
            long high = HexFormat.fromHexDigitsToLong(digits, 0, BYTES);
            return checked(name, new UUID(high, HexFormat.fromHexDigitsToLong(digits, BYTES, 2 * BYTES)));
        } catch (NumberFormatException error) {
            throw wrong(name, text);
        }
    }

    /** The id that 16 bytes in network order stand for. */
    static UUID of(String name, byte[] raw) {
        if (raw == null || raw.length != BYTES) {
            throw wrong(name, raw == null ? null : HexFormat.of().formatHex(raw));
        }
        ByteBuffer buffer = ByteBuffer.wrap(raw);
        return checked(name, new UUID(buffer.getLong(), buffer.getLong()));
    }

    private static IllegalArgumentException wrong(String name, Object value) {
        return new IllegalArgumentException(
                name + " is " + value + "; it has to be a UUID (java.util.UUID, 16 bytes or text) and not nil");
    }
}
