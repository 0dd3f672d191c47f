/* dispatcher.c - the thread of a dispatcher: one turn after the other, asleep in the kernel when
 * there is nothing to do.
 *
 * Rules: 1. View and cuts are looked at after entering the epoch and before any input (ENGINE H7,
 * MIGRATION R4); nothing of a view is kept beyond gwi_dispatcher_exit but its generation.
 * 2. A change of view is acted upon (what waits for slots that left is returned) before the cut
 * that came with it is acknowledged (R5); a checkpoint's cut is crossed before it is (store_cut.h).
 * 3. A dispatcher sleeps outside of the epoch, with the
 * triggers that were due run; whoever publishes a cut or posts mail wakes it. */
#define _GNU_SOURCE
#include "server/dispatcher.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "index/indirection.h"
#include "index/store_cut.h"
#include "server/checkpoint.h"
#include "server/control.h"
#include "server/explain.h"
#include "server/haul.h"
#include "server/server.h"
#include "server/session_image.h"

#define KEYS_A_TURN      32u /* a pull's answer tries its keys by itself */
#define SHORT_WAIT_NS    500000ull
#define DEVICE_POLL_NS   50000ull /* without a descriptor to wait for */
#define IDLE_WAIT_NS     1000000000ull
#define PUBLISH_EVERY_NS 250000000ull
#define PARKED_BYTES     256u /* a usual operation that waits */
#define STALLED_MS_MAX   10000u
#define EXPIRE_EVERY_NS  10000000000ull

bool gwi_dispatcher_post(struct gwi_dispatcher *d, enum gwi_mail_kind kind, uint64_t number,
                         void *subject)
{
    if (!gwi_mailbox_post(&d->box, kind, number, subject)) {
        gw_error("mail", "status=e_nomem kind=%d", (int)kind);
        return false;
    }
    gw_net_wake(d->net);
    return true;
}

void gwi_dispatcher_enter(struct gwi_dispatcher *d)
{
    GW_ASSERT(!d->inside);
    struct gw_epoch *epoch = gw_store_epoch(d->server->store);
    d->inside = true;
    gw_store_enter(d->store);
    for (;;) {
        struct gw_cut cut;
        bool open = gw_cut_next(epoch, d->epoch_slot, &cut);
        /* Acquire: pairs with the release in gwi_server_publish; behind the cut, so that at its
         * acknowledgement this is at least the view that it was published with. */
        d->view = atomic_load_explicit(&d->server->view, memory_order_acquire);
        if (d->view->generation != d->generation) {
            d->generation = d->view->generation;
            gwi_release_moved(d);
            gwi_haul_notice(d);
            d->park_try_all = true;
        }
        if (d->commit.log)
            gwi_commit_view(d, d->view->number);
        if (!open)
            break;
        if (cut.phase & GWI_CUT_CHECKPOINT)
            gw_store_cross(d->store);
        gw_cut_acknowledge(epoch, d->epoch_slot);
    }
}

void gwi_dispatcher_exit(struct gwi_dispatcher *d)
{
    GW_ASSERT(d->inside);
    if (d->commit.tag != GWI_NOTHING_OPEN)
        (void)gwi_commit_end(d); /* what was executed may have left nothing behind */
    gw_store_exit(d->store);
    d->inside = false;
    d->view = NULL;
}

/* ---- errands: work for this dispatcher's sessions -------------------------------------------- */

static void collect(struct gwi_dispatcher *d, struct gwi_errand *e)
{
    size_t n = 0, max = 0;
    for (int pass = 0; pass < 2; pass++) {
        n = 0;
        for (uint32_t i = 0; i < d->sessions.buckets; i++)
            for (struct gwi_session *s = d->sessions.bucket[i]; s; s = s->chain)
                n += gw_applied_collect(s->applied, s->id, &e->slots, max ? e->entries + n : NULL,
                                        max ? max - n : 0);
        if (pass == 1 || n == 0)
            break;
        max = n;
        e->entries = malloc(n * sizeof *e->entries);
        if (!e->entries) {
            e->status = GW_E_NOMEM;
            return;
        }
    }
    e->count = n;
}

