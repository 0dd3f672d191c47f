/* Many random worlds: three servers that share one record of what was applied, slots that move all
 * the time, refusals, returned and pending operations, broken connections. At the end every add has
 * been applied exactly once, and on each key in the order of issue. In half of the worlds servers
 * are also killed and come back without what they had not made durable; then nothing that was to be
 * kept may be missing, nobody is told of durability too early, and what only the server's mode had
 * acknowledged is missing at most where that is counted. The servers follow the rules that
 * docs/PROTOCOL.md gives them; the seed of a failing run is in its message. */
#include "peer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS       40
#define KEPT_KEYS  30 /* with crashes: those behind them are written in the servers' own mode */
#define OPERATIONS 3000
#define SEEDS      300
#define HELD_MAX   512

struct held {
    struct peer *peer;
    uint64_t serial;
    int key;
};

struct record { /* by serial */
    struct storm *storm;
    int64_t result, told_number;
    uint64_t position; /* 0: durable */
    uint32_t told;
    int key, server;
    enum gw_acknowledge mode;
    bool applied, lost;
};

struct storm {
    struct world *w;
    struct gw_rand rand;
    uint64_t seed;
    bool crashes;
    uint64_t confirmed, doubts, missing;
    struct record record[OPERATIONS + 1];
    int64_t count[KEYS];
    uint64_t last[KEYS];    /* serial applied last */
    uint64_t waiting[KEYS]; /* lowest serial returned or pending: later ones of the key must wait */
    struct {
        bool refusing;
        uint64_t sequence;
        struct gw_map *map; /* what this server knows */
    } server[WORLD_PEERS];
    struct held held[HELD_MAX];
    uint32_t helds;
};

static bool chance(struct storm *s, uint32_t per_thousand)
{
    return gw_rand_below(&s->rand, 1000) < per_thousand;
}

static int64_t apply(struct storm *s, int at, uint64_t serial, int key)
{
    struct record *r = &s->record[serial];
    if (r->applied)
        return r->result; /* a replay */
    cr_assert_gt(serial, s->last[key], "seed %lu: serial %lu of key %d ran behind %lu",
                 (unsigned long)s->seed, (unsigned long)serial, key, (unsigned long)s->last[key]);
    s->last[key] = serial;
    r->applied = true;
    r->server = at;
    r->position = s->w->server[at].position;
    return r->result = ++s->count[key];
}

/* Everything that the server has applied is durable. */
static void secure(struct storm *s, int at, bool say)
{
    struct peer *p = &s->w->server[at];
    if (!s->crashes)
        return;
    for (uint64_t i = 1; i <= OPERATIONS; i++)
        if (s->record[i].applied && s->record[i].server == at)
            s->record[i].position = 0;
    p->durable = p->position++;
    p->syncs = 0;
    if (say)
        peer_durable(p, p->durable);
}

static void crash(struct storm *s, int at)
{
    struct peer *p = &s->w->server[at];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->helds; i++)
        if (s->held[i].peer != p)
            s->held[kept++] = s->held[i];
    s->helds = kept;
    memset(s->last, 0, sizeof s->last);
    p->forgets = true;
    for (uint64_t i = 1; i <= OPERATIONS; i++) {
        struct record *r = &s->record[i];
        if (!r->applied)
            continue;
        if (r->server != at || r->position == 0) {
            s->last[r->key] = i;
            if (r->server == at && i >= s->confirmed)
                p->forgets = false; /* a session with something applied is in the image */
            continue;
        }
        r->applied = false;
        s->count[r->key]--;
        if (r->mode == GW_ACKNOWLEDGE_SERVER) {
            r->lost = r->told;
            s->missing += r->told;
        } else
            cr_assert_geq(i, s->confirmed, "seed %lu: %lu was confirmed, is lost",
                          (unsigned long)s->seed, (unsigned long)i);
    }
    peer_crash(p);
}

static void on_answer(void *ctx, const struct gw_result *result)
{
    struct record *r = ctx;
    struct storm *s = r->storm;
    uint64_t serial = (uint64_t)(r - s->record);
    cr_assert_eq(result->status, GW_OK, "seed %lu: %s", (unsigned long)s->seed,
                 gw_status_text(result->status));
    cr_assert_eq(r->told++, 0, "seed %lu: two callbacks of %lu", (unsigned long)s->seed,
                 (unsigned long)serial);
    r->told_number = result->number;
    if (r->mode == GW_ACKNOWLEDGE_DURABLE)
        cr_assert(r->applied && r->position == 0, "seed %lu: %lu is not durable",
                  (unsigned long)s->seed, (unsigned long)serial);
}

