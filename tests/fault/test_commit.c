/* Goal: whichever call of a commit log to the system fails, and however a process that writes one
 * dies: what it said was durable is read back, and nothing that was not appended; a failure of a
 * write or a sync is for good, a lack of room is not; nothing leaks.
 * How: one scenario over several files with a truncation in it; for each kind of call, each error
 * and every n the n-th call fails, once or from then on for good. And a child that tells what is
 * durable through a pipe until it is killed. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "index/base/clock.h"
#include "tests/support/commit_log.h"
#include "tests/support/tier.h"
#include "tiering/ssd_calls.h"

#define FILE_BYTES (6u * 4096u) /* four blocks of one unit */
#define ENTRIES    26u
#define TIMES_MAX  400u
#define SHORT      0 /* as an error: half of it was done */

enum kind { MAKE_DIR, OPEN, CLOSE, ALLOCATE, SYNC, RENAME, UNLINK, PWRITE, MEMORY };

static struct {
    enum kind kind;
    int error;
    uint32_t n;
    bool for_good;
    _Atomic uint32_t calls;
} fault;

static bool hit(enum kind kind)
{
    if (fault.kind != kind || fault.n == 0)
        return false;
    uint32_t call = atomic_fetch_add(&fault.calls, 1) + 1;
    return call == fault.n || (fault.for_good && call > fault.n);
}

#define REAL gw_ssd_calls_system()

static int faulty_make_dir(void *ctx, const char *path)
{
    return hit(MAKE_DIR) ? -fault.error : REAL->make_dir(ctx, path);
}
static int faulty_open(void *ctx, int dir_fd, const char *name, int flags)
{
    return hit(OPEN) ? -fault.error : REAL->open(ctx, dir_fd, name, flags);
}
static int faulty_close(void *ctx, int fd)
{
    int rc = REAL->close(ctx, fd);
    return hit(CLOSE) ? -fault.error : rc;
}
static int faulty_allocate(void *ctx, int fd, uint64_t bytes)
{
    return hit(ALLOCATE) ? -fault.error : REAL->allocate(ctx, fd, bytes);
}
static int faulty_sync(void *ctx, int fd)
{
    return hit(SYNC) ? -fault.error : REAL->sync(ctx, fd);
}
static int faulty_rename(void *ctx, int dir_fd, const char *from, const char *to)
{
    return hit(RENAME) ? -fault.error : REAL->rename(ctx, dir_fd, from, to);
}
static int faulty_unlink(void *ctx, int dir_fd, const char *name)
{
    return hit(UNLINK) ? -fault.error : REAL->unlink(ctx, dir_fd, name);
}
static ssize_t faulty_pwrite(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset)
{
    if (!hit(PWRITE))
        return REAL->pwrite(ctx, fd, from, bytes, offset);
    if (fault.error != SHORT)
        return -fault.error;
    if (bytes > 4096) /* whole units came, or half of one */
        return REAL->pwrite(ctx, fd, from, bytes / 8192 * 4096, offset);
    return 2048;
}
static void *faulty_memory(void *ctx, size_t bytes)
{
    return hit(MEMORY) ? NULL : REAL->memory(ctx, bytes);
}

static struct gw_ssd_calls faulty_calls(void)
{
    struct gw_ssd_calls calls = *REAL;
    calls.make_dir = faulty_make_dir;
    calls.open = faulty_open;
    calls.close = faulty_close;
    calls.allocate = faulty_allocate;
    calls.sync = faulty_sync;
    calls.rename = faulty_rename;
    calls.unlink = faulty_unlink;
    calls.pwrite = faulty_pwrite;
    calls.memory = faulty_memory;
    return calls;
}

struct run {
    uint64_t appended, durable;
    bool broken, full, truncated;
};

static uint64_t interval_of(uint64_t n)
{
    return n <= ENTRIES / 2 ? 1 : 2;
}