static void merge(struct gwi_dispatcher *d, struct gwi_errand *e)
{
    for (size_t i = 0; i < e->count; i++) {
        const struct gw_applied *entry = &e->entries[i];
        struct gwi_session *s = gwi_sessions_find(&d->sessions, entry->session);
        if (!s) {
            s = gwi_sessions_create(&d->sessions, entry->session, GW_APPLIED_WINDOW_MAX);
            if (s)
                s->idle_since_ns = d->now_ns;
        }
        if (s)
            gwi_session_image_take(d, s);
        if (!s || gw_applied_merge(s->applied, entry) != GW_OK) {
            e->status = GW_E_NOMEM;
            return;
        }
    }
}

static void drop(struct gwi_dispatcher *d, const struct gwi_errand *e)
{
    for (uint32_t i = 0; i < d->sessions.buckets; i++)
        for (struct gwi_session *s = d->sessions.bucket[i]; s; s = s->chain) {
            gwi_session_image_take(d, s);
            gw_applied_drop(s->applied, &e->slots);
        }
}

/* Does the errand, or, when it has come back, hands it to control. */
static void run_errand(struct gwi_dispatcher *d, const struct gwi_mail *mail)
{
    struct gwi_errand *e = mail->subject;
    if (mail->number == 1) {
        gwi_control_mail(d->control,
                         &(struct gwi_mail){.kind = mail->kind, .number = e->job, .subject = e});
        return;
    }
    switch (mail->kind) {
    case GWI_MAIL_COLLECT:
        collect(d, e);
        break;
    case GWI_MAIL_MERGE:
        merge(d, e);
        break;
    default:
        drop(d, e);
        break;
    }
    (void)gwi_dispatcher_post(d->server->dispatcher[0], (enum gwi_mail_kind)mail->kind, 1,
                              e); /* logged; the job stalls */
}