static void on_durable(void *ctx, uint64_t durable)
{
    struct storm *s = ctx;
    for (uint64_t i = 1; i <= durable; i++) {
        struct record *r = &s->record[i];
        cr_assert(r->lost || (r->applied && r->position == 0),
                  "seed %lu: commit point %lu, but not %lu", (unsigned long)s->seed,
                  (unsigned long)durable, (unsigned long)i);
    }
}

static enum gw_status execute(struct storm *s, struct peer *p, uint64_t serial, const char *text,
                              int64_t *number)
{
    int at = (int)(p - s->w->server);
    int key = atoi(text + 1);
    if (s->record[serial].applied) {
        *number = s->record[serial].result;
        return GW_OK;
    }
    if (s->server[at].map->owner[gw_slot_of(text, strlen(text))] != at)
        return GW_MOVED;
    for (uint32_t i = 0; i < s->helds; i++)
        if (s->held[i].key == key && s->held[i].peer == p) { /* behind a waiting one */
            if (s->held[i].serial == serial)
                return GW_PENDING;
            if (s->helds == HELD_MAX)
                return GW_RETRY;
            s->held[s->helds++] = (struct held){p, serial, key};
            return GW_PENDING;
        }
    if (s->waiting[key] && s->waiting[key] < serial)
        return GW_RETRY; /* behind a returned one */
    if (chance(s, 10)) {
        s->waiting[key] = serial;
        return GW_RETRY;
    }
    s->waiting[key] = 0;
    if (chance(s, 20) && s->helds < HELD_MAX) {
        s->held[s->helds++] = (struct held){p, serial, key};
        return GW_PENDING;
    }
    *number = apply(s, at, serial, key);
    return GW_OK;
}

static void refuse(struct peer *p, struct storm *s, int at, const struct gw_frame *head,
                   enum gw_status reason)
{
    s->server[at].refusing = true;
    p->batch[0].head = *head;
    p->batches = 1;
    peer_refuse(p, reason, s->server[at].map);
}

static void on_batch(struct peer *p, const struct gw_frame *head, const uint8_t *frame)
{
    struct storm *s = p->user;
    int at = (int)(p - s->w->server);
    uint64_t view = s->server[at].map->server[at].view;
    if (head->sequence == 1)
        s->server[at].refusing = false; /* a fresh connection */
    else
        cr_assert_eq(head->sequence, s->server[at].sequence + 1);
    s->server[at].sequence = head->sequence;
    if (s->server[at].refusing && !(head->flags & GW_BATCH_RESUME)) {
        refuse(p, s, at, head, GW_RETRY);
        return;
    }
    if (head->view != view) {
        refuse(p, s, at, head, head->view < view ? GW_WRONG_VIEW : GW_NOT_YET);
        return;
    }
    s->server[at].refusing = false;
    p->forgets = false; /* the session is one of its own from now on */
    if (head->confirmed > s->confirmed)
        s->confirmed = head->confirmed;

    static uint8_t body[1 << 16];
    struct gw_writer w = gw_writer_of(body, sizeof body);
    struct gw_reader r = gw_frame_body(frame, head);
    struct gw_wire_op op;
    while (gw_wire_op_decode(&r, &op)) {
        char key[32] = {0};
        memcpy(key, op.key, op.key_bytes);
        struct gw_wire_reply reply = {0};
        reply.status = (int8_t)execute(s, p, head->serial + op.serial_delta, key, &reply.number);
        reply.flags = reply.status == GW_OK ? GW_WIRE_COUNTER : 0;
        gw_wire_reply_encode(&reply, &w);
    }
    cr_assert(!r.bad && !w.bad);
    bool waits = p->durability == GW_WIRE_DURABILITY_COMMIT && !(head->flags & GW_BATCH_EARLY);
    uint64_t position = p->position;
    if (s->crashes && chance(s, 5)) {
        crash(s, at); /* executed, perhaps not durable, and the answer is lost */
        return;
    }
    if (waits)
        secure(s, at, chance(s, 500));
    if (chance(s, 5))
        gw_loop_break(p->conn); /* executed, and the answer is lost */
    else
        peer_send(p,
                  &(struct gw_frame){.kind = GW_KIND_REPLY,
                                     .count = head->count,
                                     .sequence = head->sequence,
                                     .confirmed = waits ? 0 : position},
                  body, gw_writer_used(&w));
}