/* Appends and flushes; what was not done for lack of room is tried again for a while. */
static void scenario(struct gw_commit *log, struct run *run, const char *name)
{
    for (uint64_t n = 1; n <= ENTRIES && !run->broken; n++) {
        enum gw_status status = commit_append(log, n, n % 9 == 0 ? 6000 : 0);
        if (status == GW_E_NOMEM)
            break; /* what was not logged must not be followed by what is */
        cr_assert_eq(status, GW_OK, "%s", name);
        run->appended = n;
        uint64_t interval = interval_of(n);
        bool stuck = fault.for_good && fault.kind != PWRITE; /* it may wait for room for ever */
        for (uint32_t tries = 0; tries < 60; tries++) {
            status = gw_commit_flush(log, interval, interval + 100);
            for (uint32_t waits = 0;
                 waits < (stuck ? 200 : 10000) && gw_commit_poll(log) == GW_PENDING; waits++)
                usleep(waits < 50 ? 20 : 1000);
            if (status == GW_PENDING)
                status = gw_commit_poll(log);
            if (status != GW_E_FULL && status != GW_WOULD_BLOCK)
                break;
            run->full = true;
            if (fault.for_good)
                return;
            usleep(5000);
        }
        if (status == GW_PENDING) { /* in flight, and no room for it */
            cr_expect(fault.for_good, "%s: waits for ever", name);
            cr_expect_eq(gw_commit_flush(log, interval, interval + 100), GW_E_FULL, "%s", name);
            run->full = true;
            return;
        }
        cr_assert(status == GW_OK || status == GW_E_IO, "%s: %s", name, gw_status_name(status));
        if (status == GW_OK)
            run->durable = n;
        run->broken = status == GW_E_IO;
        if (n == ENTRIES / 2 + 7) {
            gw_commit_truncate(log, 1);
            run->truncated = true;
        }
    }
    for (uint32_t i = 0; i < 3 && run->broken; i++) {
        cr_expect_eq(gw_commit_poll(log), GW_E_IO, "%s: for good", name);
        cr_expect_eq(gw_commit_flush(log, 2, 102), GW_E_IO, "%s: for good", name);
    }
}

/* False: the fault was never reached. */
static bool once(enum kind kind, int error, uint32_t n, bool for_good)
{
    char name[80], message[GW_COMMIT_TEXT_BYTES] = "";
    snprintf(name, sizeof name, "kind %d, error %d, call %u%s", kind, error, n,
             for_good ? " on" : "");
    char *dir = tier_dir_make(), *inner = malloc(4200);
    snprintf(inner, 4200, "%s/commit", dir);
    uint32_t files = tier_open_files();
    struct gw_ssd_calls calls = faulty_calls();
    struct gw_commit_options options = commit_options(inner, 0, 3, FILE_BYTES);
    options.calls = &calls;
    fault.kind = kind;
    fault.error = error;
    fault.n = n;
    fault.for_good = for_good;
    atomic_store(&fault.calls, 0);

    struct gw_commit *log = NULL;
    struct run run = {0};
    enum gw_status status = gw_commit_open(&options, &log, message);
    if (status == GW_OK) {
        scenario(log, &run, name);
        gw_commit_close(log);
    } else {
        cr_expect(status == GW_E_IO || status == GW_E_FULL || status == GW_E_NOMEM, "%s: %s", name,
                  gw_status_name(status));
        cr_expect(strstr(message, inner), "%s: no name in: %s", name, message);
    }
    bool reached = atomic_load(&fault.calls) >= n;
    if (kind == ALLOCATE && error == ENOSPC && status == GW_OK)
        cr_expect(!run.broken, "%s: no room for a file breaks nothing", name);
    if (!reached)
        cr_expect(run.durable == ENTRIES && !run.broken && !run.full, "%s", name);
    fault.n = 0;
    cr_expect_eq(tier_open_files(), files, "%s: descriptors", name);

    struct commit_seen seen;
    uint64_t wanted = run.truncated ? 1 : 0;
    commit_see(inner, wanted, false, &seen);
    cr_assert_eq(seen.status, GW_OK, "%s: %s", name, seen.error);
    cr_expect(!seen.wrong, "%s", name);
    cr_expect(seen.count == 0 || seen.first == (wanted ? ENTRIES / 2 + 1 : 1), "%s: from %lu", name,
              seen.first);
    cr_expect_geq(seen.last, run.durable, "%s", name);
    cr_expect_leq(seen.last, run.appended, "%s", name);
    if (access(inner, F_OK) == 0)
        tier_dir_remove(inner);
    else
        free(inner);
    tier_dir_remove(dir);
    return reached;
}

