package io.appstatsd.client;

/** How a user reached an app. */
public enum AccessMethod {
    /** By a path on the proxy's own host name. */
    PATH(io.appstatsd.v1.AccessMethod.ACCESS_METHOD_PATH),
    /** By a host name of the app's own. */
    SUBDOMAIN(io.appstatsd.v1.AccessMethod.ACCESS_METHOD_SUBDOMAIN),
    /** By a terminal. */
    TERMINAL(io.appstatsd.v1.AccessMethod.ACCESS_METHOD_TERMINAL);

    final io.appstatsd.v1.AccessMethod wire;

    AccessMethod(io.appstatsd.v1.AccessMethod wire) {
        this.wire = wire;
    }
}
