/* session.c - see session.h. Parked operations lie in an array of `depth` places: those that wait
 * for the device are found by hash, through chains of place numbers; those that were in somebody's
 * way form the chain `busy`, the unused ones another. */
#include "bench/session.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/base/clock.h"

#define NONE      UINT32_MAX
#define READY_MAX 256u
#define NAP_NS    50000 /* between looks when there is no descriptor to wait for */
#define WAIT_MS   1
#define RETRY_MS  10000u /* patience with a record that is held, if no other was asked for */
#define NS_PER_MS 1000000u

struct gw_bench_parked {
    struct gw_op op; /* its key points at `key` */
    uint64_t key, started_ns;
    uint32_t next;
    bool waited;
};

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

enum gw_status gw_bench_session_open(struct gw_bench_session *s,
                                     const struct gw_bench_session_options *options)
{
    memset(s, 0, sizeof *s);
    if (options->depth == 0 || options->depth > GW_BENCH_DEPTH_MAX)
        return GW_E_INVALID;
    s->options = *options;
    uint32_t chains = 64;
    while (chains < options->depth)
        chains *= 2;
    s->chain_mask = chains - 1;
    s->chain = malloc(chains * sizeof *s->chain);
    s->slot = calloc(options->depth, sizeof *s->slot);
    s->again = calloc(GW_BENCH_BATCH_MAX, sizeof *s->again);
    s->again_slot = calloc(GW_BENCH_BATCH_MAX, sizeof *s->again_slot);
    s->room = aligned_alloc(64, (options->room_bytes + 63) / 64 * 64 + 64);
    enum gw_status st = GW_E_NOMEM;
    if (s->chain && s->slot && s->again && s->again_slot && s->room)
        st = gw_store_thread_open(options->store, &s->thread);
    if (st != GW_OK) {
        gw_bench_session_close(s);
        return st;
    }
    memset(s->chain, 0xff, chains * sizeof *s->chain);
    for (uint32_t i = 0; i < options->depth; i++)
        s->slot[i].next = i + 1 < options->depth ? i + 1 : NONE;
    s->busy = NONE;
    return GW_OK;
}

void gw_bench_session_close(struct gw_bench_session *s)
{
    gw_store_thread_close(s->thread);
    free(s->chain);
    free(s->slot);
    free(s->again);
    free(s->again_slot);
    free(s->room);
    memset(s, 0, sizeof *s);
}

/* Puts a parked operation where its status will be noticed. */
static void hang(struct gw_bench_session *s, uint32_t at)
{
    struct gw_bench_parked *p = &s->slot[at];
    bool cold = p->op.status == GW_PENDING;
    uint32_t *chain = cold ? &s->chain[p->op.hash & s->chain_mask] : &s->busy;
    p->waited |= cold;
    s->retried += !cold;
    p->next = *chain;
    *chain = at;
}

void gw_bench_session_park(struct gw_bench_session *s, const struct gw_op *op, uint64_t started_ns)
{
    GW_ASSERT(s->unused != NONE);
    GW_ASSERT(op->key_bytes == sizeof(uint64_t));
    uint32_t at = s->unused;
    struct gw_bench_parked *p = &s->slot[at];
    s->unused = p->next;
    p->op = *op;
    memcpy(&p->key, op->key, sizeof p->key);
    p->op.key = (const uint8_t *)&p->key;
    p->started_ns = started_ns;
    p->waited = false;
    s->parked++;
    hang(s, at);
}

/* Whether it stays parked: not answered, and not for too long. */
static bool stays(const struct gw_bench_session *s, const struct gw_bench_parked *p, uint64_t now)
{
    uint64_t patience_ms = s->options.patience_ms;
    switch (p->op.status) {
    case GW_PENDING:
        return true;
    case GW_RETRY:
        patience_ms = patience_ms ? patience_ms : RETRY_MS;
        return now - p->started_ns < patience_ms * NS_PER_MS;
    case GW_E_FULL:
        return now - p->started_ns < patience_ms * NS_PER_MS;
    default:
        return false;
    }
}

/* Executes again what the first n places of `again` hold. */
static void execute_again(struct gw_bench_session *s, uint32_t n)
{
    for (uint32_t done = 0; done < n;) {
        uint32_t executed = gw_bench_session_execute(s, s->again + done, n - done);
        GW_ASSERT(executed != 0); /* the room holds the largest value */
        uint64_t now = now_ns();
        for (uint32_t i = done; i < done + executed; i++) {
            uint32_t at = s->again_slot[i];
            struct gw_bench_parked *p = &s->slot[at];
            p->op = s->again[i];
            if (stays(s, p, now)) {
                hang(s, at);
                continue;
            }
            s->options.done(s->options.ctx, &p->op, now - p->started_ns, p->waited);
            p->next = s->unused;
            s->unused = at;
            s->parked--;
            s->progress = true;
        }
        done += executed;
    }
}

/* Moves what waits for this hash from its chain to `again`, as far as there is room. */
static uint32_t take_hash(struct gw_bench_session *s, uint64_t hash, uint32_t n)
{
    uint32_t *link = &s->chain[hash & s->chain_mask];
    while (*link != NONE && n < GW_BENCH_BATCH_MAX) {
        struct gw_bench_parked *p = &s->slot[*link];
        if (p->op.hash != hash) {
            link = &p->next;
            continue;
        }
        s->again[n] = p->op;
        s->again_slot[n++] = *link;
        *link = p->next;
    }
    return n;
}

static void poll_ready(struct gw_bench_session *s)
{
    uint64_t hashes[READY_MAX];
    uint32_t count;
    while ((count = gw_store_ready(s->thread, hashes, READY_MAX)) != 0) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < count;) {
            n = take_hash(s, hashes[i], n);
            if (n < GW_BENCH_BATCH_MAX) {
                i++;
            } else { /* more may wait for this hash */
                execute_again(s, n);
                n = 0;
            }
        }
        execute_again(s, n);
    }
}

static void poll_busy(struct gw_bench_session *s)
{
    uint32_t at = s->busy, n = 0;
    s->busy = NONE; /* what is still in the way hangs itself there again */
    while (at != NONE) {
        uint32_t next = s->slot[at].next;
        s->again[n] = s->slot[at].op;
        s->again_slot[n++] = at;
        at = next;
        if (n == GW_BENCH_BATCH_MAX || at == NONE) {
            execute_again(s, n);
            n = 0;
        }
    }
}

void gw_bench_session_poll(struct gw_bench_session *s)
{
    s->progress = gw_store_poll(s->thread);
    if (s->parked == 0)
        return;
    poll_ready(s);
    if (s->busy != NONE)
        poll_busy(s);
}

void gw_bench_session_wait(struct gw_bench_session *s)
{
    if (s->progress)
        return;
    s->waits++;
    int fd = gw_store_wait_fd(s->thread);
    if (fd >= 0 && s->busy == NONE && gw_store_in_flight(s->thread) != 0) {
        struct pollfd look = {.fd = fd, .events = POLLIN};
        (void)poll(&look, 1, WAIT_MS); /* whatever woke us, the next turn looks */
    } else {
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
}

bool gw_bench_session_drain(struct gw_bench_session *s, uint32_t patience_ms)
{
    uint64_t end = now_ns() + (uint64_t)patience_ms * NS_PER_MS;
    while (s->parked != 0) {
        gw_bench_session_poll(s);
        if (s->parked == 0)
            break;
        if (now_ns() >= end)
            return false;
        gw_bench_session_wait(s);
    }
    return true;
}