struct fault_of {
    enum kind kind;
    int error;
};

ParameterizedTestParameters(commit_fault, whatever_fails)
{
    static struct fault_of faults[] = {
        {MAKE_DIR, EROFS},  {OPEN, EMFILE},   {OPEN, EIO},     {CLOSE, EIO},
        {ALLOCATE, ENOSPC}, {ALLOCATE, EIO},  {SYNC, EIO},     {SYNC, ENOSPC},
        {RENAME, EIO},      {RENAME, ENOSPC}, {UNLINK, EIO},   {PWRITE, EIO},
        {PWRITE, ENOSPC},   {PWRITE, SHORT},  {PWRITE, EINTR}, {MEMORY, ENOMEM},
    };
    return cr_make_param_array(struct fault_of, faults, sizeof faults / sizeof faults[0]);
}

ParameterizedTest(const struct fault_of *f, commit_fault, whatever_fails)
{
    uint32_t n = 1;
    while (n < TIMES_MAX && once(f->kind, f->error, n, false))
        n++;
    cr_expect_lt(n, TIMES_MAX);
    cr_expect_gt(n, 1, "the scenario never makes this call");
    if (f->error == EINTR)
        return; /* for good: a signal that never ends */
    for (uint32_t from = 1; from < n; from += 1 + n / 6)
        (void)once(f->kind, f->error, from, true);
}

/* ---- killed ---- */

static void write_until_killed(const char *dir, uint32_t round, int to)
{
    char error[GW_COMMIT_TEXT_BYTES];
    struct gw_commit *log;
    struct gw_commit_options options = commit_options(dir, 0, round, FILE_BYTES);
    uint64_t seed = round * 77 + 1;
    if (gw_commit_open(&options, &log, error) != GW_OK)
        _exit(1);
    for (uint64_t n = 1;;) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        for (uint32_t i = 0; i <= (seed >> 60); i++, n++)
            if (commit_append(log, n, (seed >> 50) % 16 == 0 ? 9000 : 0) != GW_OK)
                _exit(2);
        if (commit_flush_whole(log, 1, 101) != GW_OK)
            _exit(3);
        uint64_t durable = n - 1;
        if (write(to, &durable, sizeof durable) != (ssize_t)sizeof durable)
            _exit(4);
    }
}

Test(commit_fault, killed_at_any_moment, .timeout = 60)
{
    for (uint32_t round = 1; round <= 30; round++) {
        char *dir = tier_dir_make();
        int ends[2];
        uint64_t durable = 0, said;
        cr_assert_eq(pipe(ends), 0);
        pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
            close(ends[0]);
            write_until_killed(dir, round, ends[1]);
        }
        close(ends[1]);
        usleep(3000 + round * 7919 % 60000);
        cr_assert_eq(kill(child, SIGKILL), 0);
        while (read(ends[0], &said, sizeof said) == (ssize_t)sizeof said)
            durable = said;
        close(ends[0]);
        int status = 0;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_expect(WIFSIGNALED(status), "round %u: exit code %d", round, WEXITSTATUS(status));
        struct commit_seen seen;
        commit_see(dir, 0, false, &seen);
        cr_assert_eq(seen.status, GW_OK, "round %u: %s", round, seen.error);
        cr_expect(!seen.wrong, "round %u", round);
        cr_expect_geq(seen.last, durable, "round %u", round);
        cr_expect_eq(seen.count, seen.last, "round %u", round);
        tier_dir_remove(dir);
    }
}
