/* Many random worlds: three servers that share one record of what was applied, slots that move all
 * the time, refusals, returned and pending operations, broken connections. At the end every add has
 * been applied exactly once, and on each key in the order of issue. The servers follow the rules
 * that docs/PROTOCOL.md gives them; the seed of a failing run is in its message. */
#include "peer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS       40
#define OPERATIONS 3000
#define SEEDS      300
#define HELD_MAX   512

struct held {
    struct peer *peer;
    uint64_t serial;
    int key;
};

struct storm {
    struct world *w;
    struct gw_rand rand;
    uint64_t seed;
    bool applied[OPERATIONS + 1];
    int64_t result[OPERATIONS + 1];
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

static int64_t apply(struct storm *s, uint64_t serial, int key)
{
    if (s->applied[serial])
        return s->result[serial]; /* a replay */
    cr_assert_gt(serial, s->last[key], "seed %lu: serial %lu of key %d ran behind %lu",
                 (unsigned long)s->seed, (unsigned long)serial, key, (unsigned long)s->last[key]);
    s->last[key] = serial;
    s->applied[serial] = true;
    return s->result[serial] = ++s->count[key];
}

static enum gw_status execute(struct storm *s, struct peer *p, uint64_t serial, const char *text,
                              int64_t *number)
{
    int at = (int)(p - s->w->server);
    int key = atoi(text + 1);
    if (s->applied[serial]) {
        *number = s->result[serial];
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
    *number = apply(s, serial, key);
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
    if (chance(s, 5))
        gw_loop_break(p->conn); /* executed, and the answer is lost */
    else
        peer_send(p,
                  &(struct gw_frame){.kind = GW_KIND_REPLY,
                                     .count = head->count,
                                     .sequence = head->sequence},
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
        int64_t number = moved ? 0 : apply(s, h.serial, h.key);
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
    cr_assert_eq(w->answers, OPERATIONS, "seed %lu: %u answers", (unsigned long)s->seed,
                 w->answers);
    bool seen[OPERATIONS] = {false};
    for (uint32_t i = 0; i < w->answers; i++) {
        cr_assert_eq(w->answer[i].status, GW_OK, "seed %lu: %s", (unsigned long)s->seed,
                     gw_status_text(w->answer[i].status));
        cr_assert(!seen[w->answer[i].tag], "seed %lu: two callbacks", (unsigned long)s->seed);
        seen[w->answer[i].tag] = true;
        cr_assert_eq(w->answer[i].number, s->result[w->answer[i].tag + 1],
                     "seed %lu: not its own result", (unsigned long)s->seed);
    }
    for (int k = 0; k < KEYS; k++)
        cr_assert_eq(s->count[k], issued[k], "seed %lu: key %d", (unsigned long)s->seed, k);
}

static void run(uint64_t seed, struct gw_session_stats *sum)
{
    struct gw_session_options o;
    gw_session_options_default(&o);
    o.operations_max = 256;
    o.batch_operations = 16;
    o.deadline_ms = 0;
    struct storm *s = calloc(1, sizeof *s);
    struct world *w = s->w = world_create(&o, seed);
    s->seed = seed;
    gw_rand_init(&s->rand, seed);
    w->coordinator.map = w->map;
    for (int i = 0; i < WORLD_PEERS; i++) {
        s->server[i].map = gw_map_copy(w->map);
        w->server[i].map = s->server[i].map;
        w->server[i].on_batch = on_batch;
        w->server[i].user = s;
    }
    int64_t issued[KEYS] = {0};
    for (int n = 0; n < OPERATIONS;) {
        for (uint64_t burst = gw_rand_below(&s->rand, 60); burst && n < OPERATIONS; burst--) {
            int k = (int)gw_rand_below(&s->rand, KEYS);
            char key[32];
            snprintf(key, sizeof key, "k%d", k);
            enum gw_status st = world_add(w, key, 1, n);
            if (st == GW_WOULD_BLOCK)
                break;
            cr_assert_eq(st, GW_OK);
            issued[k]++;
            n++;
        }
        world_run(w, gw_rand_below(&s->rand, 2 * MS));
        disturb(s);
    }
    for (int i = 0; i < 2000 && gw_in_flight(w->session); i++) {
        world_run(w, 5 * MS);
        for (int k = 0; k < WORLD_PEERS; k++)
            release(s, &w->server[k]);
    }
    check(s, issued);
    struct gw_session_stats stats;
    gw_session_stats(w->session, &stats);
    sum->batches += stats.batches;
    sum->refusals += stats.refusals;
    sum->resent += stats.resent;
    sum->pending += stats.pending;
    sum->reconnects += stats.reconnects;
    for (int i = 0; i < WORLD_PEERS; i++)
        gw_map_destroy(s->server[i].map);
    world_destroy(w);
    free(s);
}

Test(session_storm, every_add_is_applied_exactly_once_and_in_order_whatever_happens)
{
    struct gw_session_stats sum = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run(seed, &sum);
    /* The storm was one. */
    cr_expect_gt(sum.refusals, 100 * SEEDS / 10, "%lu refusals", (unsigned long)sum.refusals);
    cr_expect_gt(sum.resent, 10 * SEEDS, "%lu resent", (unsigned long)sum.resent);
    cr_expect_gt(sum.pending, 10 * SEEDS, "%lu pending", (unsigned long)sum.pending);
    cr_expect_gt(sum.reconnects, SEEDS, "%lu reconnects", (unsigned long)sum.reconnects);
}
