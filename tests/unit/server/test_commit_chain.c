/* Goal: of what commit logs hold after a crash exactly that counts which rests upon nothing lost,
 * and whatever was acknowledged is among it (ENGINE H3, rules 20 and 21).
 * How: chains by hand; then thousands of random histories of dispatchers with a log each, replies
 * that obey the acknowledgement rule, checkpoints that are crossed one by one, finished or not, and
 * a crash at a random moment. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "server/recover_commit_chain.h"

#define IMAGE 7u /* number of the image in the tests by hand */

static struct gwi_chain_entry change(uint32_t version, uint8_t flags, uint64_t interval)
{
    return (struct gwi_chain_entry){.interval = interval,
                                    .version = version,
                                    .op = GW_COMMIT_SET,
                                    .flags = flags};
}

static struct gwi_chain_entry nothing(uint32_t version)
{
    return (
        struct gwi_chain_entry){.interval = IMAGE + 1, .version = version, .op = GW_COMMIT_NOTHING};
}

static const struct gwi_chain_image unknown;

static struct gwi_chain_image image_of(uint32_t version)
{
    return (struct gwi_chain_image){.known = true, .there = version != 0, .version = version};
}

/* H3: A adds (version 5), its log is lost; B adds upon it (version 6), its log is not. */
Test(commit_chain, h3_two_dispatchers_one_key_one_log_lost)
{
    struct gwi_chain_entry all[] = {change(4, GW_COMMIT_FIRST, IMAGE + 1), change(6, 0, IMAGE + 1)};
    uint32_t last;
    cr_assert(gwi_chain_decide(all, 2, IMAGE, &unknown, &last));
    cr_expect(all[0].kept);
    cr_expect_not(all[1].kept, "a value counts, and what it was made from does not");
    cr_expect_eq(last, 0);

    struct gwi_chain_entry alone[] = {change(6, 0, IMAGE + 1), change(7, 0, IMAGE + 1)};
    cr_assert(gwi_chain_decide(alone, 2, IMAGE, &unknown, &last));
    cr_expect_not(alone[0].kept);
    cr_expect_not(alone[1].kept);
    cr_expect_eq(last, GWI_CHAIN_NONE);
}

Test(commit_chain, a_start_needs_no_predecessor)
{
    struct gwi_chain_entry e[] = {change(20, 0, IMAGE + 1), change(90, GW_COMMIT_START, IMAGE + 2),
                                  change(91, 0, IMAGE + 2)};
    uint32_t last;
    cr_assert(gwi_chain_decide(e, 3, IMAGE, &unknown, &last));
    cr_expect_not(e[0].kept);
    cr_expect(e[1].kept && e[2].kept);
    cr_expect_eq(last, 2);
}

Test(commit_chain, a_first_behind_a_checkpoint_under_way_asks_the_image)
{
    struct gwi_chain_entry e[] = {change(6, GW_COMMIT_FIRST, IMAGE + 2), change(7, 0, IMAGE + 2)};
    uint32_t last;
    cr_assert_not(gwi_chain_decide(e, 2, IMAGE, &unknown, &last),
                  "its predecessor may be in the image, or lost");
    struct gwi_chain_image image = image_of(5);
    cr_assert(gwi_chain_decide(e, 2, IMAGE, &image, &last));
    cr_expect(e[0].kept && e[1].kept);
    image = image_of(4);
    cr_assert(gwi_chain_decide(e, 2, IMAGE, &image, &last));
    cr_expect_not(e[0].kept, "version 5 was in a log that is lost");
    cr_expect_not(e[1].kept);
    image = image_of(0);
    cr_assert(gwi_chain_decide(e, 2, IMAGE, &image, &last));
    cr_expect_not(e[0].kept);
}

