/* session_poll.c - a session's time: turns, waiting, and the descriptor for event loops.
 * A turn does everything that is due without the transport; polling is turn, transport, turn. */
#include "client/session.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

void gwi_session_turn(struct gw_session *s, bool force)
{
    gwi_route_adopt(s);
    if (s->running) {
        gwi_window_deadlines(s);
        if (s->failed > 0)
            gwi_window_deliver(s);
    }
    for (uint32_t i = 0; i < s->lane_count; i++)
        if (s->lane[i]->state != GWI_LANE_UP || s->lane[i]->abandoned > 0)
            gwi_lane_tick(s->lane[i]);
    if (s->wait_low_ns <= s->now_ns)
        s->dispatch_due = true;
    if (s->dispatch_due)
        gwi_route_dispatch(s);
    if (s->map_wanted || s->fetch)
        gwi_fetch_tick(s);
    if (s->hurry || s->sync_to != 0)
        gwi_keep_tick(s);
    for (uint32_t i = 0; i < s->lane_count; i++) {
        struct gwi_lane *lane = s->lane[i];
        if (lane->count == 0)
            continue;
        if (lane->state == GWI_LANE_DOWN)
            gwi_lane_tick(lane); /* the dispatch has just given it work */
        gwi_lane_send(lane, force);
    }
}

uint64_t gwi_session_next_ns(struct gw_session *s)
{
    uint64_t next_ns = UINT64_MAX;
#define SOONER(at_ns)                                                                              \
    do {                                                                                           \
        uint64_t candidate_ns_ = (at_ns);                                                          \
        if (candidate_ns_ < next_ns)                                                               \
            next_ns = candidate_ns_;                                                               \
    } while (0)
    if (s->failed > 0 || s->dispatch_due)
        return s->now_ns;
    if (s->in_flight > 0 && s->deadline_low_ns != UINT64_MAX)
        SOONER(s->deadline_low_ns > s->deadline_check_ns ? s->deadline_low_ns
                                                         : s->deadline_check_ns);
    if (s->queued > 0)
        SOONER(s->wait_low_ns);
    if (s->fetch)
        SOONER(s->fetch_until_ns);
    else if (s->map_wanted)
        SOONER(gwi_cluster_fetch_at(s->cluster, s->now_ns));
    for (uint32_t i = 0; i < s->lane_count; i++) {
        const struct gwi_lane *lane = s->lane[i];
        if (lane->state == GWI_LANE_OPENING)
            SOONER(lane->opened_ns + GWI_HANDSHAKE_NS);
        if (lane->state == GWI_LANE_DOWN && gwi_lane_wanted(lane))
            SOONER(lane->retry_ns);
        if (lane->state == GWI_LANE_UP && lane->count > 0 && lane->resume_ns > s->now_ns)
            SOONER(lane->resume_ns);
        if (lane->state == GWI_LANE_UP && lane->abandoned > 0)
            SOONER(lane->heard_ns + GWI_SILENCE_NS);
    }
#undef SOONER
    return next_ns;
}

/* So that the descriptor becomes readable for what is due by time alone. */
static void set_timer(struct gw_session *s)
{
    uint64_t at_ns = gwi_session_next_ns(s);
    if (at_ns == s->timer_set_ns)
        return;
    uint64_t delay_ns = at_ns == UINT64_MAX ? 0 : at_ns > s->now_ns ? at_ns - s->now_ns : 1;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(delay_ns / 1000000000u),
                                           .tv_nsec = (long)(delay_ns % 1000000000u)}};
    if (timerfd_settime(s->timer_fd, 0, &when, NULL) == 0)
        s->timer_set_ns = at_ns;
}

static void leave(struct gw_session *s)
{
    s->clock_stale = true;
    if (s->timer_fd >= 0)
        set_timer(s);
}

