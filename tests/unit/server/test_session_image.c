/* Goal: an image has every session exactly as it was at the opening, whatever is done to it
 * meanwhile, and reading it gives the same sessions. How: two tables, one image; model: collect of
 * each window at the opening. */
#include "server/session_image.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/rand.h"

#define SESSIONS 300u
#define THREADS  3u

static struct gwi_sessions make(void)
{
    struct gwi_sessions s = {.bucket = NULL};
    cr_assert(gwi_sessions_init(&s));
    return s;
}

static void record(struct gwi_sessions *s, struct gwi_session *x, uint64_t serial, uint32_t value)
{
    static const uint8_t bytes[64] = "an old value of some length that is kept for a replay.....";
    gwi_session_image_take_of(s, x);
    cr_assert_eq(gw_applied_reserve(x->applied, serial), GW_OK);
    if (value % 3 == 0)
        gw_applied_record_value(x->applied, serial, (uint16_t)value, GW_OK, value, bytes,
                                value % 64);
    else
        gw_applied_record(x->applied, serial, (uint16_t)value, GW_OK, value, GW_WIRE_COUNTER,
                          (int64_t)value);
}

struct frozen {
    uint64_t id, confirmed;
    size_t n;
    struct gw_applied entries[200];
};

static void freeze(const struct gwi_session *x, struct frozen *out)
{
    out->id = x->id;
    out->confirmed = x->applied->confirmed;
    out->n = gw_applied_collect(x->applied, x->id, NULL, out->entries, 200);
    cr_assert_leq(out->n, 200);
}

static void fill(struct gwi_sessions *s, struct gw_rand *rand)
{
    for (uint64_t id = 1; id <= SESSIONS; id++) {
        struct gwi_session *x = gwi_sessions_create(s, id, 64);
        cr_assert(x);
        (void)gwi_sessions_grant(s, x, 64);
        uint64_t n = gw_rand_below(rand, 20);
        for (uint64_t serial = 5; serial < 5 + n; serial++)
            record(s, x, serial, (uint32_t)gw_rand_below(rand, 1000));
        gw_applied_confirm(x->applied, 5 + n / 2);
        if (n) /* accepted, not executed: nothing to an image */
            gw_applied_begin(x->applied, 5 + n / 2, 1);
    }
}

