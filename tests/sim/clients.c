/* clients.c - sessions with one operation under way each, that resend what they do not know, and
 * the truth that every execution is compared with. */
#include <string.h>

#include "world.h"

static void send_request(int c)
{
    struct client *client = &w->client[c];
    client->request.view = client->map_version;
    conn_send(&client->conn[client->map_owner], 0, &client->request, sizeof client->request);
}

static void resend(int c, int serial)
{
    if (w->client[c].busy && (int)w->client[c].request.serial == serial)
        send_request(c);
}

void client_start(int c, int unused)
{
    (void)unused;
    struct client *client = &w->client[c];
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

static void adopt(struct client *client, const struct reply *reply)
{
    if (reply->view > client->map_version) {
        client->map_version = reply->view;
        client->map_owner = reply->owner;
    }
}

void client_reply(int c, int s, const struct reply *reply)
{
    (void)s;
    struct client *client = &w->client[c];
    if (!client->busy || reply->serial != client->request.serial)
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
    struct reply *known = &w->history[c][reply->serial].result;
    if (client->request.kind != OP_READ) {
        if (!w->history[c][reply->serial].applied)
            fail("client %d was answered serial %llu that was never applied", c,
                 (unsigned long long)reply->serial);
        else if (known->status != reply->status || known->number != reply->number)
            fail("client %d got %s %lld for serial %llu, its execution gave %s %lld", c,
                 gw_status_name(reply->status), (long long)reply->number,
                 (unsigned long long)reply->serial, gw_status_name(known->status),
                 (long long)known->number);
    }
    client->busy = false;
    client->done++;
    if (client->done < OPS)
        call_in(below(3 * MS), client_start, c, 0);
}

/* Connected: what is under way and was meant for this server is sent again. */
void client_up(int c, int s)
{
    if (w->client[c].busy && w->client[c].map_owner == s)
        send_request(c);
}

void client_down(int c, int s)
{
    /* It may learn of a newer map in the meantime, and turn to the other server. */
    if (chance(50)) {
        w->client[c].map_version = w->map_version;
        w->client[c].map_owner = w->map_owner;
        if (w->client[c].busy)
            send_request(c);
    }
    conn_open(&w->client[c].conn[s]);
}

void truth_check(int s, const struct request *r, enum gw_status status, int64_t number)
{
    struct key_truth *t = &w->truth[r->key];
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
    if (w->history[r->client][r->serial].applied)
        fail("server %d applied serial %llu of client %d a second time", s,
             (unsigned long long)r->serial, r->client);
    w->history[r->client][r->serial].applied = true;
    w->history[r->client][r->serial].result =
        (struct reply){.serial = r->serial, .status = status, .number = number};
}
