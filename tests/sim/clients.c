/* clients.c - sessions with one operation under way each, that resend what they do not know and
 * replay, in order, what a server has lost, and the truth that every execution is compared with. */
#include <string.h>

#include "world.h"

/* What the client waits for an answer to: a replay, the oldest first, else the operation under way.
 * NULL: nothing, or it may not go out: something that an earlier owner was asked for is not durable
 * there, and would be replayed behind it (MIGRATION R6). */
static struct request *wanted(struct client *client)
{
    for (uint32_t i = 0; i < client->kept_count; i++)
        if (client->kept[i].replay)
            return &client->kept[i].request;
    for (uint32_t i = 0; i < client->kept_count; i++)
        if (client->kept[i].server != client->map.owner)
            return NULL;
    return client->busy ? &client->request : NULL;
}

static void send_request(int c)
{
    struct client *client = &w->client[c];
    struct request *r = wanted(client);
    if (!r || client->map.owner < 0)
        return;
    r->view = client->map.view[client->map.owner];
    r->confirmed = client->kept_count ? client->kept[0].request.serial : r->serial;
    conn_send(&client->conn[client->map.owner], 0, r, sizeof *r);
}

static void resend(int c, int serial)
{
    const struct request *r = wanted(&w->client[c]);
    if (r && (int)r->serial == serial)
        send_request(c);
}

/* Nobody answers, or nobody may be asked yet. */
static void keep_asking(int c, int unused)
{
    send_request(c);
    call_in(30 * MS + below(30 * MS), keep_asking, c, unused);
}

static void next(int c, int unused)
{
    (void)unused;
    struct client *client = &w->client[c];
    if (client->kept_count + 2 > KEPT_MAX) { /* a bound of the library's, too */
        call_in(MS, next, c, 0);
        return;
    }
    client->request = (struct request){.client = c,
                                       .key = (int)below(KEYS),
                                       .serial = client->done + 1,
                                       .kind = chance(55)   ? OP_ADD
                                               : chance(35) ? OP_DELETE
                                               : chance(40) ? OP_PUT
                                                            : OP_READ};
    client->busy = true;
    send_request(c);
}

void client_start(int c, int unused)
{
    next(c, unused);
    keep_asking(c, unused);
}

bool client_keeps(int c, uint64_t serial)
{
    const struct client *client = &w->client[c];
    for (uint32_t i = 0; i < client->kept_count; i++)
        if (client->kept[i].request.serial == serial)
            return true;
    return client->busy && client->request.serial == serial;
}

static void forget(struct client *client, uint32_t i)
{
    client->kept_count--;
    memmove(&client->kept[i], &client->kept[i + 1], (client->kept_count - i) * sizeof(struct kept));
}

/* What the server says is durable; and if it is another process than before: what was not is to be
 * done again. */
static void note_durable(int c, int s, const struct reply *reply)
{
    struct client *client = &w->client[c];
    bool restarted = client->incarnation[s] != 0 && client->incarnation[s] != reply->incarnation;
    client->incarnation[s] = reply->incarnation;
    for (uint32_t i = 0; i < client->kept_count;) {
        struct kept *kept = &client->kept[i];
        bool here = kept->server == s && !kept->replay;
        kept->replay |= here && restarted; /* positions are of one life */
        if (here && !restarted && kept->position <= reply->position)
            forget(client, i);
        else
            i++;
    }
    if (client->kept_count == 0 || restarted)
        send_request(c);
}

/* Of a serial that is kept until it is durable. */
static void note_answer(struct client *client, int s, const struct request *r,
                        const struct reply *reply)
{
    uint32_t i = 0;
    while (i < client->kept_count && client->kept[i].request.serial < r->serial)
        i++;
    bool there = i < client->kept_count && client->kept[i].request.serial == r->serial;
    if (r->kind == OP_READ || reply->position == 0) {
        if (there)
            forget(client, i);
        return;
    }
    if (!there) {
        memmove(&client->kept[i + 1], &client->kept[i],
                (client->kept_count - i) * sizeof(struct kept));
        client->kept_count++;
    }
    client->kept[i] = (struct kept){.request = *r,
                                    .server = s,
                                    .incarnation = reply->incarnation,
                                    .position = reply->position};
}

static void adopt(struct client *client, const struct reply *reply)
{
    if (reply->map.version > client->map.version)
        client->map = reply->map;
}

