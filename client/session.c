/* session.c - opening and closing a session, its options and statistics. */
#include "client/session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/memory.h"

#define CLOSE_WAIT_NS                                                                              \
    (100 * GWI_MS) /* for farewells to leave; a server forgets idle sessions anyway */
#define CLOSE_POLL_NS (5 * GWI_MS)

void gw_session_options_default(struct gw_session_options *options)
{
    *options = (struct gw_session_options){
        .operations_max = 16384,
        .bytes_max = UINT64_C(64) << 20,
        .batch_operations = 512,
        .batch_bytes = 64u << 10,
        .batches_in_flight = 4,
        .deadline_ms = 30000,
        .spin_us = 50,
    };
}

/* Zero means the default, but for the deadline and the spinning, where it says "none". */
static enum gw_status settle_options(const struct gw_session_options *given,
                                     struct gw_session_options *o)
{
    struct gw_session_options defaults;
    gw_session_options_default(&defaults);
    *o = given ? *given : defaults;
    if (o->operations_max == 0)
        o->operations_max = defaults.operations_max;
    if (o->bytes_max == 0)
        o->bytes_max = defaults.bytes_max;
    if (o->batch_operations == 0)
        o->batch_operations = defaults.batch_operations;
    if (o->batch_bytes == 0)
        o->batch_bytes = defaults.batch_bytes;
    if (o->batches_in_flight == 0)
        o->batches_in_flight = defaults.batches_in_flight;
    if (o->operations_max > GWI_WINDOW_MAX || (unsigned)o->acknowledge > GW_ACKNOWLEDGE_DURABLE)
        return GW_E_INVALID;
    if (o->batches_in_flight > GWI_BATCHES_MAX)
        o->batches_in_flight = GWI_BATCHES_MAX;
    uint32_t window = 1;
    while (window < o->operations_max)
        window *= 2;
    o->operations_max = window;
    return GW_OK;
}

static size_t rounded(size_t bytes)
{
    return (bytes + GW_CACHE_LINE - 1) & ~(size_t)(GW_CACHE_LINE - 1);
}

enum gw_status gwi_session_create(struct gw_cluster *cluster,
                                  const struct gw_session_options *options,
                                  const struct gwi_env *env, struct gw_session **out)
{
    struct gw_session *s = calloc(1, sizeof *s);
    if (!s)
        return GW_E_NOMEM;
    enum gw_status st = settle_options(options, &s->options);
    if (st != GW_OK)
        goto fail_session;

    size_t ops = rounded((size_t)s->options.operations_max * sizeof(struct gwi_op));
    size_t slots = rounded(GW_SLOTS * sizeof(struct gwi_slot));
    s->memory_bytes = ops + slots + GW_SLOTS * (sizeof(uint64_t) + sizeof(uint32_t));
    st = gw_memory_map(s->memory_bytes, &s->memory, NULL);
    if (st != GW_OK)
        goto fail_session;
    s->op = s->memory;
    s->slot = (void *)((uint8_t *)s->memory + ops);
    s->slot_wait_ns = (void *)((uint8_t *)s->memory + ops + slots);
    s->slot_kept = (void *)(s->slot_wait_ns + GW_SLOTS);
    for (uint32_t i = 0; i < GW_SLOTS; i++)
        s->slot[i].owner = GWI_NO_LANE;

    s->cluster = cluster;
    s->clock = env->clock;
    s->id = gwi_cluster_session_id(cluster);
    s->mask = s->options.operations_max - 1;
    s->window = s->options.operations_max;
    s->oldest = s->next = 1;
    s->deadline_low_ns = s->wait_low_ns = UINT64_MAX;
    s->lost_from = s->volatile_from = UINT64_MAX;
    s->mode = (uint8_t)s->options.acknowledge;
    s->epoll_fd = s->timer_fd = -1;
    gw_rand_init(&s->rand, env->seed);
    gwi_session_clock(s);
    gw_session_set_deadline(s, s->options.deadline_ms);

    struct gw_net_options net_options;
    gw_net_options_default(&net_options);
    net_options.spin_ns_max = s->options.spin_us * 1000u;
    st = env->net_create(env->ctx, &net_options, &gwi_session_events, s, &s->net);
    if (st != GW_OK)
        goto fail_memory;
    gwi_route_adopt(s);
    *out = s;
    return GW_OK;

fail_memory:
    gw_memory_unmap(s->memory, s->memory_bytes);
fail_session:
    free(s);
    return st;
}

