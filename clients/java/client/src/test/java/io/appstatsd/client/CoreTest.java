package io.appstatsd.client;

import static io.appstatsd.client.Wire.APP;
import static io.appstatsd.client.Wire.SECOND;
import static io.appstatsd.client.Wire.START;
import static io.appstatsd.client.Wire.app;
import static io.appstatsd.client.Wire.ids;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.appstatsd.client.ModelDaemon.Applied;
import io.appstatsd.v1.RejectedReport;
import io.appstatsd.v1.RejectionReason;
import io.appstatsd.v1.StreamReportsRequest;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The core against the protocol page, rule by rule, with a clock that the test moves. */
class CoreTest {
    private static final String LONGEST = "\uD83D\uDE00".repeat(256);

    // --- batches ---

    @Test
    void theFirstMessageNamesTheClientAndNothingElseGoesOutBeforeItsAnswer() {
        Wire wire = new Wire();
        wire.beginMany(1, 1000);
        StreamReportsRequest first = wire.open();
        assertEquals("client-1", first.getClientId());
        assertEquals(0, first.getSequence());
        assertEquals(1000, wire.sentIds().size());
    }

    @Test
    void aSessionThatBeginsAndEndsWithinTheLingerIsOneReport() {
        Wire wire = new Wire();
        wire.open();
        Report report = wire.begin(1);
        wire.now += SECOND / 2;
        wire.count(report);
        wire.end(report);
        assertNull(wire.sent());
        wire.linger();
        wire.settle();
        assertEquals(START + 5 * SECOND, wire.held(report).startedNs());
        assertEquals(START + 5 * SECOND + SECOND / 2, wire.held(report).endedNs());
        assertEquals(2, wire.held(report).requests());
        assertEquals(1, wire.daemon.applied.size());
    }

    @Test
    void aReportWaitsForTheLingerAndTheShellIsToldUntilWhen() {
        Wire wire = new Wire();
        wire.open();
        assertEquals(Core.NEVER, wire.core.lookAgainAtNs());
        wire.begin(1);
        wire.now += SECOND - 1;
        assertNull(wire.sent());
        assertEquals(wire.now + 1, wire.core.lookAgainAtNs());
        wire.now += 1;
        assertEquals(List.of(1L), wire.sentIds());
    }

    @Test
    void aWaitingShellIsWokenByTheFirstReportAndByTheOneThatFillsABatch() {
        Wire wire = new Wire(Limits.builder().batchMaxReports(3));
        List<Boolean> woken = new ArrayList<>();
        for (int number = 1; number <= 4; number++) {
            woken.add(wire.core.buffer.begin(wire.report(number, APP), wire.now));
        }
        assertEquals(List.of(true, false, true, false), woken);
    }

    @Test
    void aFullBatchDoesNotWaitAndWhatIsLeftOverDoes() {
        Wire wire = new Wire();
        wire.open();
        wire.beginMany(1, 1001);
        assertEquals(1000, wire.sentIds().size());
        assertNull(wire.sent());
        wire.linger();
        assertEquals(List.of(1001L), wire.sentIds());
    }

    @Test
    void aBatchEndsBeforeItHasTooManyBytes() {
        Wire wire = new Wire(Limits.builder().batchMaxBytes(4000));
        wire.open();
        for (int number = 1; number <= 8; number++) {
            wire.begin(number, app(number, AccessMethod.PATH, LONGEST));
        }
        wire.linger();
        List<Integer> sizes = new ArrayList<>();
        for (StreamReportsRequest message = wire.sent(); message != null; message = wire.sent()) {
            assertTrue(message.getSerializedSize() <= 4000);
            sizes.add(ids(message).size());
        }
        assertEquals(List.of(3, 3, 2), sizes);
    }

    @Test
    void theLongestSlugsInTheLargestBatchStayUnderTheLimitOfBytes() {
        Wire wire = new Wire(Limits.builder().batchMaxReports(10_000).batchMaxBytes(4 << 20));
        wire.open();
        for (int number = 1; number <= 10_000; number++) {
            wire.begin(number, app(number, AccessMethod.PATH, LONGEST));
        }
        wire.linger();
        int size = wire.sent().getSerializedSize();
        assertTrue(size > (4 << 20) * 0.98 && size <= 4 << 20, size + " bytes");
    }

