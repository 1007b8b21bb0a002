package io.appstatsd.client;

/**
 * What a client holds and has done.
 *
 * @param clientId empty before the first stream
 * @param connected whether a stream is open and answered
 * @param liveSessions sessions that the daemon knows as in use, or soon will
 * @param pendingReports reports that wait to be put into a batch
 * @param unacknowledgedReports reports in batches that were not acknowledged yet
 * @param acknowledgedReports reports that the daemon has acknowledged so far
 * @param rejectedReports reports that the daemon did not accept so far
 * @param droppedReports reports that were lost so far
 */
public record Stats(
        String clientId,
        boolean connected,
        int liveSessions,
        int pendingReports,
        int unacknowledgedReports,
        long acknowledgedReports,
        long rejectedReports,
        long droppedReports) {}