static void check_answer(int c, const struct request *r, const struct reply *reply)
{
    const struct history *known = &w->truth.history[c][reply->serial];
    if (!known->applied)
        fail("client %d was answered serial %llu that was never applied", c,
             (unsigned long long)reply->serial);
    else if (known->result.status != reply->status || known->result.number != reply->number)
        fail("client %d got %s %lld for serial %llu, its execution gave %s %lld", c,
             gw_status_name(reply->status), (long long)reply->number, (unsigned long long)r->serial,
             gw_status_name(known->result.status), (long long)known->result.number);
}

void client_reply(int c, int s, const struct reply *reply)
{
    struct client *client = &w->client[c];
    if (reply->status == GW_END) {
        adopt(client, reply);
        note_durable(c, s, reply);
        return;
    }
    struct request *r = wanted(client);
    if (!r || reply->serial != r->serial)
        return; /* of a serial that was answered already */
    switch (reply->status) {
    case GW_WRONG_VIEW:
    case GW_MOVED:
    case GW_NOT_YET:
        adopt(client, reply);
        call_in(200 * US + below(2 * MS), resend, c, (int)reply->serial);
        return;
    default:
        break;
    }
    if (client->incarnation[s] != reply->incarnation)
        return; /* of a process that is dead: it may have been undone */
    bool replayed = r != &client->request;
    struct request of = *r;
    if (of.kind != OP_READ)
        check_answer(c, &of, reply);
    if (w->failed)
        return;
    if (!replayed)
        client->busy = false;
    note_answer(client, s, &of, reply);
    if (replayed) {
        send_request(c);
        return;
    }
    w->was_read[c][of.serial] = of.kind == OP_READ;
    client->done++;
    if (client->done < w->plan.ops)
        call_in(below(3 * MS), next, c, 0);
}

/* Connected: the server says who it is, and what is under way and was meant for it is sent again.
 */
void client_up(int c, int s)
{
    const struct server *server = &w->server[s];
    struct reply welcome = {.status = GW_END,
                            .position = server->image ? server->image->number : 0,
                            .incarnation = server->incarnation,
                            .map = server->map};
    conn_send(&w->client[c].conn[s], 1, &welcome, sizeof welcome);
    if (w->client[c].map.owner == s && w->client[c].incarnation[s] == server->incarnation)
        send_request(c);
}

void client_down(int c, int s)
{
    /* It may learn of a newer map in the meantime, and turn to the other server. */
    if (chance(50) && coordinator_map()) {
        if (coordinator_map()->version > w->client[c].map.version)
            w->client[c].map = *coordinator_map();
        send_request(c);
    }
    conn_open(&w->client[c].conn[s]);
}

void truth_check(int s, const struct request *r, enum gw_status status, int64_t number)
{
    struct key_truth *t = &w->truth.key[r->key];
    if (w->holder < 0)
        w->holder = s; /* who joins first: not always the first server, the coordinator may die */
    enum gw_status expected = GW_OK;
    int64_t result = 0;
    switch (r->kind) {
    case OP_ADD:
        result = (t->exists ? t->number : 0) + 1;
        *t = (struct key_truth){true, result};
        break;
    case OP_PUT:
        result = (int64_t)r->serial * 1000 + r->client;
        *t = (struct key_truth){true, result};
        break;
    case OP_DELETE:
        expected = t->exists ? GW_OK : GW_NOT_FOUND;
        t->exists = false;
        break;
    case OP_READ:
        expected = t->exists ? GW_OK : GW_NOT_FOUND;
        result = t->exists ? t->number : 0;
        break;
    }
    if (status != expected || (status == GW_OK && r->kind != OP_DELETE && number != result))
        fail("server %d executed %d on key %d: %s %lld instead of %s %lld", s, (int)r->kind, r->key,
             gw_status_name(status), (long long)number, gw_status_name(expected),
             (long long)result);
    if (r->kind == OP_READ)
        return;
    if (w->truth.history[r->client][r->serial].applied)
        fail("server %d applied serial %llu of client %d a second time", s,
             (unsigned long long)r->serial, r->client);
    w->truth.history[r->client][r->serial].applied = true;
    w->truth.history[r->client][r->serial].result =
        (struct reply){.serial = r->serial, .status = status, .number = number};
}