void gw_flush(struct gw_session *s)
{
    if (s->running) {
        /* Inside of a callback the session is in the midst of something: only what certainly may
         * leave does, the rest at the end of the poll. */
        for (uint32_t i = 0; i < s->lane_count; i++)
            gwi_lane_send(s->lane[i], true);
        return;
    }
    gwi_session_clock(s);
    gwi_session_own(s);
    gwi_session_turn(s, true);
    gw_net_flush(s->net);
    leave(s);
}

static bool has_marks(const struct gw_session *s)
{
    for (uint32_t i = 0; i < s->lane_count; i++)
        if (s->lane[i]->marks > 0)
            return true;
    return false;
}

/* Is there anything to wait for? Abandoned operations owe no callback, but whoever waits for a
 * place in the window waits for them, and for what is kept. */
static bool is_busy(const struct gw_session *s, int timeout_ms)
{
    if (s->syncing)
        return !gwi_keep_secured(s, s->sync_to);
    if (s->in_flight > 0 || (s->refused && s->kept > 0))
        return true;
    return timeout_ms > 0 && (s->oldest != s->next || (s->on_durable && has_marks(s)));
}

int gw_poll(struct gw_session *s, int timeout_ms)
{
    if (s->running)
        return 0; /* from inside a callback: the poll that runs it goes on anyway */
    gwi_session_clock(s);
    uint64_t before = s->callbacks;
    uint64_t end_ns = timeout_ms < 0 ? UINT64_MAX : s->now_ns + (uint64_t)timeout_ms * GWI_MS;
    gwi_session_own(s);
    s->running = true;
    s->room_made = false; /* who was refused for lack of it may try again */
    for (;;) {
        gwi_session_turn(s, false);
        uint64_t wait_ns = 0;
        if (s->callbacks == before && is_busy(s, timeout_ms) && s->now_ns < end_ns) {
            uint64_t until_ns = gwi_session_next_ns(s);
            if (until_ns > end_ns)
                until_ns = end_ns;
            wait_ns = until_ns == UINT64_MAX ? UINT64_MAX
                      : until_ns > s->now_ns ? until_ns - s->now_ns
                                             : 0;
        }
        gw_net_poll(s->net, wait_ns);
        gwi_session_clock(s);
        if (s->on_durable)
            gwi_keep_tell(s);
        if (s->callbacks != before || s->room_made || !is_busy(s, timeout_ms) ||
            s->now_ns >= end_ns)
            break;
    }
    gwi_session_turn(s, false); /* what the callbacks have issued leaves now */
    gw_net_flush(s->net);
    s->running = false;
    leave(s);
    return (int)(s->callbacks - before);
}

enum gw_status gw_drain(struct gw_session *s, int timeout_ms)
{
    if (s->running)
        return GW_E_INVALID; /* would wait for the very callback that calls it */
    gw_flush(s);
    uint64_t end_ns = timeout_ms < 0 ? UINT64_MAX : s->now_ns + (uint64_t)timeout_ms * GWI_MS;
    s->waits = true;
    if (s->held > 0)
        gwi_keep_hurry(s, NULL);
    while (s->in_flight > 0 && s->now_ns < end_ns) {
        uint64_t left_ms = (end_ns - s->now_ns + GWI_MS - 1) / GWI_MS;
        gw_poll(s, end_ns == UINT64_MAX || left_ms > 1000 ? 1000 : (int)left_ms);
    }
    s->waits = false;
    return s->in_flight > 0 ? GW_E_TIMEOUT : GW_OK;
}

int gw_session_eventfd(struct gw_session *s)
{
    if (s->epoll_fd >= 0)
        return s->epoll_fd;
    gwi_session_own(s);
    int net_fd = gw_net_eventfd(s->net);
    if (net_fd < 0)
        return -1;
    int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer_fd < 0)
        return -1;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        goto fail_timer;
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, net_fd, &event) != 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event) != 0)
        goto fail_epoll;
    s->epoll_fd = epoll_fd;
    s->timer_fd = timer_fd;
    s->timer_set_ns = UINT64_MAX;
    gwi_session_clock(s);
    leave(s);
    return epoll_fd;

fail_epoll:
    close(epoll_fd);
fail_timer:
    close(timer_fd);
    return -1;
}