static void take_mail(struct gwi_dispatcher *d)
{
    struct gwi_mail *mail;
    while ((mail = gwi_mailbox_take(&d->box))) {
        switch ((enum gwi_mail_kind)mail->kind) {
        case GWI_MAIL_STOP:
            d->stopping = true;
            break;
        case GWI_MAIL_ATTACH:
            if (!gwi_link_attach(d, mail->subject))
                gw_warn("attach", "status=e_limit next=drop");
            break;
        case GWI_MAIL_COLLECT:
        case GWI_MAIL_MERGE:
        case GWI_MAIL_DROP:
            run_errand(d, mail);
            break;
        default:
            gwi_control_mail(d->control, mail);
            break;
        }
        free(mail);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* What the store has read since: tried at once. */
static uint32_t take_ready(struct gwi_dispatcher *d)
{
    uint32_t n = d->ready_count, all = 0;
    for (; n > 0; n = gw_store_ready(d->store, d->ready, GWI_READY_GROUP)) {
        d->reads_ended += n;
        gwi_release_ready(d, d->ready, n);
        all += n;
    }
    d->ready_count = 0;
    return all;
}

/* How long a thread may sleep while its reads and writes are with the device: their completion ends
 * the sleep where there is a descriptor for it. */
static uint64_t device_wait(const struct gwi_dispatcher *d, uint64_t wait)
{
    if (gw_store_in_flight(d->store) == 0 || d->device_watched)
        return wait;
    return wait < DEVICE_POLL_NS ? wait : DEVICE_POLL_NS;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t until(const struct gwi_dispatcher *d, uint64_t due_ns)
{
    return due_ns <= d->now_ns ? 0 : due_ns - d->now_ns;
}

static uint64_t turn(struct gwi_dispatcher *d)
{
    take_mail(d);
    if (gw_store_in_flight(d->store))
        gw_store_poll(d->store); /* its say about more work comes from the one below */
    if (d->ready_count == 0)
        d->ready_count = gw_store_ready(d->store, d->ready, GWI_READY_GROUP);
    gwi_dispatcher_enter(d);
    uint32_t ready = take_ready(d); /* as many reads may begin now */
    uint64_t stale = gwi_release_stale(d, KEYS_A_TURN);
    if (d->park.keys)
        gwi_release_try(d, d->park_try_all ? UINT32_MAX : KEYS_A_TURN + ready);
    d->park_try_all = false;
    uint64_t haul = gwi_haul_turn(d);
    gwi_dispatcher_exit(d);
    bool more = gw_store_poll(d->store);
    /* Completions that this call has seen will not ring again: they are ours to remember. */
    d->ready_count = gw_store_ready(d->store, d->ready, GWI_READY_GROUP);
    uint64_t wait = IDLE_WAIT_NS;
    if (d->commit.log)
        wait = least(wait, gwi_commit_turn(d));
    if (d->server->durable.mode != GWI_DURABILITY_NONE) {
        more |= gwi_hold_turn(d);
        more |= gwi_session_image_turn(d);
    }
    if (d->held.after != &d->held)
        gwi_links_release(d);
    if (d->control) {
        wait = least(wait, until(d, gwi_control_turn(d->control)));
        wait = least(wait, until(d, gwi_checkpoint_turn(d->server)));
    }
    wait = least(wait, gw_store_resolve_wait(d->store));
    wait = device_wait(d, least(least(haul, stale), wait));
    if (more || d->ready_count)
        return 0;
    if ((d->park.ring.after != &d->park.ring || d->held.after != &d->held ||
         atomic_load_explicit(&d->server->jobs, memory_order_relaxed)) &&
        wait > SHORT_WAIT_NS)
        return SHORT_WAIT_NS;
    return wait;
}

static void pin(const struct gwi_dispatcher *d)
{
    cpu_set_t allowed, one;
    if (!d->server->options.pin || sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return;
    uint32_t n = d->index % (uint32_t)CPU_COUNT(&allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && n-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void)pthread_setaffinity_np(pthread_self(), sizeof one, &one); /* unpinned works too */
            return;
        }
}

static void woken(void *ctx)
{
    struct gwi_dispatcher *d = ctx;
    d->woken_ns = gw_clock_now_ns(gw_clock_system());
}

/* What was executed since the last call is answered now. */
static void answers_leave(struct gwi_dispatcher *d)
{
    uint64_t operations =
        atomic_load_explicit(&d->operations, memory_order_relaxed); /* ours to write */
    gwi_lateness_add(&d->lateness, d->now_ns - d->came_ns, operations - d->operations_answered);
    d->operations_answered = operations;
    if (!gwi_pace_is_due(&d->pace, d->now_ns))
        return;
    gwi_lateness_forget(&d->lateness, d->now_ns);
    struct gw_net_stats stats;
    gw_net_stats(d->net, &stats);
    gwi_pace_time(&d->pace, d->now_ns - d->paced_ns, stats.idle_ns - d->idle_ns);
    d->paced_ns = d->now_ns;
    d->idle_ns = stats.idle_ns;
    uint64_t p99 = gwi_lateness_p99(&d->lateness);
    atomic_store_explicit(&d->late_p99_ns, p99, memory_order_relaxed); /* stands for itself */
    gwi_pace_look(&d->pace, d->now_ns, p99, gwi_haul_impact(d));
}

static void requests_come(struct gwi_dispatcher *d)
{
    d->came_ns = d->woken_ns ? d->woken_ns : d->looked_ns;
    d->looked_ns = d->now_ns;
    d->woken_ns = 0;
}

static void *run(void *arg)
{
    struct gwi_dispatcher *d = arg;
    const struct gw_clock *clock = gw_clock_system();
    pin(d);
    uint64_t expire_ns = 0, publish_ns = 0, wait = 0;
    while (!d->stopping) {
        d->now_ns = gw_clock_now_ns(clock);
        answers_leave(d);
        gw_net_poll(d->net, wait);
        d->now_ns = gw_clock_now_ns(clock);
        requests_come(d);
        wait = turn(d);
        if (d->now_ns >= publish_ns) {
            publish_ns = d->now_ns + PUBLISH_EVERY_NS;
            gwi_explain_publish(d);
            if (d->control)
                gwi_memory_ease(&d->server->memory);
        }
        if (d->now_ns >= expire_ns) {
            expire_ns = d->now_ns + EXPIRE_EVERY_NS;
            gwi_sessions_expire(&d->sessions, d->now_ns);
            atomic_store_explicit(&d->sessions_open, d->sessions.count,
                                  memory_order_relaxed); /* a number for people */
        }
    }
    return NULL;
}

static void dispatcher_free(struct gwi_dispatcher *d)
{
    gwi_commit_close(d); /* it wakes the net */
    if (d->net)
        gw_net_destroy(d->net);
    gwi_links_free(d);
    gwi_hold_fini(d);
    gwi_haul_destroy(d->haul);
    gwi_park_fini(&d->park);
    gwi_sessions_fini(&d->sessions);
    gw_store_thread_close(d->store);
    gwi_control_destroy(d->control);
    gwi_mailbox_fini(&d->box);
    free(d->room);
    free(d->reply);
    free(d);
}

/* Those that were recovered, or none. */
static bool take_sessions(struct gwi_dispatcher *d)
{
    struct gwi_server *s = d->server;
    if (s->recovered_sessions) {
        d->sessions = s->recovered_sessions[d->index];
        memset(&s->recovered_sessions[d->index], 0, sizeof d->sessions);
    } else if (!gwi_sessions_init(&d->sessions)) {
        return false;
    }
    for (uint32_t i = 0; i < d->sessions.buckets; i++)
        for (struct gwi_session *x = d->sessions.bucket[i]; x; x = x->chain) {
            x->recovered = true;
            x->idle_since_ns = gw_clock_now_ns(gw_clock_system());
        }
    if (s->durable.mode != GWI_DURABILITY_NONE)
        d->sessions.forgotten = &s->durable.forgotten;
    return true;
}

enum gw_status gwi_dispatcher_create(struct gwi_server *server, uint32_t index,
                                     struct gwi_dispatcher **out)
{
    struct gwi_dispatcher *d = aligned_alloc(GW_CACHE_LINE, (sizeof *d + GW_CACHE_LINE - 1) /
                                                                GW_CACHE_LINE * GW_CACHE_LINE);
    if (!d)
        return GW_E_NOMEM;
    memset(d, 0, sizeof *d);
    d->server = server;
    d->index = index;
    d->held.before = d->held.after = &d->held;
    gwi_mailbox_init(&d->box);
    d->room_bytes = server->frame_bytes_max;
    d->reply_room = server->frame_bytes_max;
    d->room = malloc(d->room_bytes);
    d->reply = malloc(d->reply_room);
    d->park_bytes_max = server->memory.park_bytes_max;
    d->park_session_max = (uint32_t)(d->park_bytes_max / PARKED_BYTES / 2);
    uint64_t soft = server->memory.net_bytes_max / 8;
    d->backlog_soft = soft < GWI_BACKLOG_SOFT ? (size_t)soft : GWI_BACKLOG_SOFT;
    gwi_hold_init(d);
    bool sessions = take_sessions(d);
    d->sessions.count_max = 2 * server->memory.connections_max;
    d->sessions.granted_max = server->memory.windows_bytes_max / GW_APPLIED_SERIAL_BYTES;
    gwi_pace_init(&d->pace);
    d->looked_ns = d->came_ns = d->paced_ns = gw_clock_now_ns(gw_clock_system());
    d->haul = gwi_haul_create(d);
    d->control = index == 0 ? gwi_control_create(d) : NULL;
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.frame_bytes_max = server->frame_bytes_max;
    options.connections_max = server->memory.connections_max + 2 * GWI_CONNECTIONS_KEPT;
    options.receive_buffers = server->memory.receive_buffers;
    options.receive_buffer_bytes = server->memory.receive_buffer_bytes;
    options.transit_bytes_max = server->memory.net_bytes_max;
    options.stalled_ms_max = STALLED_MS_MAX;
    enum gw_status st = GW_E_NOMEM;
    if (d->room && d->reply && d->haul && (index || d->control) && sessions &&
        gwi_park_init(&d->park))
        st = gw_store_thread_open(server->store, &d->store);
    if (st == GW_OK) {
        d->epoch_slot = gw_store_epoch_slot(d->store);
        if (server->durable.mode != GWI_DURABILITY_NONE)
            gw_store_on_cross(d->store, gwi_durable_cross, d);
        st = gw_net_uring_create(&options, &gwi_link_events, d, &d->net);
    }
    if (st == GW_OK)
        st = gwi_commit_open(d);
    if (st == GW_OK)
        gw_net_set_sleep_hooks(d->net, NULL, woken);
    int device = st == GW_OK ? gw_store_wait_fd(d->store) : -1;
    d->device_watched = device >= 0 && gw_net_watch(d->net, device) == GW_OK;
    if (st != GW_OK) {
        dispatcher_free(d);
        return st;
    }
    *out = d;
    return GW_OK;
}

enum gw_status gwi_dispatcher_start(struct gwi_dispatcher *d)
{
    return pthread_create(&d->thread, NULL, run, d) == 0 ? GW_OK : GW_E_NOMEM;
}

void gwi_dispatcher_join(struct gwi_dispatcher *d)
{
    pthread_join(d->thread, NULL);
}

void gwi_dispatcher_destroy(struct gwi_dispatcher *d)
{
    if (d)
        dispatcher_free(d);
}
