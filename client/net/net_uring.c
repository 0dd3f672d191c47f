/* net_uring.c - TCP on io_uring: the ring, the poll loop, sleeping and waking, listeners, ticks.
 *
 * A turn: what was resumed is delivered, then what has completed (at most what was there when the
 * turn began), then everything committed is submitted in one system call, which also runs the
 * kernel's deferred work, so that the next turn usually finds its completions without another call.
 * With DEFER_TASKRUN the kernel does nothing for us until we enter it: it sets IORING_SQ_TASKRUN in
 * shared memory when there is something to do, and that word is what the busy wait looks at,
 * without a call.
 *
 * Busy wait: the budget grows when an event came soon enough for waiting to have paid, and shrinks
 * to nothing when events are far apart; an idle net blocks at once and costs nothing (DESIGN,
 * section 6).
 *
 * Yielding: between two looks a busy wait yields, for with more busy threads than processors those
 * that wait would take the time of those that they wait for (three threads on two processors: half
 * of the throughput). Alone on its processor that costs a third of a microsecond. Who has not
 * waited for BUSY_NS yields too before he goes on: two that have always work take turns in this
 * time and not in the scheduler's slices of milliseconds, for each of which the other one's
 * requests would wait. Somebody who is none of us keeps the processor for a whole slice, though:
 * behind such a yield comes none for a while, longer each time.
 *
 * Wake-up (uring_wake): waker and owner each write one word and then read the other's (Dekker), so
 * at least one of them sees the other. Both stores and loads are seq_cst: release and acquire would
 * allow both reads to come before both writes, and a wake-up would be lost. */
#include "client/net/net_uring.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "index/base/clock.h"
#include "index/base/log_line.h"

#define SPIN_PAUSES      32u         /* between two looks at the clock */
#define BUSY_NS          200000ull   /* of work without a wait: then others have their turn */
#define YIELD_ALONE_NS   4000ull     /* in one that took longer somebody else ran */
#define YIELD_NS_MAX     1000000ull  /* one that took longer went to somebody who does not wait */
#define YIELD_REST_MIN   10000000ull /* behind such a one; twice as long behind the next */
#define YIELD_REST_MAX   80000000ull
#define ROUNDS_PER_CLOCK 64u  /* without callbacks, before the deadline is looked at */
#define SUBMIT_TRIES_MAX 1000 /* the kernel is short of memory: beyond this we cannot go on */

uint64_t gwi_uring_now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

