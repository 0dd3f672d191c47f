/* crash.c - checkpoints of the world's servers, and the death of its parties: what is lost, what is
 * left, and how they come back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "world.h"

bool party_step(int party)
{
    if (party == PARTIES)
        return true;
    if (w->dying[party] || w->down[party])
        return false;
    w->step[party]++;
    for (int i = 0; i < 2; i++)
        if (w->plan.death[i].step == w->step[party] && (int)w->plan.death[i].party == party) {
            w->dying[party] = true;
            return false;
        }
    return true;
}

/* ---- truth --------------------------------------------------------------------------------- */

void truth_given(int s)
{
    uint64_t job = gw_target_job(w->server[s].target);
    if (w->dying[s] || (w->holder == s && w->tenure == job))
        return;
    w->given = w->truth;
    w->holder = s;
    w->tenure = job;
}

/* The holder has lost its memory: what it had executed since its image has not happened. */
static void truth_back(int s)
{
    if (w->holder != s)
        return;
    const struct image *image = w->server[s].image;
    const struct truth *was = image && image->tenure == w->tenure ? &image->truth : &w->given;
    for (int c = 0; c < CLIENTS; c++)
        for (uint64_t serial = 1; serial <= OPS; serial++) {
            if (!w->truth.history[c][serial].applied || was->history[c][serial].applied)
                continue;
            w->undone++;
            if (!client_keeps(c, serial))
                fail("server %d has lost serial %llu of client %d, which was durable", s,
                     (unsigned long long)serial, c);
        }
    w->truth = *was;
}

/* ---- checkpoints --------------------------------------------------------------------------- */

void image_free(struct image *image)
{
    if (!image)
        return;
    gw_test_image_free(&image->store);
    for (int d = 0; d < DISPATCHERS; d++)
        for (int c = 0; c < CLIENTS; c++)
            free(image->window[d][c].entries);
    free(image);
}

static void copy_window(struct window_image *out, const struct gw_applied_window *window, int c)
{
    if (!window)
        return;
    out->there = true;
    out->confirmed = window->confirmed;
    out->count = gw_applied_collect(window, (uint64_t)c, NULL, NULL, 0);
    out->entries = malloc((out->count + 1) * sizeof *out->entries);
    GW_ASSERT(out->entries != NULL);
    gw_applied_collect(window, (uint64_t)c, NULL, out->entries, out->count);
}

static void sync_done(void *arg, enum gw_status st)
{
    GW_ASSERT(st == GW_OK);
    *(bool *)arg = true;
}

static void sync_device(struct server *server)
{
    struct gw_device *device = gw_ram_device_face(server->device);
    bool done = false;
    enum gw_status st = device->sync(device, 0, sync_done, &done);
    GW_ASSERT(st == GW_OK || st == GW_PENDING);
    while (st == GW_PENDING && !done)
        gw_store_poll(server->dispatcher[0].thread);
}

/* No view is under way: the image belongs to one. Nor before there is one: an image that says "view
 * 0" would be taken for one of an earlier tenure (server/checkpoint.c, rule 2). */
static bool may_cut(const struct server *server)
{
    if (server->view.number == 0)
        return false;
    for (int d = 0; d < DISPATCHERS; d++)
        if (server->dispatcher[d].view.generation != server->view.generation)
            return false;
    return !server->image_next;
}

static struct image *cut(int s)
{
    struct server *server = &w->server[s];
    struct image *image = calloc(1, sizeof *image);
    GW_ASSERT(image != NULL);
    image->number = ++server->image_number;
    image->view = server->view.number;
    image->tenure = w->holder == s ? w->tenure : UINT64_MAX;
    image->truth = w->truth;
    gw_test_image_begin(&image->store, server->store, server->dispatcher[0].thread, image->number);
    for (int d = 0; d < DISPATCHERS; d++) {
        gw_store_enter(server->dispatcher[d].thread); /* crosses */
        gw_store_exit(server->dispatcher[d].thread);
        for (int c = 0; c < CLIENTS; c++)
            copy_window(&image->window[d][c], server->dispatcher[d].window[c], c);
    }
    while (!gw_store_cut_flushed(server->store, image->store.numbers.end))
        for (int d = 0; d < DISPATCHERS; d++)
            gw_store_poll(server->dispatcher[d].thread);
    gw_test_image_finish(&image->store, server->store);
    return image;
}