Test(commit_chain, what_changed_nothing_counts_if_what_it_saw_counts)
{
    struct gwi_chain_entry e[] = {nothing(0), nothing(4), change(5, GW_COMMIT_FIRST, IMAGE + 1),
                                  nothing(5), nothing(6), change(7, 0, IMAGE + 1),
                                  nothing(7)};
    uint32_t last;
    cr_assert(gwi_chain_decide(e, 7, IMAGE, &unknown, &last));
    cr_expect(e[0].kept && e[1].kept && e[2].kept && e[3].kept);
    cr_expect_not(e[4].kept, "it saw version 6, which is lost");
    cr_expect_not(e[5].kept);
    cr_expect_not(e[6].kept);
    struct gwi_chain_entry only[] = {nothing(9)};
    cr_assert_not(gwi_chain_decide(only, 1, IMAGE, &unknown, &last));
    struct gwi_chain_image image = image_of(9);
    cr_assert(gwi_chain_decide(only, 1, IMAGE, &image, &last));
    cr_expect(only[0].kept);
    cr_expect_eq(last, GWI_CHAIN_NONE);
    image = image_of(8);
    cr_assert(gwi_chain_decide(only, 1, IMAGE, &image, &last));
    cr_expect_not(only[0].kept);
    struct gwi_chain_entry arrived[] = {change(3, 0, IMAGE + 1), nothing(10),
                                        change(11, GW_COMMIT_START, IMAGE + 1)};
    cr_assert(gwi_chain_decide(arrived, 3, IMAGE, &unknown, &last));
    cr_expect(arrived[1].kept, "it saw what arrived, and that will be here again");
}

Test(commit_chain, versions_go_on_beyond_their_end)
{
    cr_expect_lt(gwi_chain_compare(UINT32_MAX, GW_COMMIT_SET, 0, GW_COMMIT_SET), 0);
    cr_expect_gt(gwi_chain_compare(1, GW_COMMIT_SET, UINT32_MAX - 1, GW_COMMIT_SET), 0);
    cr_expect_lt(gwi_chain_compare(5, GW_COMMIT_SET, 5, GW_COMMIT_NOTHING), 0);
    struct gwi_chain_entry e[] = {change(UINT32_MAX, GW_COMMIT_FIRST, IMAGE + 1),
                                  change(0, 0, IMAGE + 1), change(1, 0, IMAGE + 1)};
    uint32_t last;
    cr_assert(gwi_chain_decide(e, 3, IMAGE, &unknown, &last));
    cr_expect(e[0].kept && e[1].kept && e[2].kept);
    cr_expect_eq(last, 2);
}

/* ---- random histories ---- */

#define KEYS        3u
#define DISPATCHERS 3u
#define ENTRIES     400u
#define NOTHING     UINT32_MAX

enum place { GATHERED, FLYING, DURABLE };

struct entry {
    struct gwi_chain_entry e;
    uint32_t key, dispatcher;
    enum place place;
    bool acked;
};

struct dispatcher {
    uint32_t open, first, tag;
    uint64_t interval;
    bool flying;
    /* One batch whose replies wait: what it showed. */
    bool holds;
    uint32_t position;
    uint32_t shown[KEYS], own_from, own_to; /* own entries: indexes, of this dispatcher */
};

struct world {
    uint64_t random;
    struct entry log[ENTRIES];
    uint32_t n;
    struct dispatcher d[DISPATCHERS];
    uint32_t round;
    uint32_t version[KEYS]; /* 0: not there */
    uint64_t changed[KEYS]; /* interval of the last change */
    uint32_t acked[KEYS];   /* highest version that a reply has shown */
    uint64_t cut;           /* newest interval that has begun */
    uint64_t image;         /* number of the newest finished checkpoint */
    uint32_t base;          /* of versions of created keys */
};

static uint32_t roll(struct world *w, uint32_t n)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (uint32_t)(w->random >> 33) % n;
}

static uint32_t least_open(const struct world *w)
{
    uint32_t least = NOTHING;
    for (uint32_t i = 0; i < DISPATCHERS; i++)
        least = w->d[i].open < least ? w->d[i].open : least;
    return least;
}

static void acknowledge(struct world *w, uint32_t who)
{
    struct dispatcher *d = &w->d[who];
    for (uint32_t k = 0; k < KEYS; k++)
        if (d->shown[k] > w->acked[k])
            w->acked[k] = d->shown[k];
    for (uint32_t i = d->own_from; i < d->own_to; i++)
        if (w->log[i].dispatcher == who)
            w->log[i].acked = true;
    d->holds = false;
}

