/**
 * Reports the sessions of a reverse proxy to the appstatsd daemon on its host.
 *
 * <p>Start at {@link io.appstatsd.client.Client}. What every client does, whatever its language, stands in
 * {@code docs/client-protocol.md}; the classes here have the names of that page.
 */
package io.appstatsd.client;
