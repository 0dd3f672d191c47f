/* coordinator.c - one job after the other, its state moved by compare-and-set; messages to servers
 * get lost and are repeated. */
#include <stdio.h>
#include <string.h>

#include "world.h"

struct to_server {
    bool has_job;
    uint64_t map_version;
    int map_owner;
    struct gw_job job;
};

static void tell(int s)
{
    struct to_server m = {w->jobs_made > 0, w->map_version, w->map_owner, w->job};
    if (chance(85))
        conn_send(&w->coordinator[s], 1, &m, sizeof m);
}

void coordinator_send_map(int s)
{
    tell(s);
}

void coordinator_message(int s, const uint8_t *bytes)
{
    struct to_server m;
    memcpy(&m, bytes, sizeof m);
    if (chance(50))
        server_adopt_map(s, m.map_version, m.map_owner);
    if (m.has_job)
        jobs_told(s, &m.job);
    server_adopt_map(s, m.map_version, m.map_owner);
}

static void make_job(void)
{
    w->source = w->map_owner;
    w->target = 1 - w->map_owner;
    memset(&w->job, 0, sizeof w->job);
    w->job.id = ++w->jobs_made;
    w->job.state = GW_JOB_CREATED;
    snprintf(w->job.from, sizeof w->job.from, "s%d", w->source);
    snprintf(w->job.to, sizeof w->job.to, "s%d", w->target);
    snprintf(w->job.from_address, sizeof w->job.from_address, "h:%d", w->source);
    snprintf(w->job.to_address, sizeof w->job.to_address, "h:%d", w->target);
    for (int k = 0; k < KEYS; k++)
        gw_slots_add(&w->job.slots, w->slot[k]);
    w->job_open = true;
}

void coordinator_tick(int a, int b)
{
    bool gone = true;
    for (int s = 0; s < SERVERS; s++)
        gone &= !w->server[s].source && !w->server[s].target;
    if (!w->job_open && gone && w->jobs_made < JOBS)
        make_job();
    else if (w->job_open && w->job.state == GW_JOB_CREATED && chance(2)) {
        w->job.state = GW_JOB_CANCELLED;
        w->jobs_cancelled++;
        w->job_open = false;
    }
    for (int s = 0; s < SERVERS; s++)
        tell(s);
    call_in(5 * MS + below(40 * MS), coordinator_tick, a, b);
}

void coordinator_event(int s, const struct gw_job_event *event)
{
    if (event->job != w->job.id)
        return;
    switch (event->event) {
    case GW_JOB_ASK_COMMIT:
        if (w->job.state == GW_JOB_CREATED) {
            w->job.state = GW_JOB_COMMITTED;
            w->map_owner = w->target;
            w->job.commit_version = ++w->map_version;
        }
        break;
    case GW_JOB_GAVE_UP:
        if (w->job.state == GW_JOB_CREATED) {
            w->job.state = GW_JOB_FAILED;
            w->job_open = false;
        }
        break;
    case GW_JOB_ARRIVED:
        if (w->job.state == GW_JOB_COMMITTED)
            w->job.state = GW_JOB_CLOSING;
        break;
    case GW_JOB_CLOSED:
        if (w->job.state == GW_JOB_CLOSING) {
            w->job.state = GW_JOB_DONE;
            w->jobs_done++;
            w->job_open = false;
        }
        break;
    case GW_JOB_PROGRESS:
        return;
    }
    tell(s);
    if (chance(50))
        tell(1 - s);
}