/* The first to submit is the owner (net.h, thread rule). */
static void ring_enable(struct uring_net *net)
{
    if (net->enabled)
        return;
    /* By hand: liburing 2.3 declares io_uring_enable_rings but its shared library does not export
     * it. */
    long rc =
        syscall(__NR_io_uring_register, net->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    GW_ASSERT(rc == 0);
    net->enabled = true;
}

static bool ring_wants_us(const struct uring_net *net)
{
    return __atomic_load_n(net->ring.sq.kflags, __ATOMIC_RELAXED) &
           (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static void ring_submit(struct uring_net *net)
{
    ring_enable(net);
    int rc = io_uring_submit_and_get_events(&net->ring);
    GW_ASSERT(rc != -EEXIST); /* another thread than the owner */
}

struct io_uring_sqe *gwi_uring_sqe(struct uring_net *net)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&net->ring);
    for (int i = 0; !sqe && i < SUBMIT_TRIES_MAX; i++) {
        ring_submit(net);
        sqe = io_uring_get_sqe(&net->ring);
    }
    GW_ASSERT(sqe != NULL);
    return sqe;
}

static void outside_signal(struct uring_net *net)
{
    const uint64_t one = 1;
    ssize_t rc = write(net->outside_fd, &one, sizeof one);
    (void)rc; /* EAGAIN: it is readable already */
}

void gwi_uring_kick(struct uring_net *net)
{
    /* Relaxed: our own word. */
    if (net->outside_fd >= 0 && atomic_load_explicit(&net->asleep, memory_order_relaxed))
        outside_signal(net);
}

/* ---- listeners, wake-up and tick: the net's own operations ---- */

static void accept_arm(struct uring_net *net, uint32_t index)
{
    struct uring_listener *l = &net->listeners[index];
    struct io_uring_sqe *sqe = gwi_uring_sqe(net);
    io_uring_prep_multishot_accept(sqe, l->fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, (uint64_t)index << 8 | OP_ACCEPT);
    l->armed = true;
    net->inflight++;
}

static void accept_done(struct uring_net *net, uint32_t index, int result, uint32_t flags)
{
    struct uring_listener *l = &net->listeners[index];
    if (!(flags & IORING_CQE_F_MORE)) {
        l->armed = false;
        net->inflight--;
    }
    if (result >= 0)
        gwi_uring_accepted(net, result);
    if (l->armed)
        return;
    if (result >= 0 || result == -ECONNABORTED || result == -EINTR) {
        accept_arm(net, index);
        return;
    }
    /* Out of descriptors or memory: the peer still stands in the queue, so that arming again now
     * would fail again and spin. The tick does it. */
    gw_debug("net.accept", "errno=%d", -result);
    l->paused = true;
}

static void accept_resume(struct uring_net *net)
{
    for (uint32_t i = 0; i < net->listener_count; i++) {
        if (net->listeners[i].paused) {
            net->listeners[i].paused = false;
            accept_arm(net, i);
        }
    }
}

static enum gw_status uring_listen(struct gw_net *base, const char *text, char *bound)
{
    struct uring_net *net = (struct uring_net *)base;
    union gwi_address address;
    if (net->listener_count == GWI_LISTENERS_MAX)
        return GW_E_LIMIT;
    if (gwi_address_parse(text, &address) != GW_OK)
        return GW_E_INVALID;
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        goto fail_errno;
    /* A server that restarts must not wait for its old connections to time out. */
    const int on = 1;
    socklen_t bytes = gwi_address_bytes(&address);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, &address.any, bytes) != 0 || listen(fd, GWI_LISTEN_BACKLOG) != 0 ||
        getsockname(fd, &address.any, &bytes) != 0)
        goto fail_errno;
    if (bound)
        gwi_address_format(&address, bound);
    net->listeners[net->listener_count] = (struct uring_listener){.fd = fd};
    accept_arm(net, net->listener_count++);
    return GW_OK;

fail_errno:;
    int error = errno;
    gw_debug("net.listen", "address=%s errno=%d", text, error);
    if (fd >= 0)
        close(fd);
    switch (error) {
    case EADDRINUSE:
        return GW_E_BUSY;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return GW_E_INVALID;
    default:
        return GW_E_IO;
    }
}

static void wake_arm(struct uring_net *net)
{
    struct io_uring_sqe *sqe = gwi_uring_sqe(net);
    io_uring_prep_read(sqe, net->wake_fd, &net->wake_value, sizeof net->wake_value, 0);
    io_uring_sqe_set_data64(sqe, OP_WAKE);
    net->wake_armed = true;
    net->inflight++;
}

static void tick_arm(struct uring_net *net)
{
    bool needed = !gwi_link_alone(&net->timed) || !gwi_link_alone(&net->crowded);
    for (uint32_t i = 0; i < net->listener_count; i++)
        needed |= net->listeners[i].paused;
    if (net->tick_armed || !needed)
        return;
    net->tick_time = (struct __kernel_timespec){.tv_sec = 0, .tv_nsec = (long long)GWI_TICK_NS};
    struct io_uring_sqe *sqe = gwi_uring_sqe(net);
    io_uring_prep_timeout(sqe, &net->tick_time, 0, 0);
    io_uring_sqe_set_data64(sqe, OP_TICK);
    net->tick_armed = true;
    net->inflight++;
}

/* ---- a turn ---- */

static void completion(struct uring_net *net, uint64_t user_data, int result, uint32_t flags)
{
    enum uring_op op = (enum uring_op)(user_data & 0xFF);
    struct uring_conn *c = op >= OP_CONNECT ? gwi_uring_find(net, user_data) : NULL;
    switch (op) {
    case OP_NONE:
        break;
    case OP_ACCEPT:
        accept_done(net, (uint32_t)(user_data >> 8) & 0xFFFFFFu, result, flags);
        break;
    case OP_WAKE:
        net->wake_armed = false;
        net->inflight--;
        wake_arm(net);
        break;
    case OP_TICK:
        net->tick_armed = false;
        net->inflight--;
        accept_resume(net);
        gwi_uring_tick(net);
        break;
    case OP_WATCH:
        gwi_uring_watch_done(net);
        break;
    case OP_CONNECT:
        if (c)
            gwi_uring_connect_done(net, c, result);
        break;
    case OP_RECV:
        gwi_uring_recv_done(net, c, result, flags);
        break;
    case OP_SEND:
        if (c)
            gwi_uring_send_done(net, c, result);
        break;
    }
}

