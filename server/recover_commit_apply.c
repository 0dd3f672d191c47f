/* recover_commit_apply.c - a part's items to what counts: per key a chain (recover_commit_chain.h),
 * of it the last change to the store, and every entry that counts to its session.
 *
 * Items are ordered by hash with a counting sort into about as many buckets as there are items, and
 * each bucket by comparisons: keys come together, versions in order. Keys whose image has to be
 * asked first wait in a list, so that their device reads go on at the same time. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/base/assert.h"
#include "server/recover_commit_chain.h"
#include "server/recover_commit_internal.h"

#define OPS        128u
#define SMALL      12u                            /* sorted by insertion */
#define PAUSE_NS   50000                          /* while all that is left waits for the device */
#define PAUSES_MAX (60u * 1000000000u / PAUSE_NS) /* without any progress */

struct run { /* a key's items */
    uint32_t first, n;
};

struct applier {
    struct gwi_redo_worker *w;
    struct gw_thread *thread;
    struct gwi_redo_item *items, *spare;
    size_t n;
    uint32_t *start; /* of buckets */
    struct gwi_chain_entry *chain;
    size_t chain_max;
    struct run *asks;
    size_t asks_n, asks_max;
    struct gw_op ops[OPS]; /* gathered for the store */
    uint32_t ops_n;
    uint8_t *room;
    size_t room_bytes;
};

/* ---- order ---- */

static int compare_keys(const struct gwi_redo *redo, const struct gwi_redo_item *a,
                        const struct gwi_redo_item *b)
{
    struct gw_commit_entry x, y;
    bool good = gwi_redo_entry(redo, a, &x, NULL) && gwi_redo_entry(redo, b, &y, NULL);
    GW_ASSERT(good);
    if (x.key_bytes != y.key_bytes)
        return x.key_bytes < y.key_bytes ? -1 : 1;
    return memcmp(x.key, y.key, x.key_bytes);
}

static int compare(const void *pa, const void *pb, void *redo)
{
    const struct gwi_redo_item *a = pa, *b = pb;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    int keys = compare_keys(redo, a, b);
    return keys ? keys : gwi_chain_compare(a->version, a->op, b->version, b->op);
}

static void sort_bucket(struct gwi_redo *redo, struct gwi_redo_item *items, uint32_t n)
{
    if (n > SMALL) {
        qsort_r(items, n, sizeof *items, compare, redo);
        return;
    }
    for (uint32_t i = 1; i < n; i++) {
        struct gwi_redo_item item = items[i];
        uint32_t k = i;
        for (; k > 0 && compare(&items[k - 1], &item, redo) > 0; k--)
            items[k] = items[k - 1];
        items[k] = item;
    }
}

/* Brings the part's items of all readers together, in order. */
static bool gather(struct applier *a, uint32_t part)
{
    struct gwi_redo *redo = a->w->redo;
    a->n = 0;
    for (uint32_t i = 0; i < redo->workers; i++)
        a->n += redo->worker[i].part[part].n;
    if (a->n == 0)
        return true;
    if (a->n > UINT32_MAX / 2)
        return false;
    uint32_t bits = 1;
    while (bits < 24 && (UINT64_C(1) << bits) < a->n)
        bits++;
    uint32_t buckets = UINT32_C(1) << bits;
    a->items = malloc(a->n * sizeof *a->items);
    a->start = calloc(buckets + 1, sizeof *a->start);
    if (!a->items || !a->start)
        return false;
    for (uint32_t i = 0; i < redo->workers; i++) {
        const struct gwi_redo_part *p = &redo->worker[i].part[part];
        for (size_t k = 0; k < p->n; k++)
            a->start[(p->items[k].hash >> (64 - bits)) + 1]++;
    }
    for (uint32_t b = 0; b < buckets; b++)
        a->start[b + 1] += a->start[b];
    for (uint32_t i = 0; i < redo->workers; i++) {
        struct gwi_redo_part *p = &redo->worker[i].part[part];
        for (size_t k = 0; k < p->n; k++)
            a->items[a->start[p->items[k].hash >> (64 - bits)]++] = p->items[k];
        free(p->items);
        *p = (struct gwi_redo_part){.items = NULL};
    }
    /* Each start has become its bucket's end. */
    uint32_t begin = 0;
    for (uint32_t b = 0; b < buckets; b++) {
        sort_bucket(redo, a->items + begin, a->start[b] - begin);
        begin = a->start[b];
    }
    return true;
}

/* ---- the store ---- */

/* Executes ops[0..n) until each is done: whatever waits for the device or for room is tried again.
 * A failure is in its status. False: nothing has moved for too long. */
