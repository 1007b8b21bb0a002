package io.appstatsd.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.UUID;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What the daemon would reject fails where it is made. */
class ValidityTest {
    private static final UUID ID = UUID.fromString("00112233-4455-6677-8899-aabbccddeeff");

    private static App app(String slug) {
        return new App(ID, ID, ID, AccessMethod.PATH, slug);
    }

    @Test
    void idsMayBeUuidsTextOrBytes() {
        byte[] raw = new byte[16];
        for (int i = 0; i < 16; i++) {
            raw[i] = (byte) (i * 0x11);
        }
        App expected = app("code");
        assertEquals(expected, new App(raw, raw, raw, AccessMethod.PATH, "code"));
        String plain = ID.toString().replace("-", "");
        assertEquals(expected, new App(ID.toString(), plain, plain.toUpperCase(), AccessMethod.PATH, "code"));
        assertEquals(expected.hashCode(), new App(raw, raw, raw, AccessMethod.PATH, "code").hashCode());
        assertNotEquals(expected, new App(ID, ID, ID, AccessMethod.SUBDOMAIN, "code"));
        assertNotEquals(expected, app("cod"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "me", "1-1-1-1-1", "00000000-0000-0000-0000-000000000000", "+0112233-4455-6677-8899-aabbccddeeff"})
    void whatIsNoUuidOrNilIsRefusedByName(String text) {
        Exception error = assertThrows(
                IllegalArgumentException.class,
                () -> new App(ID.toString(), text, ID.toString(), AccessMethod.PATH, "code"));
        assertTrue(error.getMessage().startsWith("workspace_id is " + text), error.getMessage());
    }

    @Test
    void aNilOrMissingIdIsRefused() {
        assertThrows(IllegalArgumentException.class, () -> new App(new UUID(0, 0), ID, ID, AccessMethod.PATH, "code"));
        assertThrows(IllegalArgumentException.class, () -> new App((UUID) null, ID, ID, AccessMethod.PATH, "code"));
        assertThrows(IllegalArgumentException.class, () -> new App(ID, ID, ID, null, "code"));
        byte[] short15 = new byte[15];
        assertThrows(
                IllegalArgumentException.class,
                () -> new App(short15, short15, short15, AccessMethod.PATH, "code"));
    }

    @Test
    void slugsHaveOneTo256CharactersWhateverTheirLengthInBytes() {
        app("\uD83D\uDE00".repeat(256));
        new App(ID, ID, ID, AccessMethod.TERMINAL, "");
        for (String slug : new String[] {"", "x".repeat(257), "a\0b", "\uD83D", "\uDE00\uD83D", null}) {
            assertThrows(IllegalArgumentException.class, () -> app(slug), slug);
        }
    }

    @Test
    void newIdsAreRandomUuids() {
        Ids ids = new Ids(new java.security.SecureRandom());
        long distinct = java.util.stream.Stream.generate(ids::next)
                .limit(1000)
                .peek(id -> assertEquals(4, id.version()))
                .peek(id -> assertEquals(2, id.variant()))
                .distinct()
                .count();
        assertEquals(1000, distinct);
    }

    @Test
    void limitsThatTheDaemonWouldRefuseAreRefused() {
        assertThrows(IllegalArgumentException.class, () -> Limits.builder().batchMaxReports(10_001).build());
        assertThrows(IllegalArgumentException.class, () -> Limits.builder().batchMaxBytes((4 << 20) + 1).build());
        assertThrows(IllegalArgumentException.class, () -> Limits.builder().windowBatches(0).build());
        assertThrows(IllegalArgumentException.class, () -> Limits.builder().backoffBase(Duration.ZERO).build());
        assertThrows(IllegalArgumentException.class, () -> Limits.builder().linger(Duration.ofNanos(-1)).build());
        assertEquals(Duration.ZERO, Limits.builder().linger(Duration.ZERO).build().linger());
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "unix:", "host", "host:", "http://host:1", "host:123456", "a:b:1"})
    void aTargetThatIsNoneIsRefused(String target) {
        assertThrows(IllegalArgumentException.class, () -> new Client(target));
    }

    @Test
    void tlsIsForTcpAndHasToBePem() {
        Tls tls = new Tls(new byte[0], "no PEM".getBytes(), new byte[0]);
        Client.Builder overUnix = Client.builder("unix:/nowhere").tls(tls);
        assertTrue(assertThrows(IllegalArgumentException.class, overUnix::build).getMessage().contains("TLS is for HOST:PORT"));
        Client.Builder overTcp = Client.builder("[::1]:7443").tls(tls);
        assertTrue(assertThrows(IllegalArgumentException.class, overTcp::build).getMessage().contains("PEM"));
    }

    @Test
    void optionsThatCannotBeAreRefused() {
        SessionOptions options = new SessionOptions();
        assertThrows(IllegalArgumentException.class, () -> options.requests(-1));
        assertThrows(IllegalArgumentException.class, () -> options.startedNs(0));
        assertThrows(IllegalArgumentException.class, () -> options.sessionId(new UUID(0, 0)));
        Client client = new Client("unix:/nowhere");
        client.close();
        Session session = client.begin(app("code"));
        assertThrows(IllegalArgumentException.class, () -> session.update(-1));
        session.end();
    }
}