static void expect_read(const uint8_t *bytes, size_t n, const struct frozen *model, uint32_t count)
{
    struct gwi_sessions read[THREADS];
    uint64_t sessions = 0;
    for (uint32_t i = 0; i < THREADS; i++)
        read[i] = make();
    cr_assert_eq(gwi_session_image_read(bytes, n, read, THREADS, &sessions), GW_OK);
    cr_expect_eq(sessions, count);
    static struct frozen now;
    for (uint32_t i = 0; i < count; i++) {
        struct gwi_session *x = gwi_sessions_find(&read[model[i].id % THREADS], model[i].id);
        cr_assert(x, "session %llu is not there", (unsigned long long)model[i].id);
        freeze(x, &now);
        cr_expect_eq(now.confirmed, model[i].confirmed);
        cr_assert_eq(now.n, model[i].n, "session %llu has %zu entries of %zu",
                     (unsigned long long)model[i].id, now.n, model[i].n);
        cr_expect_eq(memcmp(now.entries, model[i].entries, now.n * sizeof now.entries[0]), 0);
        cr_expect_eq(x->granted, 64);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        gwi_sessions_fini(&read[i]);
}

Test(session_image, is_as_of_its_opening_whatever_happens_meanwhile)
{
    static struct frozen model[SESSIONS];
    struct gwi_sessions s = make();
    struct gw_rand rand;
    gw_rand_init(&rand, 3);
    fill(&s, &rand);
    for (uint64_t round = 1; round <= 5; round++) {
        uint32_t count = 0;
        for (uint64_t id = 1; id <= SESSIONS; id++) {
            struct gwi_session *x = gwi_sessions_find(&s, id);
            if (x)
                freeze(x, &model[count++]);
        }
        if (round == 3) { /* the engine may call back again: the last call counts */
            gwi_session_image_open(&s, round);
            record(&s, gwi_sessions_find(&s, 7), 40, 9);
            for (uint32_t i = 0; i < count; i++)
                if (model[i].id == 7)
                    freeze(gwi_sessions_find(&s, 7), &model[i]);
        }
        gwi_session_image_open(&s, round);
        for (int step = 0; !gwi_session_image_copy(&s, 100) || step < 50; step++) {
            uint64_t id = 1 + gw_rand_below(&rand, SESSIONS);
            struct gwi_session *x = gwi_sessions_find(&s, id);
            if (!x) {
                x = gwi_sessions_create(&s, id, 64); /* is of the next image */
                (void)gwi_sessions_grant(&s, x, 64);
                continue;
            }
            if (gw_rand_below(&rand, 20) == 0 && id > 20) {
                gwi_sessions_remove(&s, x);
                continue;
            }
            gwi_session_image_take_of(&s, x);
            gw_applied_confirm(x->applied, x->applied->confirmed + 1);
            record(&s, x, x->applied->confirmed + gw_rand_below(&rand, 30),
                   (uint32_t)gw_rand_below(&rand, 1000));
        }
        uint8_t *bytes = NULL;
        size_t n = 0;
        uint32_t sessions = 0;
        cr_assert_eq(gwi_session_image_fetch(&s, &bytes, &n, &sessions), GW_OK);
        cr_expect_eq(sessions, count);
        expect_read(bytes, n, model, count);
        free(bytes);
    }
    gwi_sessions_fini(&s);
}

Test(session_image, sessions_that_go_with_unconfirmed_entries_are_counted)
{
    struct gwi_sessions s = make();
    _Atomic uint64_t forgotten = 0;
    s.forgotten = &forgotten;
    struct gwi_session *a = gwi_sessions_create(&s, 1, 64);
    (void)gwi_sessions_create(&s, 2, 64);
    struct gwi_session *c = gwi_sessions_create(&s, 3, 64);
    record(&s, a, 1, 1);
    record(&s, c, 1, 1);
    gw_applied_confirm(c->applied, 2); /* its client has the answer */
    gwi_sessions_expire(&s, GWI_SESSION_IDLE_NS + 1);
    cr_expect_eq(s.count, 0);
    cr_expect_eq((uint32_t)forgotten, 1);
    gwi_sessions_fini(&s);
}

Test(session_image, bytes_that_are_not_as_written_are_refused)
{
    struct gwi_sessions s = make();
    struct gw_rand rand;
    gw_rand_init(&rand, 4);
    for (uint64_t id = 1; id <= 3; id++) {
        struct gwi_session *x = gwi_sessions_create(&s, id, 64);
        for (uint64_t serial = 1; serial < 6; serial++)
            record(&s, x, serial, (uint32_t)(id * 10 + serial));
    }
    gwi_session_image_open(&s, 1);
    while (!gwi_session_image_copy(&s, 1)) {}
    uint8_t *bytes = NULL;
    size_t n = 0;
    uint32_t sessions = 0;
    cr_assert_eq(gwi_session_image_fetch(&s, &bytes, &n, &sessions), GW_OK);
    uint32_t refused = 0;
    for (uint32_t tries = 0; tries < 3000; tries++) {
        size_t cut = tries < n ? tries : n;
        uint8_t *copy = malloc(cut + 1);
        memcpy(copy, bytes, cut);
        if (cut == n)
            copy[gw_rand_below(&rand, n)] ^= (uint8_t)(1 << gw_rand_below(&rand, 8));
        struct gwi_sessions read = make();
        uint64_t count = 0;
        enum gw_status st = gwi_session_image_read(copy, cut, &read, 1, &count);
        cr_expect(st == GW_OK || st == GW_E_CORRUPT, "%s", gw_status_name(st));
        cr_expect(st == GW_E_CORRUPT || cut == n || count < 3, "a cut part is whole");
        refused += st == GW_E_CORRUPT;
        gwi_sessions_fini(&read);
        free(copy);
    }
    cr_expect_gt(refused, 800);
    free(bytes);
    gwi_sessions_fini(&s);
}
