/* Goal: every operation given to a session ends exactly once, whether it is answered at once, waits
 * for the device or is in somebody's way, and with its own value.
 * How: a store whose data is several times its memory, on a device in memory that answers late and
 * out of order. */
#include "bench/session.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "bench/workload.h"
#include "index/base/clock.h"
#include "tests/support/ram_device.h"

#define KEYS      8000u
#define VALUE     200u
#define DISK      (4 * ((8u << PAGE_BITS) + 65536u)) /* files of 8 pages with their tables */
#define PAGE_BITS 16u
#define BATCH     32u
#define DEPTH     48u

struct fixture {
    struct gw_ram_device *ram;
    struct gw_store *store;
    struct gw_bench_session session;
    uint8_t *ended; /* times that the n-th key's operation ended */
    uint32_t waited, failed;
    uint8_t value[VALUE];
};

/* The first word of a value is its key's number. */
static void end(struct fixture *f, const struct gw_op *op)
{
    uint64_t number = 0;
    if (op->status != GW_OK) {
        f->failed++;
        return;
    }
    if (op->verb == GW_VERB_READ) {
        cr_assert_eq(op->out_bytes, VALUE);
        memcpy(&number, op->out, sizeof number);
        uint64_t key = gw_workload_key(number);
        cr_assert_eq(memcmp(op->key, &key, sizeof key), 0, "another key's value");
        f->ended[number]++;
    }
}

static void done(void *ctx, struct gw_op *op, uint64_t latency_ns, bool waited)
{
    struct fixture *f = ctx;
    cr_assert_gt(latency_ns, 0);
    f->waited += waited;
    end(f, op);
}

static void open_fixture(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    struct gw_ram_device_options ram = {.page_bits = PAGE_BITS, .delay_polls_max = 5, .seed = 3};
    f->ram = gw_ram_device_create(&ram);
    struct gw_store_options store = {.log_bytes = (uint64_t)8 << PAGE_BITS,
                                     .index_bytes = 256 << 10,
                                     .page_bits = PAGE_BITS,
                                     .threads_max = 2,
                                     .hash_seed = 1,
                                     .device = gw_ram_device_face(f->ram)};
    cr_assert_eq(gw_store_open(&store, &f->store), GW_OK);
    struct gw_bench_session_options session = {.store = f->store,
                                               .depth = DEPTH,
                                               .room_bytes = 4 * VALUE, /* far less than a batch */
                                               .patience_ms = 5000,
                                               .done = done,
                                               .ctx = f};
    cr_assert_eq(gw_bench_session_open(&f->session, &session), GW_OK);
    f->ended = calloc(KEYS, 1);
}

static void close_fixture(struct fixture *f)
{
    gw_bench_session_close(&f->session);
    gw_store_close(f->store);
    gw_ram_device_destroy(f->ram);
    free(f->ended);
}

/* One operation of `verb` on each key. */
static void sweep(struct fixture *f, enum gw_verb verb)
{
    struct gw_op op[BATCH];
    uint64_t key[BATCH];
    static uint8_t values[KEYS][VALUE]; /* what is parked still points at them */
    for (uint64_t at = 0; at < KEYS;) {
        gw_bench_session_poll(&f->session);
        uint32_t n = 0, room = gw_bench_session_free(&f->session);
        for (; n < room && n < BATCH && at < KEYS; n++, at++) {
            key[n] = gw_workload_key(at);
            memcpy(values[at], &at, sizeof at);
            op[n] = (struct gw_op){.key = (const uint8_t *)&key[n],
                                   .key_bytes = 8,
                                   .verb = (uint8_t)verb,
                                   .value = values[at],
                                   .value_bytes = VALUE};
            gw_store_hash(f->store, &op[n]);
        }
        if (n == 0)
            gw_bench_session_wait(&f->session);
        uint64_t start = gw_clock_now_ns(gw_clock_system());
        for (uint32_t i = 0; i < n;) {
            uint32_t executed = gw_bench_session_execute(&f->session, op + i, n - i);
            cr_assert_gt(executed, 0);
            for (uint32_t last = i + executed; i < last; i++)
                if (!gw_bench_session_keep(&f->session, &op[i], start))
                    end(f, &op[i]);
        }
    }
    cr_assert(gw_bench_session_drain(&f->session, 10000));
    cr_assert_eq(f->session.parked, 0);
}

Test(session, every_operation_ends_once)
{
    struct fixture f;
    open_fixture(&f);
    sweep(&f, GW_VERB_UPSERT);
    cr_assert_eq(f.failed, 0);
    sweep(&f, GW_VERB_READ);
    cr_expect_eq(f.failed, 0);
    cr_expect_gt(f.waited, KEYS / 2, "data is several times the memory");
    for (uint32_t i = 0; i < KEYS; i++)
        cr_assert_eq(f.ended[i], 1, "key %u: %u times", i, f.ended[i]);
    close_fixture(&f);
}

Test(session, a_store_that_stays_full_is_an_answer_in_the_end)
{
    struct fixture f;
    open_fixture(&f);
    gw_ram_device_limit(f.ram, DISK); /* four segments, of which two are kept in reserve */
    f.session.options.patience_ms = 5;
    sweep(&f, GW_VERB_UPSERT);
    cr_expect_gt(f.failed, 0, "more than the memory holds, and all of it was taken");
    cr_expect_lt(f.failed, KEYS, "what fits must be taken");
    cr_expect_gt(f.session.retried, 0);
    close_fixture(&f);
}

Test(session, depths_out_of_range_are_refused)
{
    struct gw_bench_session s;
    struct gw_bench_session_options none = {.depth = 0};
    cr_expect_eq(gw_bench_session_open(&s, &none), GW_E_INVALID);
    none.depth = GW_BENCH_DEPTH_MAX + 1;
    cr_expect_eq(gw_bench_session_open(&s, &none), GW_E_INVALID);
}