    @Test
    void eachDistinctAppStandsInABatchOnce() {
        Wire wire = new Wire();
        wire.open();
        App other = app(3, AccessMethod.TERMINAL, "");
        App sameAsApp = app(3, AccessMethod.PATH, "code");
        wire.begin(1, APP);
        wire.begin(2, other);
        wire.begin(3, sameAsApp);
        wire.linger();
        StreamReportsRequest message = wire.sent();
        assertEquals(List.of(0, 1, 0), message.getColumns().getAppList());
        assertEquals(2, message.getColumns().getAppsCount());
    }

    @Test
    void atMostEightBatchesAreOnTheirWayWhileReportsGoOnMerging() {
        Wire wire = new Wire();
        wire.open();
        List<Report> reports = wire.beginMany(1, 10_000);
        assertEquals(8, wire.deliver());
        assertEquals(Core.NEVER, wire.core.lookAgainAtNs());
        reports.forEach(wire::end);
        wire.ack(1);
        assertEquals(1, wire.deliver());
        wire.ack(9);
        wire.linger();
        wire.settle();
        reports.forEach(report -> assertEquals(report.endedNs, wire.held(report).endedNs()));
        assertEquals(0, wire.core.stats().unacknowledgedReports());
    }

    // --- reconnects ---

    @Test
    void whatWasNotAcknowledgedIsSentAgainUnderItsNumberWithItsContent() {
        Wire wire = new Wire(Limits.builder().batchMaxReports(2));
        wire.open();
        List<Report> reports = wire.beginMany(1, 4);
        List<StreamReportsRequest> before = List.of(wire.sent(), wire.sent());
        reports.forEach(wire::end);
        wire.lose();
        wire.open();
        assertEquals(before, List.of(wire.sent(), wire.sent()));
    }

    @Test
    void whatTheFirstAnswerAcknowledgesIsNotSentAgain() {
        Wire wire = new Wire(Limits.builder().batchMaxReports(2));
        wire.open();
        wire.endUnheard(1, 4);
        assertEquals(2, wire.deliver());
        wire.lose();
        wire.daemon.holds("client-1", 1);
        wire.open();
        StreamReportsRequest message = wire.sent();
        assertEquals(2, message.getSequence());
        assertEquals(List.of(3L, 4L), ids(message));
    }

    @Test
    void anAcknowledgementOfTheOldStreamThatComesOnTheNewOneCounts() {
        Wire wire = new Wire(Limits.builder().batchMaxReports(2));
        wire.open();
        wire.endUnheard(1, 6);
        IntStream.range(0, 3).forEach(i -> wire.sent());
        wire.lose();
        wire.open();
        assertEquals(1, wire.sent().getSequence());
        wire.ack(2);
        assertEquals(3, wire.sent().getSequence());
        wire.ack(3);
        assertEquals(0, wire.core.stats().unacknowledgedReports());
        assertEquals(6, wire.core.stats().acknowledgedReports());
    }

    @Test
    void liveSessionsAreReportedAgainUnderNewNumbersAfterWhatWasNotAcknowledged() {
        Wire wire = new Wire();
        wire.open();
        wire.beginMany(1, 3);
        wire.linger();
        wire.settle();
        wire.endUnheard(4, 2);
        wire.linger();
        assertEquals(List.of(4L, 5L), wire.sentIds());
        wire.lose();
        wire.daemon.forget();
        wire.open();
        StreamReportsRequest again = wire.sent();
        StreamReportsRequest live = wire.sent();
        assertEquals(2, again.getSequence());
        assertEquals(List.of(4L, 5L), ids(again));
        assertEquals(3, live.getSequence());
        assertEquals(List.of(1L, 2L, 3L), ids(live));
        assertNull(wire.sent());
    }

    @Test
    void aSessionThatEndedWhileTheDaemonWasAwayIsNotReportedLiveAgain() {
        Wire wire = new Wire();
        wire.open();
        Report report = wire.begin(1);
        wire.linger();
        wire.settle();
        wire.lose();
        wire.end(report);
        wire.open();
        wire.linger();
        wire.settle();
        assertEquals(report.endedNs, wire.held(report).endedNs());
        assertEquals(List.of(new Applied("client-1", 1), new Applied("client-1", 2)), wire.daemon.applied);
    }