static void run_completions(struct uring_net *net)
{
    uint32_t present = io_uring_cq_ready(&net->ring);
    while (present-- > 0) {
        struct io_uring_cqe *cqe;
        if (io_uring_peek_cqe(&net->ring, &cqe) != 0)
            return;
        uint64_t user_data = cqe->user_data;
        int result = cqe->res;
        uint32_t flags = cqe->flags;
        io_uring_cqe_seen(&net->ring, cqe); /* before the callbacks: they may submit */
        completion(net, user_data, result, flags);
    }
}

static void turn(struct uring_net *net)
{
    if (ring_wants_us(net))
        ring_submit(net);
    gwi_uring_run_ready(net);
    run_completions(net);
    gwi_uring_run_ending(net);
    gwi_uring_run_starved(net);
    gwi_uring_crowd_turn(net);
    gwi_uring_run_dirty(net);
    tick_arm(net);
    if (io_uring_sq_ready(&net->ring) > 0)
        ring_submit(net);
}

static bool has_work(const struct uring_net *net)
{
    return io_uring_cq_ready(&net->ring) > 0 || ring_wants_us(net) ||
           !gwi_link_alone(&net->ready) || !gwi_link_alone(&net->ending) ||
           !gwi_link_alone(&net->starved);
}

static bool take_wake(struct uring_net *net)
{
    /* Relaxed: seen late only delays to the check before sleeping. Acquire in the exchange pairs
     * with the waker's store: what it queued before waking us is visible to our caller. */
    return atomic_load_explicit(&net->wake_pending, memory_order_relaxed) &&
           atomic_exchange_explicit(&net->wake_pending, 0, memory_order_acquire);
}

static void uring_wake(struct gw_net *base)
{
    struct uring_net *net = (struct uring_net *)base;
    /* Seq_cst (Dekker, file head). Who finds it set already may leave: the one that set it rings,
     * or the owner has not yet looked. */
    if (atomic_exchange_explicit(&net->wake_pending, 1, memory_order_seq_cst))
        return;
    if (atomic_load_explicit(&net->asleep, memory_order_seq_cst)) {
        const uint64_t one = 1;
        ssize_t rc = write(net->wake_fd, &one, sizeof one);
        GW_ASSERT(rc == sizeof one);
    }
}

/* ---- waiting ---- */

/* An event came `idle_ns` after we had run out of work: would a busy wait have paid? Blocking
 * itself delays by up to 100 us (a virtual machine's wake-up, twice), so a somewhat longer wait
 * still says that events are near. */
static void spin_learn(struct uring_net *net, uint64_t idle_ns)
{
    uint64_t max = net->base.options.spin_ns_max;
    if (idle_ns <= 4 * max) {
        uint64_t more = net->spin_ns + net->spin_ns / 2 + max / 8;
        net->spin_ns = more < max ? more : max;
    } else {
        net->spin_ns = net->spin_ns / 4 < max / 32 ? 0 : net->spin_ns / 4;
    }
}

static void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A yield that began at `start` has taken too long: none for a while. */
static void yield_rest(struct uring_net *net, uint64_t start, uint64_t end)
{
    bool again = start - net->yield_from_ns < 8 * net->yield_rest_ns;
    uint64_t rest = again ? 2 * net->yield_rest_ns : YIELD_REST_MIN;
    net->yield_rest_ns = rest < YIELD_REST_MAX ? rest : YIELD_REST_MAX;
    net->yield_from_ns = end + net->yield_rest_ns;
}