static enum gw_status uring_create(void *ctx, const struct gw_net_options *options,
                                   const struct gw_net_events *events, void *events_ctx,
                                   struct gw_net **out)
{
    (void)ctx;
    return gw_net_uring_create(options, events, events_ctx, out);
}

enum gw_status gw_session_open(struct gw_cluster *cluster, const struct gw_session_options *options,
                               struct gw_session **out)
{
    struct gwi_env env = {
        .clock = gw_clock_system(),
        .seed = gw_rand_system_seed(),
        .net_create = uring_create,
    };
    return gwi_session_create(cluster, options, &env, out);
}

/* Everything that has no answer yet gets one: unknown if it may have been applied. */
static void end_operations(struct gw_session *s)
{
    for (uint64_t serial = s->oldest; serial < s->next; serial++) {
        struct gwi_op *op = gwi_op_at(s, serial);
        if (op->state == GWI_OP_FREE || op->serial != serial)
            continue;
        bool sent = op->unsure || op->state == GWI_OP_SENT || op->state == GWI_OP_PENDING ||
                    op->state == GWI_OP_APPLIED;
        struct gw_result result = {.status = sent ? GW_IN_DOUBT : GW_E_CANCELLED};
        if (op->state == GWI_OP_FAILED)
            result.status = (enum gw_status)op->status;
        if (op->state == GWI_OP_APPLIED && !op->told)
            gwi_keep_drop(s, op);
        free(op->heap);
        op->heap = NULL;
        op->state = GWI_OP_FREE;
        if (op->callback && !op->abandoned && !op->told)
            op->callback(op->ctx, &result);
    }
    for (uint32_t i = 0; i < s->lane_count; i++)
        s->lane[i]->kept = s->lane[i]->marks = 0;
    s->in_flight = s->queued = s->failed = s->kept = 0;
    s->oldest = s->next;
}

static bool connected(const struct gw_session *s)
{
    for (uint32_t i = 0; i < s->lane_count; i++)
        if (s->lane[i]->conn)
            return true;
    return false;
}

static void say_farewell(struct gw_session *s)
{
    for (uint32_t i = 0; i < s->lane_count; i++) {
        struct gwi_lane *lane = s->lane[i];
        if (lane->state != GWI_LANE_UP)
            continue;
        uint8_t *room = gw_conn_reserve(lane->conn, GW_FRAME_HEADER);
        if (room) {
            struct gw_frame head = {
                .bytes = GW_FRAME_HEADER,
                .kind = GW_KIND_BYE,
                .session = s->id,
                .confirmed = s->next,
            };
            gw_frame_encode(&head, room);
            gw_conn_commit(lane->conn, GW_FRAME_HEADER);
        }
        gw_conn_close_after_flush(lane->conn);
    }
    gwi_session_clock(s);
    for (uint64_t end_ns = s->now_ns + CLOSE_WAIT_NS; connected(s) && s->now_ns < end_ns;) {
        gw_net_poll(s->net, CLOSE_POLL_NS);
        uint64_t before_ns = s->now_ns;
        gwi_session_clock(s);
        if (s->now_ns == before_ns)
            break; /* a simulated clock stands still while nobody steps it */
    }
}

void gw_session_close(struct gw_session *s)
{
    if (!s)
        return;
    GW_ASSERT(!s->running);
    s->running = true; /* a callback that issues something now is refused */
    s->window = 0;
    end_operations(s);
    /* Another thread than the transport's may only take it down; the servers then find out by
     * themselves that the session is over. */
    if (!s->owned || pthread_equal(s->owner, pthread_self()))
        say_farewell(s);
    if (s->fetch)
        gwi_cluster_fetch_end(s->cluster, s->now_ns, false);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    if (s->timer_fd >= 0)
        close(s->timer_fd);
    gw_net_destroy(s->net);
    for (uint32_t i = 0; i < s->lane_count; i++)
        free(s->lane[i]);
    free(s->lane);
    free(s->sync_value);
    gw_memory_unmap(s->memory, s->memory_bytes);
    free(s);
}

void gw_session_set_deadline(struct gw_session *s, uint32_t deadline_ms)
{
    s->deadline_after_ns = deadline_ms ? deadline_ms * GWI_MS : UINT64_MAX;
}

size_t gw_in_flight(const struct gw_session *s)
{
    return s->in_flight;
}

void gw_session_stats(const struct gw_session *s, struct gw_session_stats *out)
{
    *out = s->stats;
    out->operations = s->next - 1;
    out->durable = gw_session_durable(s);
    out->kept = s->kept;
}

void gw_session_stats_reset_wait(struct gw_session *s)
{
    s->stats.wait_longest_ns = 0;
}