    @Test
    void aRejectedSessionIsToldAndNotReportedLiveAgainButItsEndIs() {
        Wire wire = new Wire();
        wire.open();
        Report report = wire.begin(7);
        wire.linger();
        assertEquals(List.of(7L), wire.sentIds());
        wire.ack(1, rejected(1, 0).setMessage("too old").build());
        Event.Rejection why = new Event.Rejection(new UUID(0, 7), "REJECTION_REASON_INVALID_TIME", "too old");
        assertEquals(List.of(new Event.Rejected(List.of(why))), wire.events(Event.Rejected.class));
        wire.count(report);
        wire.lose();
        wire.open();
        wire.linger();
        assertNull(wire.sent());
        wire.end(report);
        wire.linger();
        assertEquals(List.of(7L), wire.sentIds());
        assertEquals(1, wire.core.stats().rejectedReports());
    }

    @Test
    void rejectionsThatNameNoReportOfOursAndUnknownReasonsDoNoHarm() {
        Wire wire = new Wire();
        wire.open();
        wire.begin(7);
        wire.linger();
        wire.sent();
        RejectedReport unknown = rejected(1, 0).setReasonValue(99).build();
        wire.ack(1, rejected(9, 0).build(), rejected(1, 5).build(), rejected(1, -1).build(), unknown);
        Event.Rejection why = new Event.Rejection(new UUID(0, 7), "99", "");
        assertEquals(List.of(new Event.Rejected(List.of(why))), wire.events(Event.Rejected.class));
    }

    private static RejectedReport.Builder rejected(long sequence, int index) {
        return RejectedReport.newBuilder()
                .setSequence(sequence)
                .setIndex(index)
                .setReason(RejectionReason.REJECTION_REASON_INVALID_TIME);
    }

    // --- refusals ---

