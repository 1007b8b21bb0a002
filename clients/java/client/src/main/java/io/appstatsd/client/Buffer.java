package io.appstatsd.client;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Which reports wait, and what may never be lost? The pending reports of a client, one for each session, and their bounds.
 *
 * <p>A report that waits is the session's own state, so it is always the newest. Reports wait in pools:
 *
 * <ul>
 *   <li>{@code kept}: reports of tracked sessions, those that the daemon may believe to be in use, or soon will. Never
 *       dropped.
 *   <li>{@code ordinary}: ended sessions that the daemon has never heard of. Dropped, and counted, when there are too many.
 *   <li>{@code alone}: tracked ones that were in a batch that the daemon refused. Each goes into a batch of its own.
 *   <li>{@code held}: tracked ones that were refused alone. Tried again later.
 * </ul>
 *
 * <p>A report is in one pool at most; {@code kept}, {@code alone} and {@code held} hold tracked sessions only, of which there
 * are at most {@code maxLiveSessions}; {@code ordinary} holds at most {@code maxPendingReports}. A session stops being tracked
 * when its end is acknowledged, or when it ends without ever having been put into a batch as live.
 *
 * <p>Methods that may make a batch due sooner return whether a waiting shell has to look again.
 */
final class Buffer {
    /** At most how much a report adds to a batch, its app aside. */
    static final int REPORT_BYTES = 42;

    private final Limits limits;
    private final long lingerNs;
    private final Set<Report> tracked = new LinkedHashSet<>();
    private final Set<Report> kept = new LinkedHashSet<>();
    private final Set<Report> ordinary = new LinkedHashSet<>();
    private final Set<Report> alone = new LinkedHashSet<>();
    private final Map<Report, Long> held = new LinkedHashMap<>();
    private long lingerEndsNs;
    private int live;
    private long dropped;
    private boolean closed;

    Buffer(Limits limits) {
        this.limits = limits;
        lingerNs = limits.linger().toNanos();
    }

    /** How many tracked sessions have no end. */
    int live() {
        return live;
    }

    /** Reports lost so far. */
    long dropped() {
        return dropped;
    }

    /** Whether nothing is taken any more, and all that waits is due. */
    boolean closed() {
        return closed;
    }

    /** How many reports wait, those that are held back aside. */
    int pending() {
        return kept.size() + ordinary.size() + alone.size();
    }

    /** How many reports wait, all of them. */
    int waiting() {
        return pending() + held.size();
    }

    /** Tracks a new session and makes its live report pending, if there is room. */
    boolean begin(Report report, long nowNs) {
        if (closed) {
            return false;
        }
        if (tracked.size() >= limits.maxLiveSessions()) {
            dropped++;
            return false;
        }
        report.tracked = true;
        tracked.add(report);
        live++;
        return put(kept, report, nowNs);
    }

    /** A live session has another count. */
    boolean changed(Report report, long nowNs) {
        return report.tracked && !report.rejected && keep(report, nowNs);
    }

    /** A session has its end. */
    boolean ended(Report report, long nowNs) {
        if (report.tracked) {
            live--;
            if (report.saidLive) {
                return keep(report, nowNs);
            }
            forget(report);
            kept.remove(report);
        }
        if (closed || ordinary.size() >= limits.maxPendingReports()) {
            dropped++;
            return false;
        }
        return put(ordinary, report, nowNs);
    }

    /** Makes every tracked live session pending, due at once. */
    void reportLiveAgain(long nowNs) {
        for (Report report : tracked) {
            if (report.endedNs == 0 && !report.rejected) {
                keep(report, nowNs);
            }
        }
        lingerEndsNs = nowNs;
    }

    /** Ends every tracked live session. Takes nothing afterwards; what is held back is tried once more. */
    void close(long nowNs) {
        for (Report report : List.copyOf(tracked)) {
            if (report.endedNs == 0) {
                report.end(nowNs);
                ended(report, nowNs);
            }
        }
        closed = true;
        release(Long.MAX_VALUE, nowNs);
    }