static bool execute_all(struct applier *a, struct gw_op *ops, uint32_t n)
{
    uint32_t left = n, pauses = 0;
    uint64_t hashes[64];
    while (left > 0) {
        uint32_t kept = 0, at = 0;
        gw_store_enter(a->thread);
        while (at < left) {
            size_t used;
            uint32_t ran =
                gw_store_execute(a->thread, ops + at, left - at, a->room, a->room_bytes, &used);
            for (uint32_t i = at; i < at + ran; i++)
                if (ops[i].status == GW_RETRY || ops[i].status == GW_PENDING) {
                    struct gw_op op = ops[i];
                    ops[i] = ops[kept];
                    ops[kept++] = op;
                }
            at += ran;
            GW_ASSERT(ran > 0); /* the room takes any value */
        }
        gw_store_exit(a->thread);
        (void)gw_store_poll(a->thread);
        uint32_t ready = 0, more;
        while ((more = gw_store_ready(a->thread, hashes, 64)) > 0)
            ready += more;
        if (kept == left && ready == 0) {
            if (++pauses > PAUSES_MAX)
                return false;
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        } else {
            pauses = 0;
        }
        left = kept;
    }
    return true;
}

static bool restore_all(struct applier *a)
{
    uint32_t n = a->ops_n;
    a->ops_n = 0;
    if (!execute_all(a, a->ops, n)) {
        (void)gwi_redo_fail(a->w, GW_E_TIMEOUT, "the store takes nothing more, for a minute");
        return false;
    }
    for (uint32_t i = 0; i < n; i++)
        if (a->ops[i].status != GW_OK) {
            (void)gwi_redo_fail(a->w, (enum gw_status)a->ops[i].status,
                                a->ops[i].status == GW_E_FULL
                                    ? "there is no room for what the commit logs hold; give more "
                                      "--disk or --memory"
                                    : "what the commit logs hold cannot be put into the store");
            return false;
        }
    return true;
}

static bool restore(struct applier *a, const struct gw_commit_entry *e)
{
    if (a->ops_n == OPS && !restore_all(a))
        return false;
    struct gw_op *op = &a->ops[a->ops_n++];
    *op = (struct gw_op){.key = e->key,
                         .key_bytes = e->key_bytes,
                         .value = e->value,
                         .value_bytes = e->value_bytes,
                         .number = e->number,
                         .delta = e->number,
                         .expected_version = e->version,
                         .expiry_ms = e->expiry_ms,
                         .verb = GW_VERB_RESTORE};
    if (e->op == GW_COMMIT_TOMBSTONE)
        op->flags |= GW_OP_TOMBSTONE;
    if (e->op == GW_COMMIT_COUNTER)
        op->flags |= GW_OP_COUNTER;
    if (e->flags & GW_COMMIT_EXPIRES)
        op->flags |= GW_OP_HAS_EXPIRY;
    gw_store_hash(a->w->redo->server->store, op);
    return true;
}

/* ---- keys ---- */

static bool keep(struct applier *a, const struct gwi_redo_group *group,
                 const struct gw_commit_entry *e, uint16_t slot)
{
    struct gwi_redo_worker *w = a->w;
    w->applied++;
    if (!group->session || e->serial < group->session->applied->confirmed)
        return true;
    if (!gwi_redo_grow((void **)&w->kept, w->kept_n, &w->kept_max, sizeof *w->kept))
        return false;
    int64_t number = e->reply == GW_WIRE_COUNTER  ? e->number
                     : e->reply == GW_WIRE_LENGTH ? (int64_t)e->value_bytes
                                                  : 0;
    w->kept[w->kept_n++] = (struct gwi_redo_kept){.session = group->session,
                                                  .applied = {.session = group->group.session,
                                                              .serial = e->serial,
                                                              .number = number,
                                                              .version = e->version,
                                                              .slot = slot,
                                                              .status = e->status,
                                                              .flags = e->reply}};
    return true;
}