/* At `now`; returns when it has ended. */
static uint64_t yield_at(struct uring_net *net, uint64_t now)
{
    bool yields = now >= net->yield_from_ns;
    if (yields)
        (void)sched_yield(); /* cannot fail */
    uint64_t end = gwi_uring_now_ns();
    if (end - now > YIELD_ALONE_NS)
        net->given_ns += end - now;
    if (yields && end - now > YIELD_NS_MAX)
        yield_rest(net, now, end);
    net->waited_ns = end;
    return end;
}

/* Who does not wait for anything gives way now and then (file head). */
static void give_way(struct uring_net *net)
{
    if (net->base.options.spin_ns_max == 0)
        return;
    uint64_t now = gwi_uring_now_ns();
    if (now - net->waited_ns >= BUSY_NS)
        (void)yield_at(net, now);
}

static bool spin(struct uring_net *net, uint64_t start, uint64_t budget_ns)
{
    uint64_t now = start;
    for (;;) {
        for (uint32_t i = 0; i < SPIN_PAUSES; i++) {
            if (has_work(net) || atomic_load_explicit(&net->wake_pending, memory_order_relaxed))
                return true;
            cpu_relax();
        }
        if (now - start - net->given_ns >= budget_ns) /* what others took was no waiting */
            return false;
        now = yield_at(net, now);
    }
}

/* A wait of so long has ended. */
static void idle_for(struct uring_net *net, uint64_t ns)
{
    net->base.stats.idle_ns += ns > net->given_ns ? ns - net->given_ns : 0;
}

/* Waits for work, for at most budget_ns from `start` on. Returns false after a signal. */
static bool uring_wait(struct uring_net *net, uint64_t start, uint64_t budget_ns)
{
    gwi_uring_watch_arm(net);
    if (io_uring_sq_ready(&net->ring) > 0)
        ring_submit(net);
    uint64_t spin_ns = net->spin_ns < budget_ns ? net->spin_ns : budget_ns;
    net->given_ns = 0;
    if (spin_ns > 0 && spin(net, start, spin_ns)) {
        idle_for(net, gwi_uring_now_ns() - start);
        spin_learn(net, 0);
        return true;
    }
    uint64_t spun_ns = spin_ns > 0 ? gwi_uring_now_ns() - start : 0;
    if (spun_ns >= budget_ns) { /* to sleep as well would be too late, and perhaps elsewhere */
        idle_for(net, spun_ns);
        return true;
    }
    int rc = 0;
    if (net->base.before_sleep)
        net->base.before_sleep(net->base.ctx); /* before the check: it may itself wake us */
    atomic_store_explicit(&net->asleep, 1, memory_order_seq_cst); /* Dekker, file head */
    if (!atomic_load_explicit(&net->wake_pending, memory_order_seq_cst)) {
        struct io_uring_cqe *cqe;
        uint64_t left_ns = budget_ns == UINT64_MAX ? 0 : budget_ns - spun_ns;
        struct __kernel_timespec left = {.tv_sec = (long long)(left_ns / 1000000000),
                                         .tv_nsec = (long long)(left_ns % 1000000000)};
        net->base.stats.waits++;
        rc = io_uring_submit_and_wait_timeout(&net->ring, &cqe, 1,
                                              budget_ns == UINT64_MAX ? NULL : &left, NULL);
        GW_ASSERT(rc != -EEXIST); /* another thread than the owner */
    }
    /* Relaxed: a waker that still sees 1 rings once too often, nothing else. */
    atomic_store_explicit(&net->asleep, 0, memory_order_relaxed);
    if (net->base.after_sleep)
        net->base.after_sleep(net->base.ctx);
    net->waited_ns = gwi_uring_now_ns();
    idle_for(net, net->waited_ns - start);
    spin_learn(net, net->waited_ns - start);
    return rc != -EINTR;
}

/* The owner may sleep elsewhere now (gw_net_eventfd): wakers must ring, and what is left to do must
 * show at the descriptor. */
static void leave(struct uring_net *net)
{
    if (net->outside_fd < 0)
        return;
    atomic_store_explicit(&net->asleep, 1, memory_order_seq_cst); /* Dekker, file head */
    if (atomic_load_explicit(&net->wake_pending, memory_order_seq_cst) || has_work(net))
        outside_signal(net);
}

