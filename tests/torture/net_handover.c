/* net_handover.c - a connection wanders between two threads' nets under traffic, while a third
 * thread keeps waking both. Under TSan it shows that handover and wake-up order what they must; by
 * its count, that no frame is lost, doubled or out of order. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/net/net.h"
#include "client/wire/frame.h"
#include "index/base/assert.h"

#define FRAMES      20000u
#define FRAME_BYTES 200u
#define WINDOW      100u
#define STAY_FRAMES 40u /* then the connection moves on */

struct side {
    struct gw_net *net;
    struct side *other;
    uint32_t stayed;
    pthread_mutex_t lock;
    struct gw_handover *mail; /* under lock */
};

static atomic_bool stop;
static uint64_t expected,
    moves; /* owned by whoever has the connection: handed over under the lock */

static void mail_handover(void *ctx, struct gw_handover *handover)
{
    struct side *to = ((struct side *)ctx)->other;
    GW_ASSERT(handover != NULL);
    moves++;
    pthread_mutex_lock(&to->lock);
    GW_ASSERT(to->mail == NULL);
    to->mail = handover;
    pthread_mutex_unlock(&to->lock);
    gw_net_wake(to->net);
}

static enum gw_status server_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                                   uint32_t bytes)
{
    struct side *s = ctx;
    struct gw_frame header;
    if (s->stayed++ == STAY_FRAMES) {
        s->stayed = 0;
        GW_ASSERT(gw_conn_detach(conn, true, mail_handover, s) == GW_OK);
        return GW_END;
    }
    GW_ASSERT(gw_frame_decode(frame, bytes, &header) == GW_OK);
    GW_ASSERT(header.sequence == expected);
    expected++;
    uint8_t *room = gw_conn_reserve(conn, GW_FRAME_HEADER);
    GW_ASSERT(room != NULL);
    gw_frame_encode(&(struct gw_frame){.bytes = GW_FRAME_HEADER,
                                       .kind = GW_KIND_REPLY,
                                       .sequence = header.sequence},
                    room);
    gw_conn_commit(conn, GW_FRAME_HEADER);
    return GW_OK;
}

static void *serve(void *arg)
{
    struct side *s = arg;
    while (!atomic_load(&stop)) {
        gw_net_poll(s->net, 1000000000);
        pthread_mutex_lock(&s->lock);
        struct gw_handover *mail = s->mail;
        s->mail = NULL;
        pthread_mutex_unlock(&s->lock);
        struct gw_conn *conn;
        if (mail)
            GW_ASSERT(gw_net_attach(s->net, mail, NULL, &conn) == GW_OK);
    }
    return NULL;
}

static void *disturb(void *arg)
{
    struct side *sides = arg;
    for (uint32_t i = 0; !atomic_load(&stop); i++)
        gw_net_wake(sides[i % 2].net);
    return NULL;
}

static uint64_t answered;
static enum gw_status client_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                                   uint32_t bytes)
{
    struct gw_frame header;
    (void)ctx, (void)conn;
    GW_ASSERT(gw_frame_decode(frame, bytes, &header) == GW_OK);
    GW_ASSERT(header.sequence == answered);
    answered++;
    return GW_OK;
}

int main(void)
{
    static const struct gw_net_events server_events = {.frame = server_frame};
    static const struct gw_net_events client_events = {.frame = client_frame};
    static struct side sides[2] = {{.lock = PTHREAD_MUTEX_INITIALIZER},
                                   {.lock = PTHREAD_MUTEX_INITIALIZER}};
    pthread_t threads[3];
    char bound[64];
    for (int i = 0; i < 2; i++) {
        sides[i].other = &sides[1 - i];
        GW_ASSERT(gw_net_uring_create(NULL, &server_events, &sides[i], &sides[i].net) == GW_OK);
    }
    GW_ASSERT(gw_net_listen(sides[0].net, "127.0.0.1:0", bound) == GW_OK);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, serve, &sides[i]);
    pthread_create(&threads[2], NULL, disturb, sides);

    struct gw_net *client;
    struct gw_conn *conn;
    uint64_t sent = 0;
    GW_ASSERT(gw_net_uring_create(NULL, &client_events, NULL, &client) == GW_OK);
    GW_ASSERT(gw_net_connect(client, bound, NULL, &conn) == GW_OK);
    while (answered < FRAMES) {
        for (; sent < FRAMES && sent < answered + WINDOW; sent++) {
            uint8_t *room = gw_conn_reserve(conn, FRAME_BYTES);
            GW_ASSERT(room != NULL);
            for (uint32_t i = GW_FRAME_HEADER; i < FRAME_BYTES; i++)
                room[i] = (uint8_t)i;
            gw_frame_encode(&(struct gw_frame){.bytes = FRAME_BYTES,
                                               .kind = GW_KIND_BATCH,
                                               .sequence = sent},
                            room);
            gw_conn_commit(conn, FRAME_BYTES);
        }
        gw_net_poll(client, 1000000000);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        gw_net_wake(sides[i].net);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    printf("frames=%llu moves=%llu\n", (unsigned long long)expected, (unsigned long long)moves);
    bool passed = expected == FRAMES && moves >= FRAMES / (2 * STAY_FRAMES);
    gw_net_destroy(client);
    for (int i = 0; i < 2; i++) {
        gw_handover_drop(sides[i].mail);
        gw_net_destroy(sides[i].net);
    }
    return passed ? EXIT_SUCCESS : EXIT_FAILURE;
}