/* Ends the waiting of everything that waits at a server. */
static void release(struct storm *s, struct peer *p)
{
    int at = (int)(p - s->w->server);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->helds; i++) {
        struct held h = s->held[i];
        if (h.peer != p) {
            s->held[kept++] = h;
            continue;
        }
        char key[32];
        snprintf(key, sizeof key, "k%d", h.key);
        bool moved = s->server[at].map->owner[gw_slot_of(key, strlen(key))] != at;
        int64_t number = moved ? 0 : apply(s, at, h.serial, h.key);
        if (p->conn)
            peer_complete(p, h.serial, moved ? GW_MOVED : GW_OK, number);
    }
    s->helds = kept;
}

/* A server learns the newest map; what waits there for a slot that it has not any more is returned
 * first, as its cut does. */
static void learn(struct storm *s, int at)
{
    struct gw_map *old = s->server[at].map;
    s->server[at].map = gw_map_copy(s->w->map);
    s->w->server[at].map = s->server[at].map;
    release(s, &s->w->server[at]);
    gw_map_destroy(old);
}

static void disturb(struct storm *s)
{
    struct world *w = s->w;
    uint32_t at = (uint32_t)gw_rand_below(&s->rand, WORLD_PEERS);
    struct peer *p = &w->server[at];
    if (s->crashes) {
        if (p->syncs > 0 || chance(s, 100))
            secure(s, (int)at, chance(s, 800));
        if (chance(s, 30))
            crash(s, (int)at);
        if (chance(s, 50) && gw_session_sync(w->session, 0) == GW_IN_DOUBT)
            s->doubts++;
    }
    switch (gw_rand_below(&s->rand, 6)) {
    case 0:
    case 1: {
        char key[32];
        snprintf(key, sizeof key, "k%d", (int)gw_rand_below(&s->rand, KEYS));
        uint16_t slot = gw_slot_of(key, strlen(key));
        uint16_t from = w->map->owner[slot];
        if (from == at)
            break;
        world_move(w, slot, at);
        /* The old owner knows first (MIGRATION R5), the new one serves after it. */
        learn(s, from);
        secure(s, from, chance(s, 500));
        learn(s, (int)at);
        if (chance(s, 300))
            gwi_cluster_offer(w->cluster, gw_map_copy(w->map));
        break;
    }
    case 2:
        if (p->conn && chance(s, 200)) {
            gw_loop_break(p->conn);
            release(s, p);
        }
        break;
    default:
        release(s, p);
        break;
    }
}

static void check(struct storm *s, const int64_t *issued)
{
    struct world *w = s->w;
    uint64_t lost = 0;
    for (uint64_t i = 1; i <= OPERATIONS; i++) {
        const struct record *r = &s->record[i];
        cr_assert_eq(r->told, 1, "seed %lu: %u callbacks of %lu", (unsigned long)s->seed, r->told,
                     (unsigned long)i);
        lost += r->lost;
        if (r->lost)
            continue;
        cr_assert(r->applied, "seed %lu: %lu is missing", (unsigned long)s->seed, (unsigned long)i);
        if (!s->crashes || r->key < KEPT_KEYS)
            cr_assert_eq(r->told_number, r->result, "seed %lu: not its own result",
                         (unsigned long)s->seed);
    }
    for (int k = 0; k < (s->crashes ? KEPT_KEYS : KEYS); k++)
        cr_assert_eq(s->count[k], issued[k], "seed %lu: key %d", (unsigned long)s->seed, k);
    struct gw_session_stats stats;
    gw_session_stats(w->session, &stats);
    cr_assert(lost == 0 || s->doubts > 0, "seed %lu: a loss that no sync told",
              (unsigned long)s->seed);
    cr_assert_geq(stats.lost, lost, "seed %lu: %lu lost, %lu told", (unsigned long)s->seed,
                  (unsigned long)lost, (unsigned long)stats.lost);
    cr_assert_eq(stats.kept + stats.in_doubt, 0, "seed %lu", (unsigned long)s->seed);
    cr_assert_eq(w->session->bytes, 0, "seed %lu", (unsigned long)s->seed);
}