/* Written, synced, renamed. */
static void publish(int s, int unused)
{
    struct server *server = &w->server[s];
    (void)unused;
    sync_device(server);
    if (!party_step(s))
        return;
    image_free(server->image);
    server->image = server->image_next;
    server->image_next = NULL;
    w->checkpoints++;
    gw_store_retain(server->store, server->image->store.numbers.begin,
                    server->image->store.numbers.end);
    tier_share(s);
    struct reply durable = {.status = GW_END,
                            .position = server->image->number,
                            .incarnation = server->incarnation,
                            .map = server->map};
    for (int c = 0; c < CLIENTS; c++)
        conn_send(&w->client[c].conn[s], 1, &durable, sizeof durable);
    jobs_secured(s);
}

static void cut_if_asked(int s, int unused)
{
    struct server *server = &w->server[s];
    (void)unused;
    if (!server->checkpoint_asked)
        return;
    if (may_cut(server)) {
        server->checkpoint_asked = false;
        server->image_next = cut(s);
        party_call_in(s, below(6 * MS), publish, s, 0);
    } else {
        party_call_in(s, 100 * US + below(MS), cut_if_asked, s, 0);
    }
}

uint64_t checkpoint_ask(int s)
{
    struct server *server = &w->server[s];
    if (!server->device)
        return 0;
    if (!server->checkpoint_asked)
        party_call_in(s, below(MS), cut_if_asked, s, 0);
    server->checkpoint_asked = true;
    return server->image_number + 1;
}

void checkpoint_turn(int s, int unused)
{
    (void)checkpoint_ask(s);
    /* Seldom: then images are of another tenure than the present one. */
    uint64_t most = w->plan.seed % 2 ? 50 * MS : 800 * MS;
    party_call_in(s, 4 * MS + below(most), checkpoint_turn, s, unused);
}

void checkpoint_first(int s)
{
    struct server *server = &w->server[s];
    server->image = cut(s);
    sync_device(server);
}

/* ---- death --------------------------------------------------------------------------------- */

static void server_back(int s, int unused)
{
    if (!coordinator_map()) { /* nothing is served before the map is known (R23) */
        call_in(3 * MS + below(10 * MS), server_back, s, unused);
        return;
    }
    w->down[s] = false;
    server_open(s);
    server_start(s);
}

static void coordinator_back(int unused, int unused2)
{
    (void)unused;
    (void)unused2;
    w->down[PARTY_COORDINATOR] = false;
    coordinator_open();
}

static void break_all_of(int s)
{
    for (int c = 0; c < CLIENTS; c++)
        conn_break(&w->client[c].conn[s]);
    if (w->server[s].source || w->server[s].target) {
        conn_break(&w->control);
        for (int d = 0; d < DISPATCHERS; d++) {
            conn_break(&w->bulk[d]);
            conn_break(&w->pull[d]);
        }
    }
    conn_break(&w->coordinator[s]);
}

void party_die(int party)
{
    w->dying[party] = false;
    w->down[party] = true;
    w->life[party]++;
    w->deaths++;
    if (party == PARTY_COORDINATOR) {
        coordinator_close();
        for (int s = 0; s < SERVERS; s++)
            conn_break(&w->coordinator[s]);
        call_in(MS + below(60 * MS), coordinator_back, 0, 0);
        return;
    }
    truth_back(party);
    break_all_of(party);
    server_close(party);
    call_in(MS + below(80 * MS), server_back, party, 0);
}