static void release(struct world *w, uint32_t who)
{
    if (w->d[who].holds && least_open(w) > w->d[who].position)
        acknowledge(w, who);
}

static void note(struct world *w, uint32_t who, uint32_t key, uint8_t op, uint8_t flags)
{
    struct dispatcher *d = &w->d[who];
    w->log[w->n++] = (struct entry){
        .e = {.interval = d->interval, .version = w->version[key], .op = op, .flags = flags},
        .key = key,
        .dispatcher = who};
    if (d->first == NOTHING)
        d->first = d->tag;
}

static void operation(struct world *w, uint32_t who)
{
    struct dispatcher *d = &w->d[who];
    uint32_t key = roll(w, KEYS), what = roll(w, 4);
    if (w->changed[key] > d->interval)
        d->interval = w->changed[key]; /* it meets a record above the cut: it crosses first */
    if (what == 0) {
        note(w, who, key, GW_COMMIT_NOTHING, 0);
    } else if (what < 3) {
        uint8_t flags = 0;
        if (w->version[key] == 0) {
            w->version[key] = w->base += 5;
            flags = GW_COMMIT_START;
        } else {
            w->version[key]++;
            if (w->changed[key] < d->interval)
                flags = GW_COMMIT_FIRST;
        }
        w->changed[key] = d->interval;
        note(w, who, key, GW_COMMIT_SET, flags);
    } /* else it reads */
    d->shown[key] = w->version[key];
}

static void batch(struct world *w, uint32_t who)
{
    struct dispatcher *d = &w->d[who];
    d->tag = w->round;
    if (d->open == NOTHING)
        d->open = d->tag;
    memset(d->shown, 0, sizeof d->shown);
    d->own_from = w->n;
    for (uint32_t n = 1 + roll(w, 4); n > 0; n--)
        operation(w, who);
    d->own_to = w->n;
    d->position = w->round;
    d->holds = true;
    if (d->first == NOTHING && !d->flying) {
        d->open = NOTHING;
        w->round++;
    }
    release(w, who);
}

static void flush(struct world *w, uint32_t who)
{
    struct dispatcher *d = &w->d[who];
    enum place from = d->flying ? FLYING : GATHERED;
    for (uint32_t i = 0; i < w->n; i++)
        if (w->log[i].dispatcher == who && w->log[i].place == from)
            w->log[i].place = from == FLYING ? DURABLE : FLYING;
    w->round++;
    if (d->flying)
        d->open = d->first;
    else
        d->first = NOTHING;
    d->flying = !d->flying;
}

static void checkpoint(struct world *w)
{
    uint64_t slowest = UINT64_MAX;
    for (uint32_t i = 0; i < DISPATCHERS; i++)
        slowest = w->d[i].interval < slowest ? w->d[i].interval : slowest;
    if (roll(w, 2) && slowest == w->cut)
        w->cut++; /* the next one begins, whether the last one was finished or not */
    else if (slowest == w->cut && w->cut > w->image + 1)
        w->image = w->cut - 1;
    else
        w->d[roll(w, DISPATCHERS)].interval = w->cut; /* its batch ends: it enters anew */
}

static void step(struct world *w)
{
    uint32_t who = roll(w, DISPATCHERS), what = roll(w, 10);
    struct dispatcher *d = &w->d[who];
    if (what < 5 && !d->holds)
        batch(w, who);
    else if (what < 8 && (d->flying || d->first != NOTHING))
        flush(w, who);
    else if (what == 8)
        checkpoint(w);
    release(w, who);
}

static int by_version(const void *pa, const void *pb)
{
    const struct entry *a = *(struct entry *const *)pa, *b = *(struct entry *const *)pb;
    return gwi_chain_compare(a->e.version, a->e.op, b->e.version, b->e.op);
}