static void enter(struct uring_net *net)
{
    ring_enable(net);
    if (net->outside_fd < 0)
        return;
    atomic_store_explicit(&net->asleep, 0, memory_order_relaxed); /* as in uring_wait */
    /* Reset after the deferred work, whose completions ring too and are seen by this turn, and
     * before looking at completions: what comes later rings again. */
    if (ring_wants_us(net))
        ring_submit(net);
    uint64_t count;
    ssize_t rc = read(net->outside_fd, &count, sizeof count);
    (void)rc; /* EAGAIN: was not readable */
}

static uint32_t uring_poll(struct gw_net *base, uint64_t timeout_ns)
{
    struct uring_net *net = (struct uring_net *)base;
    const uint32_t before = net->callbacks;
    uint32_t rounds = 0;
    uint64_t deadline = 0; /* 0: not asked for the time yet, nothing has been waited for */
    net->watch_fired = false;
    give_way(net);
    enter(net);
    for (;;) {
        bool woken = take_wake(net);
        turn(net);
        if (net->callbacks != before || woken || net->watch_fired || timeout_ns == 0)
            break;
        bool busy = has_work(net); /* of the kind that runs no callback */
        if (busy && ++rounds % ROUNDS_PER_CLOCK != 0)
            continue;
        uint64_t now = gwi_uring_now_ns();
        if (deadline == 0)
            deadline = timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX;
        if (now >= deadline)
            break;
        if (!busy && !uring_wait(net, now, deadline == UINT64_MAX ? UINT64_MAX : deadline - now))
            break;
    }
    leave(net);
    return net->callbacks - before;
}

static void uring_flush(struct gw_net *base)
{
    struct uring_net *net = (struct uring_net *)base;
    gwi_uring_run_dirty(net);
    if (io_uring_sq_ready(&net->ring) > 0) {
        ring_enable(net);
        int rc = io_uring_submit(&net->ring);
        GW_ASSERT(rc != -EEXIST); /* another thread than the owner */
    }
}

static int uring_eventfd(struct gw_net *base)
{
    struct uring_net *net = (struct uring_net *)base;
    if (net->outside_fd >= 0)
        return net->outside_fd;
    ring_enable(net);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -1;
    int rc = io_uring_register_eventfd(&net->ring, fd);
    if (rc < 0) {
        gw_debug("net.eventfd", "errno=%d", -rc);
        close(fd);
        return -1;
    }
    net->outside_fd = fd;
    ring_submit(net); /* the wake-up's read must be with the kernel before the caller sleeps */
    leave(net);
    return fd;
}

/* ---- creation and end ---- */

static enum gw_status ring_init(struct uring_net *net)
{
    /* Best first; 6.1 (Debian 12) has them all, older kernels and some sandboxes refuse the first.
     */
    static const uint32_t flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        struct io_uring_params params = {
            .flags = flags[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
                     IORING_SETUP_SUBMIT_ALL,
            .cq_entries = GWI_URING_COMPLETIONS,
        };
        rc = io_uring_queue_init_params(GWI_URING_ENTRIES, &net->ring, &params);
        if (rc == 0)
            return GW_OK;
        if (rc != -EINVAL)
            break;
    }
    gw_debug("net.ring", "errno=%d", -rc);
    return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE ? GW_E_NOMEM : GW_E_UNSUPPORTED;
}

/* Takes back everything that the kernel holds: its answers would go into memory that is about to
 * be freed. After the owner thread's end the kernel has done so itself. */
static void ring_quiesce(struct uring_net *net)
{
    struct __kernel_timespec slice = {.tv_nsec = 10000000};
    if (!net->enabled)
        return;
    for (uint32_t i = 0; net->inflight > 0 && i < GWI_DESTROY_WAITS_MAX; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&net->ring);
        if (sqe) {
            io_uring_prep_cancel(sqe, NULL, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
            io_uring_sqe_set_data64(sqe, OP_NONE);
        }
        struct io_uring_cqe *cqe;
        if (io_uring_submit_and_wait_timeout(&net->ring, &cqe, 1, &slice, NULL) == -EEXIST)
            return;
        while (io_uring_peek_cqe(&net->ring, &cqe) == 0) {
            enum uring_op op = (enum uring_op)(cqe->user_data & 0xFF);
            if (op == OP_ACCEPT && cqe->res >= 0)
                close(cqe->res);
            if (op != OP_NONE && !(cqe->flags & IORING_CQE_F_MORE))
                net->inflight--;
            io_uring_cqe_seen(&net->ring, cqe);
        }
    }
}

