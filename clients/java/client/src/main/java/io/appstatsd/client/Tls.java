package io.appstatsd.client;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Mutual TLS: each is PEM.
 *
 * @param ca who may have signed the daemon's certificate
 * @param certificate the proxy's own, with those between it and the CA
 * @param key its key, PKCS #8 and not encrypted
 */
public record Tls(byte[] ca, byte[] certificate, byte[] key) {
    /**
     * Reads the three files.
     *
     * @throws IOException where one cannot be read
     */
    public static Tls fromFiles(Path ca, Path certificate, Path key) throws IOException {
        return new Tls(Files.readAllBytes(ca), Files.readAllBytes(certificate), Files.readAllBytes(key));
    }
}