/* One key. False: failed, said. */
static bool apply_run(struct applier *a, const struct run *run, const struct gwi_chain_image *image)
{
    struct gwi_redo *redo = a->w->redo;
    const struct gwi_redo_item *items = a->items + run->first;
    while (a->chain_max < run->n)
        if (!gwi_redo_grow((void **)&a->chain, a->chain_max, &a->chain_max, sizeof *a->chain))
            goto nomem;
    for (uint32_t i = 0; i < run->n; i++) {
        struct gw_commit_entry e;
        const struct gwi_redo_group *group;
        (void)gwi_redo_entry(redo, &items[i], &e, &group); /* it has been read before */
        a->chain[i] = (struct gwi_chain_entry){.interval = group->interval,
                                               .version = e.version,
                                               .op = e.op,
                                               .flags = e.flags};
    }
    uint32_t last;
    if (!gwi_chain_decide(a->chain, run->n, redo->number, image, &last)) {
        if (!gwi_redo_grow((void **)&a->asks, a->asks_n, &a->asks_max, sizeof *a->asks))
            goto nomem;
        a->asks[a->asks_n++] = *run;
        return true;
    }
    for (uint32_t i = 0; i < run->n; i++) {
        struct gw_commit_entry e;
        const struct gwi_redo_group *group;
        (void)gwi_redo_entry(redo, &items[i], &e, &group);
        if (!a->chain[i].kept) {
            a->w->dropped++;
            continue;
        }
        struct gw_op op = {.key = e.key, .key_bytes = e.key_bytes};
        if (!group->session || e.serial < group->session->applied->confirmed)
            op.slot = 0; /* nobody asks */
        else
            gw_store_hash(redo->server->store, &op);
        if (!keep(a, group, &e, op.slot))
            goto nomem;
        if (i == last && !restore(a, &e))
            return false;
    }
    return true;
nomem:
    (void)gwi_redo_fail(a->w, GW_E_NOMEM, "no memory for what the commit logs hold");
    return false;
}

static bool apply_keys(struct applier *a)
{
    const struct gwi_chain_image unknown = {.known = false};
    struct gwi_redo *redo = a->w->redo;
    for (uint32_t i = 0; i < a->n;) {
        struct run run = {i, 1};
        while (i + run.n < a->n && a->items[i + run.n].hash == a->items[i].hash &&
               compare_keys(redo, &a->items[i], &a->items[i + run.n]) == 0)
            run.n++;
        if (!apply_run(a, &run, &unknown))
            return false;
        i += run.n;
    }
    return restore_all(a);
}

/* The keys whose image had to be asked: read, then applied. */
static bool apply_asked(struct applier *a)
{
    struct gwi_redo *redo = a->w->redo;
    size_t asks = a->asks_n;
    for (size_t at = 0; at < asks;) {
        struct gw_op fetches[OPS];
        uint32_t n = 0;
        for (; n < OPS && at + n < asks; n++) {
            struct gw_commit_entry e;
            (void)gwi_redo_entry(redo, &a->items[a->asks[at + n].first], &e, NULL);
            /* delta: which one it is, for those that wait move about. */
            fetches[n] = (struct gw_op){.key = e.key,
                                        .key_bytes = e.key_bytes,
                                        .verb = GW_VERB_FETCH,
                                        .delta = (int64_t)(at + n)};
            gw_store_hash(redo->server->store, &fetches[n]);
        }
        if (!execute_all(a, fetches, n)) {
            (void)gwi_redo_fail(a->w, GW_E_TIMEOUT, "the device answers nothing, for a minute");
            return false;
        }
        for (uint32_t i = 0; i < n; i++) {
            struct gw_op *op = &fetches[i];
            if (op->status != GW_OK && op->status != GW_TOMBSTONE && op->status != GW_NOT_FOUND) {
                (void)gwi_redo_fail(a->w, (enum gw_status)op->status,
                                    "a record of the image cannot be read");
                return false;
            }
            struct gwi_chain_image image = {.known = true,
                                            .there = op->status != GW_NOT_FOUND,
                                            .version = op->version};
            if (!apply_run(a, &a->asks[op->delta], &image))
                return false;
        }
        /* A key is asked once, so what is put in now is not what is read next. */
        if (!restore_all(a))
            return false;
        at += n;
    }
    a->asks_n = 0;
    return true;
}

void gwi_redo_apply(struct gwi_redo_worker *w)
{
    struct gwi_redo *redo = w->redo;
    struct applier *a = calloc(1, sizeof *a);
    bool good = a != NULL;
    if (good) {
        a->w = w;
        a->room_bytes = redo->server->memory.frame_bytes;
        a->room = malloc(a->room_bytes);
        good = a->room && gw_store_thread_open(redo->server->store, &a->thread) == GW_OK;
    }
    if (!good)
        (void)gwi_redo_fail(w, GW_E_NOMEM, "no memory to recover commit logs");
    while (good && !atomic_load(&redo->stop)) {
        uint32_t part = atomic_fetch_add(&redo->part_next, 1);
        if (part >= GWI_REDO_PARTS)
            break;
        good = gather(a, part);
        if (!good)
            (void)gwi_redo_fail(w, GW_E_NOMEM, "no memory for what the commit logs hold");
        good = good && apply_keys(a) && apply_asked(a);
        free(a->items);
        free(a->start);
        a->items = NULL;
        a->start = NULL;
    }
    if (a) {
        gw_store_thread_close(a->thread);
        free(a->asks);
        free(a->chain);
        free(a->room);
        free(a);
    }
}