static void uring_destroy(struct gw_net *base)
{
    struct uring_net *net = (struct uring_net *)base;
    ring_quiesce(net);
    io_uring_queue_exit(&net->ring);
    for (uint32_t slot = 0; slot < net->base.options.connections_max; slot++) {
        struct uring_conn *c = net->conns[slot];
        if (!c)
            continue;
        c->recv_armed = c->send_inflight = c->connect_inflight = false;
        free(c->handover);
        gwi_uring_conn_free(net, c);
    }
    for (uint32_t i = 0; i < net->listener_count; i++)
        close(net->listeners[i].fd);
    if (net->outside_fd >= 0)
        close(net->outside_fd);
    close(net->wake_fd);
    gwi_uring_buffers_fini(net);
    gwi_chunks_fini(&net->in);
    gwi_chunks_fini(&net->out);
    free(net->conns);
    free(net->generations);
    free(net->free_slots);
    free(net);
}

static const struct gw_net_ops uring_ops = {
    .destroy = uring_destroy,
    .listen = uring_listen,
    .connect = gwi_uring_connect,
    .flush = uring_flush,
    .poll = uring_poll,
    .wake = uring_wake,
    .eventfd = uring_eventfd,
    .watch = gwi_uring_watch_descriptor,
    .crowded = gwi_uring_crowded,
    .memory = gwi_uring_memory,
    .reserve = gwi_uring_reserve,
    .commit = gwi_uring_commit,
    .backlog = gwi_uring_backlog,
    .close = gwi_uring_close,
    .close_after_flush = gwi_uring_close_after_flush,
    .pause = gwi_uring_pause,
    .resume = gwi_uring_resume,
    .peer = gwi_uring_peer,
    .detach = gwi_uring_detach,
    .attach = gwi_uring_attach,
};

enum gw_status gw_net_uring_create(const struct gw_net_options *options,
                                   const struct gw_net_events *events, void *ctx,
                                   struct gw_net **out)
{
    struct uring_net *net = aligned_alloc(_Alignof(struct uring_net), sizeof *net);
    if (!net)
        return GW_E_NOMEM;
    memset(net, 0, sizeof *net);
    gwi_net_init(&net->base, &uring_ops, options, events, ctx);
    uint32_t slots = net->base.options.connections_max;
    enum gw_status st = GW_E_INVALID;
    if (slots >= 1u << 24)
        goto fail_net;
    net->outside_fd = -1;
    net->watch_fd = -1;
    gwi_link_init(&net->dirty);
    gwi_link_init(&net->ready);
    gwi_link_init(&net->starved);
    gwi_link_init(&net->ending);
    gwi_link_init(&net->timed);
    gwi_link_init(&net->crowded);
    if (net->base.options.transit_bytes_max < UINT64_MAX)
        net->in.cached_bytes_max = net->out.cached_bytes_max =
            (size_t)net->base.options.transit_bytes_max / 8;

    st = GW_E_NOMEM;
    net->conns = calloc(slots, sizeof(struct uring_conn *));
    net->generations = calloc(slots, sizeof *net->generations);
    net->free_slots = calloc(slots, sizeof *net->free_slots);
    if (!net->conns || !net->generations || !net->free_slots)
        goto fail_slots;
    for (uint32_t i = 0; i < slots; i++)
        net->free_slots[i] = slots - 1 - i;
    net->free_count = slots;

    /* Blocking: io_uring would answer EAGAIN for a non-blocking one instead of waiting. */
    net->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (net->wake_fd < 0)
        goto fail_slots;
    st = ring_init(net);
    if (st != GW_OK)
        goto fail_ring;
    st = gwi_uring_buffers_init(net);
    if (st != GW_OK)
        goto fail_buffers;
    wake_arm(net);
    *out = &net->base;
    return GW_OK;

fail_buffers:
    io_uring_queue_exit(&net->ring);
fail_ring:
    close(net->wake_fd);
fail_slots:
    free(net->free_slots);
    free(net->generations);
    free(net->conns);
fail_net:
    free(net);
    return st;
}