static enum gw_status issue(struct storm *s, int n)
{
    struct record *r = &s->record[n + 1];
    char key[32];
    r->storm = s;
    r->key = (int)gw_rand_below(&s->rand, KEYS);
    r->mode = GW_ACKNOWLEDGE_SERVER;
    if (s->crashes && r->key < KEPT_KEYS)
        r->mode = chance(s, 300) ? GW_ACKNOWLEDGE_DURABLE : GW_ACKNOWLEDGE_APPLIED;
    cr_assert_eq(gw_session_set_acknowledge(s->w->session, r->mode), GW_OK);
    snprintf(key, sizeof key, "k%d", r->key);
    return gw_add(s->w->session, key, strlen(key), 1, 0, on_answer, r);
}

/* Until everything is answered and, where servers crash, durable. */
static void settle(struct storm *s)
{
    struct world *w = s->w;
    for (int i = 0; i < 2000; i++) {
        enum gw_status st = s->crashes ? gw_session_sync(w->session, 0) : GW_OK;
        s->doubts += st == GW_IN_DOUBT;
        if (!gw_in_flight(w->session) && st == GW_OK)
            break;
        world_run(w, 5 * MS);
        for (int k = 0; k < WORLD_PEERS; k++) {
            release(s, &w->server[k]);
            secure(s, k, true);
        }
    }
}

static void run(uint64_t seed, bool crashes, struct gw_session_stats *sum)
{
    struct gw_session_options o;
    gw_session_options_default(&o);
    o.operations_max = 256;
    o.batch_operations = 16;
    o.deadline_ms = 0;
    struct storm *s = calloc(1, sizeof *s);
    struct world *w = s->w = world_create(&o, seed);
    s->seed = seed;
    s->crashes = crashes;
    gw_rand_init(&s->rand, seed);
    w->coordinator.map = w->map;
    for (int i = 0; i < WORLD_PEERS; i++) {
        s->server[i].map = gw_map_copy(w->map);
        w->server[i].map = s->server[i].map;
        w->server[i].on_batch = on_batch;
        w->server[i].user = s;
        if (crashes) {
            w->server[i].position = 1;
            w->server[i].durability =
                i == 1 ? GW_WIRE_DURABILITY_COMMIT : GW_WIRE_DURABILITY_MEMORY;
        }
    }
    if (crashes)
        gw_session_on_durable(w->session, on_durable, s);
    int64_t issued[KEYS] = {0};
    for (int n = 0; n < OPERATIONS;) {
        for (uint64_t burst = gw_rand_below(&s->rand, 60); burst && n < OPERATIONS; burst--) {
            enum gw_status st = issue(s, n);
            if (st == GW_WOULD_BLOCK)
                break;
            cr_assert_eq(st, GW_OK);
            issued[s->record[++n].key]++;
        }
        world_run(w, gw_rand_below(&s->rand, 2 * MS));
        disturb(s);
    }
    settle(s);
    check(s, issued);
    struct gw_session_stats stats;
    gw_session_stats(w->session, &stats);
    sum->batches += stats.batches;
    sum->refusals += stats.refusals;
    sum->resent += stats.resent;
    sum->pending += stats.pending;
    sum->reconnects += stats.reconnects;
    sum->replayed += stats.replayed;
    sum->lost += s->missing;
    for (int i = 0; i < WORLD_PEERS; i++)
        gw_map_destroy(s->server[i].map);
    world_destroy(w);
    free(s);
}

Test(session_storm, every_add_is_applied_exactly_once_and_in_order_whatever_happens)
{
    struct gw_session_stats sum = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run(seed, false, &sum);
    /* The storm was one. */
    cr_expect_gt(sum.refusals, 100 * SEEDS / 10, "%lu refusals", (unsigned long)sum.refusals);
    cr_expect_gt(sum.resent, 10 * SEEDS, "%lu resent", (unsigned long)sum.resent);
    cr_expect_gt(sum.pending, 10 * SEEDS, "%lu pending", (unsigned long)sum.pending);
    cr_expect_gt(sum.reconnects, SEEDS, "%lu reconnects", (unsigned long)sum.reconnects);
}

Test(session_storm, with_crashes_nothing_kept_is_missing_and_nothing_is_applied_twice)
{
    struct gw_session_stats sum = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run(seed, true, &sum);
    cr_expect_gt(sum.replayed, 100 * SEEDS / 10, "%lu replayed", (unsigned long)sum.replayed);
    cr_expect_gt(sum.lost, SEEDS / 10, "%lu lost", (unsigned long)sum.lost);
    cr_expect_gt(sum.refusals, 100 * SEEDS / 10, "%lu refusals", (unsigned long)sum.refusals);
}