    @ParameterizedTest
    @EnumSource(names = {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"})
    void afterARefusalBatchesGoSinglyUnderANewClientIdUntilOneIsAcknowledged(Status.Code status) {
        Wire wire = new Wire(Limits.builder().batchMaxReports(2));
        wire.open();
        wire.endUnheard(1, 8);
        IntStream.range(0, 4).forEach(i -> wire.sent());
        wire.ack(1);
        wire.lose(status);
        assertEquals("client-2", wire.open().getClientId());
        StreamReportsRequest message = wire.sent();
        assertEquals(1, message.getSequence());
        assertEquals(List.of(3L, 4L), ids(message));
        assertNull(wire.sent());
        wire.begin(9);
        assertEquals(Core.NEVER, wire.core.lookAgainAtNs(), "the shell would spin until the acknowledgement");
        wire.ack(wire.daemon.batch("client-2", message));
        assertEquals(List.of(5L, 6L), wire.sentIds());
        assertEquals(List.of(7L, 8L), wire.sentIds());
        assertEquals(0, wire.dropped());
        assertEquals("client-2", wire.events(Event.ClientIdReplaced.class).get(0).newId());
    }

    @Test
    void onlyABatchRefusedAsNumber1IsDroppedCountedAndTold() {
        Wire wire = new Wire(Limits.builder().batchMaxReports(2));
        wire.open();
        wire.endUnheard(1, 6);
        IntStream.range(0, 3).forEach(i -> wire.sent());
        wire.ack(1);
        wire.lose(Status.Code.INVALID_ARGUMENT); // number 2 was the first on its way: nothing is dropped
        assertEquals(0, wire.dropped());
        wire.open();
        assertEquals(List.of(3L, 4L), wire.sentIds());
        wire.lose(Status.Code.INVALID_ARGUMENT); // number 1, alone
        assertEquals(2, wire.dropped());
        assertEquals(
                List.of(new Event.BatchRefused(Status.Code.INVALID_ARGUMENT, "because", 2, 2)),
                wire.events(Event.BatchRefused.class));
        assertEquals(List.of(), wire.events(Event.Dropped.class));
        StreamReportsRequest first = wire.open();
        assertEquals("client-3", first.getClientId());
        assertEquals(2, first.getDroppedReports());
        StreamReportsRequest message = wire.sent();
        assertEquals(1, message.getSequence());
        assertEquals(2, message.getDroppedReports());
        assertEquals(List.of(5L, 6L), ids(message));
    }

    @Test
    void aRefusalWhileSeveralWereOnTheirWayDropsNone() {
        Wire wire = new Wire(Limits.builder().batchMaxReports(2));
        wire.open();
        wire.endUnheard(1, 4);
        wire.sent();
        wire.sent();
        wire.lose(Status.Code.INVALID_ARGUMENT);
        wire.open();
        wire.settle();
        assertEquals(4, wire.daemon.ever.size());
        assertEquals(0, wire.dropped());
    }

    @Test
    void aRefusalBeforeAnyBatchWasSentDropsNone() {
        Wire wire = new Wire(Limits.builder().batchMaxReports(2));
        wire.endUnheard(1, 2);
        wire.open();
        wire.lose(Status.Code.INVALID_ARGUMENT);
        wire.open();
        wire.settle();
        assertEquals(2, wire.daemon.ever.size());
    }

    @Test
    void sessionsTheDaemonMayBelieveInUseSurviveTheRefusalOfTheirBatchEachAlone() {
        Wire wire = new Wire();
        wire.open();
        Report live = wire.begin(1);
        Report ending = wire.begin(2);
        wire.linger();
        wire.settle();
        wire.count(live);
        wire.end(ending);
        wire.endUnheard(3, 2);
        wire.lose(Status.Code.ALREADY_EXISTS); // so that the next number is 1
        wire.open();
        wire.linger();
        assertEquals(4, wire.sentIds().size());
        wire.count(live);
        wire.lose(Status.Code.INVALID_ARGUMENT);
        assertEquals(2, wire.dropped());
        wire.open();
        List<List<Long>> sent = new ArrayList<>();
        for (StreamReportsRequest message = wire.sent(); message != null; message = wire.sent()) {
            sent.add(ids(message));
            wire.ack(wire.daemon.batch(wire.clientId, message));
        }
        assertTrue(sent.size() == 2 && sent.containsAll(List.of(List.of(1L), List.of(2L))), sent.toString());
        assertEquals(ending.endedNs, wire.held(ending).endedNs());
        assertEquals(3, wire.held(live).requests());
        wire.end(live);
        wire.begin(5);
        wire.linger();
        assertEquals(2, wire.sentIds().size(), "alone until acknowledged, and no longer");
    }

    @Test
    void aReportThatIsRefusedAloneIsHeldBackAndTriedAgainWithTheNewestOfItsSession() {
        Wire wire = new Wire();
        wire.open();
        Report poison = wire.begin(1);
        Report good = wire.begin(2);
        wire.linger();
        for (StreamReportsRequest message = wire.sent(); message != null; message = wire.sent()) {
            if (ids(message).contains(1L)) {
                wire.lose(Status.Code.INVALID_ARGUMENT);
                wire.open();
            } else {
                wire.ack(wire.daemon.batch(wire.clientId, message));
            }
        }
        assertEquals(1, wire.held(good).requests());
        assertEquals(1, wire.core.stats().pendingReports());
        wire.end(poison);
        assertTrue(wire.core.lookAgainAtNs() > wire.now + 50 * SECOND);
        wire.now = wire.core.lookAgainAtNs();
        assertNull(wire.sent()); // it lingers
        wire.linger();
        wire.settle();
        assertEquals(poison.endedNs, wire.held(poison).endedNs());
        assertEquals(0, wire.dropped());
        assertEquals(0, wire.core.stats().pendingReports());
    }

    // --- mistaken identity ---

    @ParameterizedTest
    @EnumSource(names = {"ALREADY_EXISTS", "ABORTED"})
    void aClientIdInUseTwiceIsReplacedAndBatchesAreSentAgainFrom1(Status.Code status) {
        Wire wire = new Wire(Limits.builder().batchMaxReports(2));
        wire.open();
        wire.endUnheard(1, 6);
        IntStream.range(0, 3).forEach(i -> wire.sent());
        wire.ack(1);
        wire.lose(status);
        assertEquals("client-2", wire.open().getClientId());
        StreamReportsRequest first = wire.sent();
        StreamReportsRequest second = wire.sent();
        assertEquals(List.of(1L, 2L), List.of(first.getSequence(), second.getSequence()));
        assertEquals(List.of(3L, 4L), ids(first));
        assertEquals(List.of(5L, 6L), ids(second));
        assertEquals(
                List.of(new Event.ClientIdReplaced("client-1", "client-2", status, "because")),
                wire.events(Event.ClientIdReplaced.class));
    }

    @Test
    void anAcknowledgementOfWhatWasNeverSentMeansThatTheClientIdIsInUseTwice() {
        Wire wire = new Wire();
        wire.open();
        wire.endUnheard(1, 1);
        wire.linger();
        wire.sent();
        assertFalse(wire.ack(2));
        wire.lose(Status.Code.CANCELLED);
        assertEquals("client-2", wire.open().getClientId());
        assertEquals(List.of(1L), wire.sentIds());
        assertFalse(wire.ack(-1), "which is 2^64-1");
    }

    @Test
    void whatWasSentUnderTheOldClientIdVouchesForNothingUnderTheNewOne() {
        Wire wire = new Wire(Limits.builder().batchMaxReports(1));
        wire.open();
        wire.endUnheard(1, 3);
        wire.settle();
        wire.lose(Status.Code.ABORTED);
        wire.open();
        wire.endUnheard(4, 1);
        assertEquals(List.of(4L), wire.sentIds());
        assertFalse(wire.ack(2));
        wire.lose(Status.Code.CANCELLED);
        wire.core.opened(wire.now);
        assertFalse(wire.ack(1), "it has a number, but was not sent under it");
    }

    @Test
    void liveSessionsMoveToTheNewClientId() {
        Wire wire = new Wire();
        wire.open();
        wire.begin(1);
        wire.linger();
        wire.settle();
        wire.lose(Status.Code.ABORTED);
        wire.open();
        wire.settle();
        assertEquals(List.of(new Applied("client-1", 1), new Applied("client-2", 1)), wire.daemon.applied);
    }

    // --- when the next attempt is made ---

    @Test
    void attemptsBackOffAtRandomUpToEightSeconds() {
        Wire wire = new Wire();
        List<Double> waits = IntStream.range(0, 8).mapToObj(i -> wire.fail()).toList();
        assertEquals(List.of(0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0), waits);
        assertTrue(wire.drawn.stream().allMatch(drawn -> drawn.get(0) == 0));
        List<Integer> attempts =
                wire.events(Event.Disconnected.class).stream().map(Event.Disconnected::attempt).toList();
        assertEquals(List.of(1, 2, 3, 4, 5, 6, 7, 8), attempts);
    }

    @Test
    void aYearsOutageDoesNotOverflowTheBackoff() {
        Wire wire = new Wire();
        IntStream.range(0, 2000).forEach(i -> assertTrue(wire.fail() <= 8));
    }

    @Test
    void theBackoffStartsAnewWhenABatchIsAcknowledged() {
        Wire wire = new Wire();
        IntStream.range(0, 5).forEach(i -> wire.fail());
        wire.open();
        assertEquals(8, wire.lose(), "an answer alone is no success");
        wire.open();
        wire.endUnheard(1, 1);
        wire.linger();
        wire.settle();
        assertEquals(0.25, wire.lose());
    }

    @Test
    void theBackoffStartsAnewAfterAStreamThatLasted() {
        Wire wire = new Wire();
        IntStream.range(0, 5).forEach(i -> wire.fail());
        wire.open();
        wire.now += 8 * SECOND;
        assertEquals(0.25, wire.lose());
    }

    @Test
    void theDaemonsOwnDelayReplacesTheBackoffUpToTheSlowestPace() {
        Wire wire = new Wire();
        wire.open();
        assertEquals(2.5, wire.lose(Status.Code.UNAVAILABLE, 2000));
        assertEquals(List.of(List.of(1.0, 1.25)), wire.drawn);
        wire.open();
        assertEquals(10, wire.lose(Status.Code.UNAVAILABLE, 999_999_999_999L));
    }

    @ParameterizedTest
    @EnumSource(names = {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"})
    void whatAPersonMustMendIsTriedAgainAtTheSlowestPaceAndCostsNothing(Status.Code status) {
        keepsWhatItHas(status, 10);
    }

    @ParameterizedTest
    @EnumSource(names = {"OK", "UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"})
    void everyOtherStatusKeepsClientIdAndNumbers(Status.Code status) {
        keepsWhatItHas(status, 0.25);
    }

    private static void keepsWhatItHas(Status.Code status, double seconds) {
        Wire wire = new Wire();
        wire.open();
        wire.endUnheard(1, 1);
        wire.linger();
        StreamReportsRequest before = wire.sent();
        assertEquals(seconds, wire.lose(status));
        assertEquals("client-1", wire.open().getClientId());
        assertEquals(before, wire.sent());
    }

    // --- bounds ---

    @Test
    void aFullBufferDropsTheNewReportCountsItAndSaysSoToTheDaemon() {
        Wire wire = new Wire(Limits.builder().maxPendingReports(3));
        wire.endUnheard(1, 5);
        assertEquals(2, wire.open().getDroppedReports());
        wire.linger();
        StreamReportsRequest message = wire.sent();
        assertEquals(List.of(1L, 2L, 3L), ids(message));
        assertEquals(2, message.getDroppedReports());
        assertEquals(List.of(new Event.Dropped(2, 2)), wire.events(Event.Dropped.class));
        assertEquals(List.of(), wire.core.takeEvents());
    }

    @Test
    void theEndOfASessionOnceReportedLiveFindsRoomInAFullBuffer() {
        Wire wire = new Wire(Limits.builder().maxPendingReports(2).maxLiveSessions(3));
        wire.open();
        List<Report> reports = wire.beginMany(1, 3);
        wire.linger();
        wire.settle();
        wire.lose();
        wire.endUnheard(4, 10);
        reports.forEach(wire::end);
        wire.open();
        wire.linger();
        wire.settle();
        reports.forEach(report -> assertEquals(report.endedNs, wire.held(report).endedNs()));
        assertEquals(8, wire.dropped());
    }

    @Test
    void aLiveSessionTooManyIsReportedWhenItEnds() {
        Wire wire = new Wire(Limits.builder().maxLiveSessions(2));
        wire.open();
        List<Report> reports = wire.beginMany(1, 3);
        wire.linger();
        assertEquals(List.of(1L, 2L), wire.sentIds());
        assertEquals(1, wire.dropped());
        wire.end(reports.get(2));
        wire.linger();
        assertEquals(List.of(3L), wire.sentIds());
        assertEquals(1, wire.dropped());
    }

    @Test
    void anUnacknowledgedEndStillTakesItsPlaceAmongTheLiveOnes() {
        Wire wire = new Wire(Limits.builder().maxLiveSessions(1));
        wire.open();
        Report report = wire.begin(1);
        wire.linger();
        wire.settle();
        wire.end(report);
        assertFalse(wire.begin(2).tracked);
        wire.linger();
        wire.settle();
        assertTrue(wire.begin(3).tracked);
    }

    @Test
    void sessionsThatComeAndGoInAnOutageNeedNoMoreThanTheBounds() {
        Wire wire = new Wire(Limits.builder().maxPendingReports(10).maxLiveSessions(5));
        wire.open();
        List<Report> live = wire.beginMany(1, 5);
        wire.linger();
        wire.settle();
        wire.lose();
        live.forEach(wire::end);
        IntStream.range(6, 1000).forEach(number -> wire.end(wire.begin(number)));
        assertEquals(15, wire.core.stats().pendingReports());
    }

    // --- closing ---

    @Test
    void closingEndsWhatIsLeftAndFollowsTheLastAcknowledgement() {
        Wire wire = new Wire();
        wire.open();
        Report report = wire.begin(1);
        wire.linger();
        wire.settle();
        wire.core.close(wire.now);
        StreamReportsRequest message = wire.sent();
        assertFalse(message.getClosing());
        assertNull(wire.sent(), "closing goes out before the last batch is acknowledged");
        wire.ack(wire.daemon.batch("client-1", message));
        wire.settle();
        assertTrue(wire.core.done() && wire.core.confirmed());
        assertNotEquals(0, report.endedNs);
        assertEquals(report.endedNs, wire.held(report).endedNs());
        assertEquals(List.of(new Event.Closed(true, 0)), wire.events(Event.Closed.class));
    }

    @Test
    void closingIsSentAgainWhenThereWasNoOk() {
        Wire wire = new Wire();
        wire.open();
        wire.endUnheard(1, 1);
        wire.core.close(wire.now);
        wire.ack(wire.daemon.batch("client-1", wire.sent()));
        assertTrue(wire.sent().getClosing());
        wire.lose();
        assertFalse(wire.core.done());
        wire.open();
        wire.settle();
        assertTrue(wire.core.confirmed());
    }

    @Test
    void anOkWithoutClosingClosesNothing() {
        Wire wire = new Wire();
        wire.open();
        wire.endUnheard(1, 1);
        wire.linger();
        wire.settle();
        wire.core.close(wire.now);
        wire.lose(Status.Code.OK);
        assertFalse(wire.core.done());
        wire.open();
        wire.settle();
        assertTrue(wire.core.confirmed());
    }

    @Test
    void closingMakesTheNextAttemptAtOnce() {
        Wire wire = new Wire();
        wire.endUnheard(1, 1);
        IntStream.range(0, 8).forEach(i -> wire.fail());
        wire.core.close(wire.now);
        assertEquals(wire.now, wire.core.connectAtNs());
        assertEquals(0.25, wire.fail());
    }

    @Test
    void aClientThatHasSentNothingHasNothingToClose() {
        Wire wire = new Wire();
        wire.core.close(wire.now);
        assertTrue(wire.core.done() && wire.core.confirmed());
    }

    @Test
    void nothingIsTakenAfterClosingAndWhatIsLostIsCounted() {
        Wire wire = new Wire();
        wire.open();
        wire.endUnheard(1, 1);
        wire.core.close(wire.now);
        Report late = wire.begin(2);
        assertEquals(0, wire.dropped());
        wire.end(late);
        assertEquals(1, wire.dropped());
        wire.settle();
        assertEquals(List.of(new UUID(0, 1)), List.copyOf(wire.daemon.ever.keySet()));
        assertEquals(1, wire.daemon.dropped.get("client-1"));
    }

    @Test
    void whatIsLeftAtTheDeadlineIsCountedAsDropped() {
        Wire wire = new Wire(Limits.builder().batchMaxReports(2));
        wire.open();
        wire.endUnheard(1, 3);
        wire.sent();
        wire.core.close(wire.now);
        wire.core.abandon();
        assertTrue(wire.core.done());
        assertFalse(wire.core.confirmed());
        assertEquals(3, wire.dropped());
        assertEquals(List.of(new Event.Closed(false, 3)), wire.events(Event.Closed.class));
        assertEquals(List.of(), wire.events(Event.Dropped.class));
    }

    @Test
    void whatIsRefusedAloneIsTriedOnceMoreWhenTheClientClosesAndThenGivenUp() {
        Wire wire = new Wire();
        wire.open();
        wire.begin(1);
        wire.linger();
        while (wire.core.lookAgainAtNs() <= wire.now) {
            wire.sent();
            wire.lose(Status.Code.INVALID_ARGUMENT);
            wire.open();
        }
        wire.core.close(wire.now);
        assertEquals(List.of(1L), wire.sentIds());
        wire.lose(Status.Code.INVALID_ARGUMENT);
        wire.open();
        wire.settle();
        assertTrue(wire.core.confirmed());
        assertEquals(1, wire.dropped());
    }

    @Test
    void aCountStaysWhereTheDatabaseHasNoMoreRoom() {
        Report report = new Report(APP, new UUID(0, 1), START, 0, Integer.MAX_VALUE - 1);
        report.count(Long.MAX_VALUE);
        assertEquals(Integer.MAX_VALUE, report.requests);
        assertEquals(Integer.MAX_VALUE, new Report(APP, new UUID(0, 1), START, 0, 1L << 40).requests);
    }
}
