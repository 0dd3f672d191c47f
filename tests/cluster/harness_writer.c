/* harness_writer.c - writers that count what they do; see harness.h. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "tests/cluster/harness.h"

#define BURST     64
#define POLL_MS   10
#define DRAIN_MS  60000
#define KEY_BYTES 48

struct add {
    struct harness_writer *writer;
    uint32_t key;
};

static size_t key_of(const struct harness_writer *writer, uint32_t key, char *room)
{
    return (size_t)snprintf(room, KEY_BYTES, "%s%u", writer->prefix, key);
}

static void added(void *ctx, const struct gw_result *result)
{
    struct add *add = ctx;
    struct harness_writer *writer = add->writer;
    if (result->status == GW_OK) {
        atomic_fetch_add_explicit(&writer->acknowledged[add->key], 1, memory_order_relaxed);
    } else if (result->status == GW_IN_DOUBT) {
        writer->in_doubt++;
    } else {
        writer->failed++;
        writer->failure = result->status;
    }
}

static void add_one(struct harness_writer *writer, struct gw_session *session, struct add *add)
{
    char key[KEY_BYTES];
    size_t len = key_of(writer, add->key, key);
    /* Counted as sent before it can be: whoever kills us finds sent >= what arrived. */
    atomic_fetch_add_explicit(&writer->sent[add->key], 1, memory_order_relaxed);
    enum gw_status st;
    while ((st = gw_add(session, key, len, 1, 0, added, add)) == GW_WOULD_BLOCK)
        (void)gw_poll(session, POLL_MS);
    if (st != GW_OK) {
        writer->failed++;
        writer->failure = st;
    }
}

static void *write_keys(void *ctx)
{
    struct harness_writer *writer = ctx;
    struct gw_session *session;
    enum gw_status st = gw_session_open(writer->cluster, NULL, &session);
    if (st != GW_OK) {
        writer->failed++;
        writer->failure = st;
        return NULL;
    }
    struct add *adds = calloc(writer->keys, sizeof *adds);
    for (uint32_t i = 0; i < writer->keys; i++)
        adds[i] = (struct add){writer, i};
    struct gw_rand rand;
    gw_rand_init(&rand, 4711);
    while (!atomic_load_explicit(&writer->stop, memory_order_relaxed) && !writer->failed) {
        for (uint32_t i = 0; i < BURST; i++)
            add_one(writer, session, &adds[gw_rand_below(&rand, writer->keys)]);
        (void)gw_poll(session, 0);
        if (writer->delay_us)
            usleep(writer->delay_us);
    }
    st = gw_drain(session, DRAIN_MS);
    if (st != GW_OK) {
        writer->failed++;
        writer->failure = st;
    }
    struct gw_session_stats stats;
    gw_session_stats(session, &stats);
    writer->wait_longest_ns = stats.wait_longest_ns;
    gw_session_close(session);
    free(adds);
    return NULL;
}

void harness_writer_start(struct harness_writer *writer, struct gw_spawn *spawn, const char *prefix,
                          uint32_t keys)
{
    snprintf(writer->prefix, sizeof writer->prefix, "%s", prefix);
    writer->keys = keys;
    if (!writer->sent)
        writer->sent = calloc(keys, sizeof *writer->sent);
    if (!writer->acknowledged)
        writer->acknowledged = calloc(keys, sizeof *writer->acknowledged);
    cr_assert(writer->sent && writer->acknowledged);
    enum gw_status st = gw_cluster_open(spawn->coordinator_address, NULL, &writer->cluster);
    cr_assert_eq(st, GW_OK, "%s", gw_status_text(st));
    cr_assert_eq(pthread_create(&writer->thread, NULL, write_keys, writer), 0);
}

void harness_writer_stop(struct harness_writer *writer)
{
    atomic_store_explicit(&writer->stop, true, memory_order_relaxed);
    pthread_join(writer->thread, NULL);
}

void harness_writer_check(struct harness_writer *writer)
{
    cr_assert_eq(writer->failed, 0, "%llu operations failed: %s",
                 (unsigned long long)writer->failed, gw_status_text(writer->failure));
    cr_assert_eq(writer->in_doubt, 0, "%llu operations are in doubt",
                 (unsigned long long)writer->in_doubt);
    struct gw_session *session;
    cr_assert_eq(gw_session_open(writer->cluster, NULL, &session), GW_OK);
    uint64_t wrong = 0;
    char key[KEY_BYTES];
    for (uint32_t i = 0; i < writer->keys; i++) {
        struct gw_result result = {0};
        enum gw_status st = gw_get_sync(session, key, key_of(writer, i, key), &result);
        uint64_t expected = atomic_load(&writer->sent[i]);
        cr_expect_eq(atomic_load(&writer->acknowledged[i]), expected);
        bool right = st == GW_OK
                         ? result.kind == GW_VALUE_COUNTER && (uint64_t)result.number == expected
                         : st == GW_NOT_FOUND && expected == 0;
        if (!right && wrong++ < 5)
            cr_log_error("%s: %s, %lld, expected %llu", key, gw_status_text(st),
                         (long long)result.number, (unsigned long long)expected);
    }
    gw_session_close(session);
    cr_assert_eq(wrong, 0, "%llu of %u counts are wrong", (unsigned long long)wrong, writer->keys);
}

uint64_t harness_writer_total(const struct harness_writer *writer)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < writer->keys; i++)
        total += atomic_load_explicit(&writer->acknowledged[i], memory_order_relaxed);
    return total;
}

void harness_writer_free(struct harness_writer *writer)
{
    gw_cluster_close(writer->cluster);
    free(writer->sent);
    free(writer->acknowledged);
}