    /** Takes nothing any more, and counts what is left as dropped. */
    void abandon(long left) {
        closed = true;
        dropped += left;
    }

    /** Whether a batch is to be cut. */
    boolean isDue(long nowNs) {
        release(nowNs, nowNs);
        int pending = pending();
        if (closed || pending >= limits.batchMaxReports()) {
            return pending > 0;
        }
        return pending > 0 && nowNs >= lingerEndsNs;
    }

    /** When {@link #isDue} will change its answer if nothing else happens; {@link Core#NEVER}: not at all. */
    long dueAtNs() {
        long atNs = pending() > 0 ? lingerEndsNs : Core.NEVER;
        for (long heldUntilNs : held.values()) {
            atNs = Math.min(atNs, heldUntilNs);
        }
        return atNs;
    }

    /** The reports of the next batch, which are then not pending any more. There has to be one. */
    List<Report> take() {
        List<Report> taken = new ArrayList<>();
        if (!alone.isEmpty()) {
            Iterator<Report> first = alone.iterator();
            taken.add(first.next());
            first.remove();
        } else {
            Set<App> apps = new HashSet<>();
            int room = takeFrom(kept, taken, apps, limits.batchMaxBytes());
            if (room >= 0) {
                takeFrom(ordinary, taken, apps, room);
            }
        }
        for (Report report : taken) {
            report.saidLive |= report.endedNs == 0;
        }
        return taken;
    }

    /** The daemon has acknowledged a batch of these reports; {@code ends} are those that had their end in it. */
    void accepted(List<Report> reports, Collection<Report> ends) {
        for (Report report : ends) {
            if (report.tracked) {
                forget(report);
            }
        }
        if (reports.size() == 1) {
            reports.get(0).alone = false;
        }
    }

    /**
     * The daemon has refused a batch of these reports: those of tracked sessions are pending again, each alone.
     *
     * @return how many reports are lost
     */
    int refused(List<Report> reports, long nowNs) {
        int lost = 0;
        for (Report report : reports) {
            kept.remove(report);
            if (!report.tracked) {
                lost++;
            } else if (reports.size() > 1) {
                report.alone = true;
                put(alone, report, nowNs);
            } else {
                alone.remove(report);
                if (closed) {
                    forget(report);
                    lost++;
                } else {
                    report.alone = true;
                    held.put(report, nowNs + limits.refusedRetry().toNanos());
                }
            }
        }
        dropped += lost;
        return lost;
    }

    /** Moves what fits. Returns the bytes that are left; negative: the batch is full. */
    private int takeFrom(Set<Report> pool, List<Report> taken, Set<App> apps, int room) {
        for (Iterator<Report> reports = pool.iterator(); reports.hasNext(); ) {
            Report report = reports.next();
            room -= REPORT_BYTES;
            if (apps.add(report.app)) {
                room -= report.app.wireBytes();
            }
            if (!taken.isEmpty() && (room < 0 || taken.size() == limits.batchMaxReports())) {
                return -1;
            }
            taken.add(report);
            reports.remove();
        }
        return room;
    }

    private void forget(Report report) {
        report.tracked = false;
        tracked.remove(report);
    }

    private boolean keep(Report report, long nowNs) {
        return !held.containsKey(report) && put(report.alone ? alone : kept, report, nowNs);
    }

    private boolean put(Set<Report> pool, Report report, long nowNs) {
        int before = pending();
        boolean isNew = pool.add(report);
        if (before == 0) {
            lingerEndsNs = nowNs + lingerNs;
            return true;
        }
        return isNew && before + 1 == limits.batchMaxReports();
    }

    /** Takes back what was held back until then. */
    private void release(long untilNs, long nowNs) {
        for (Iterator<Map.Entry<Report, Long>> each = held.entrySet().iterator(); each.hasNext(); ) {
            Map.Entry<Report, Long> one = each.next();
            if (one.getValue() <= untilNs) {
                Report report = one.getKey();
                each.remove();
                put(alone, report, nowNs);
            }
        }
    }
}