static void check_key(struct world *w, uint32_t key, uint64_t seed)
{
    struct entry *of[ENTRIES];
    struct gwi_chain_entry chain[ENTRIES];
    uint32_t n = 0, last, in_image = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        struct entry *x = &w->log[i];
        if (x->key != key)
            continue;
        if (x->e.interval <= w->image) {
            if (x->e.op != GW_COMMIT_NOTHING && x->e.version > in_image)
                in_image = x->e.version;
        } else if (x->place == DURABLE) {
            of[n++] = x;
        }
    }
    qsort(of, n, sizeof of[0], by_version);
    for (uint32_t i = 0; i < n; i++)
        chain[i] = of[i]->e;
    if (!gwi_chain_decide(chain, n, w->image, &unknown, &last)) {
        struct gwi_chain_image image = image_of(in_image);
        cr_assert(gwi_chain_decide(chain, n, w->image, &image, &last));
    }
    uint32_t recovered = last == GWI_CHAIN_NONE ? in_image : chain[last].version;
    cr_assert_geq(recovered, w->acked[key], "seed %llu: key %u is %u, a reply has shown %u",
                  (unsigned long long)seed, key, recovered, w->acked[key]);
    for (uint32_t i = 0; i < n; i++) {
        bool counts = of[i]->e.version <= recovered;
        if (of[i]->e.op != GW_COMMIT_NOTHING)
            cr_assert_eq(chain[i].kept, counts, "seed %llu: key %u version %u of %u",
                         (unsigned long long)seed, key, of[i]->e.version, recovered);
        else /* it may be left out: sent again, it is executed anew. But not behind its own */
            cr_assert(counts || !chain[i].kept, "seed %llu: key %u saw %u, there is %u",
                      (unsigned long long)seed, key, of[i]->e.version, recovered);
        if (of[i]->e.op == GW_COMMIT_NOTHING && !chain[i].kept)
            for (uint32_t k = 0; k < n; k++)
                cr_assert_not(of[k] > of[i] && of[k]->dispatcher == of[i]->dispatcher &&
                                  chain[k].kept && of[k]->e.op != GW_COMMIT_NOTHING,
                              "seed %llu: a later change of the session counts, it does not",
                              (unsigned long long)seed);
    }
    /* No version in between is missing, in memory or in what is recovered. */
    uint32_t kept = 0, made = 0;
    for (uint32_t i = 0; i < n; i++)
        kept += chain[i].kept && chain[i].op != GW_COMMIT_NOTHING;
    for (uint32_t i = 0; i < w->n; i++)
        made += w->log[i].key == key && w->log[i].e.op != GW_COMMIT_NOTHING &&
                w->log[i].e.version > in_image && w->log[i].e.version <= recovered;
    cr_assert_eq(kept, made, "seed %llu: key %u", (unsigned long long)seed, key);
    for (uint32_t i = 0; i < w->n; i++) {
        const struct entry *x = &w->log[i];
        cr_assert(x->key != key || !x->acked || x->e.op == GW_COMMIT_NOTHING ||
                      x->e.version <= recovered,
                  "seed %llu: acknowledged and lost", (unsigned long long)seed);
    }
}

Test(commit_chain, random_histories_lose_nothing_acknowledged)
{
    static struct world w;
    uint32_t dropped = 0, acked = 0, asked_for = 0;
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        memset(&w, 0, sizeof w);
        w.random = seed * 0x9e3779b97f4a7c15ull;
        w.round = 1;
        w.cut = 1;
        for (uint32_t i = 0; i < DISPATCHERS; i++)
            w.d[i] = (struct dispatcher){.open = NOTHING, .first = NOTHING, .interval = 1};
        for (uint32_t steps = 10 + roll(&w, 150); steps > 0 && w.n + 8 < ENTRIES; steps--)
            step(&w);
        for (uint32_t i = 0; i < DISPATCHERS; i++)
            if (w.d[i].flying && roll(&w, 2)) /* what was in flight may have come down */
                flush(&w, i);
        for (uint32_t k = 0; k < KEYS; k++) {
            check_key(&w, k, seed);
            acked += w.acked[k] != 0;
            dropped += w.version[k] > w.acked[k];
        }
        asked_for += w.cut > w.image + 2;
    }
    cr_expect_gt(acked, 20000u, "too little was acknowledged for this to say anything");
    cr_expect_gt(dropped, 5000u);
    cr_expect_gt(asked_for, 1000u, "no crash between a cut and its checkpoint");
}
