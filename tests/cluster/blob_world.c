/* blob_world.c - see blob_world.h. */
#include "tests/cluster/blob_world.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index/base/rand.h"

#define IN_FLIGHT  512u
#define KEYS_LEAST 15000u

void world_open(struct world *w, const char *durability, uint32_t keys, const char *url)
{
    memset(w, 0, sizeof *w);
    w->keys = (uint32_t)harness_scaled(keys);
    if (w->keys < KEYS_LEAST) /* else its disk would do */
        w->keys = keys < KEYS_LEAST ? keys : KEYS_LEAST;
    w->generation = calloc(w->keys, 1);
    cr_assert(gw_spawn_open(&w->spawn, harness_programs()), "%s", w->spawn.error);
    snprintf(w->store, sizeof w->store, "%s/objects", w->spawn.directory);
    if (url)
        snprintf(w->url, sizeof w->url, "%s", url);
    else
        snprintf(w->url, sizeof w->url, "dir:%s", w->store);
    cr_assert_eq(mkdir(w->store, 0755), 0);
    const char *const flags[] = {"--disk", "128MiB", "--durability", durability, "--blob", w->url};
    memcpy(w->flags, flags, sizeof flags);
    w->spawn.memory_bytes = WORLD_MEMORY;
    w->spawn.server_flags = w->flags;
    cr_assert(gw_spawn_coordinator(&w->spawn), "%s", w->spawn.error);
    cr_assert(gw_spawn_server(&w->spawn, "A"), "%s", w->spawn.error);
    cr_assert_eq(gw_cluster_open(w->spawn.coordinator_address, NULL, &w->cluster), GW_OK);
    cr_assert_eq(gw_session_open(w->cluster, NULL, &w->session), GW_OK);
}

void world_more(struct world *w, uint32_t keys)
{
    w->generation = realloc(w->generation, w->keys + keys);
    memset(w->generation + w->keys, 0, keys);
    w->keys += keys;
}

void world_close(struct world *w)
{
    gw_session_close(w->session);
    gw_cluster_close(w->cluster);
    free(w->generation);
    harness_stop(&w->spawn);
}

const struct gw_spawn_server *world_server(const struct world *w)
{
    return &w->spawn.servers[0];
}

/* ---- keys ----------------------------------------------------------------------------------- */

void world_value(uint8_t *room, uint32_t key, uint8_t generation)
{
    struct gw_rand rand; /* hard to compress, so that sizes mean something */
    gw_rand_init(&rand, (uint64_t)key << 8 | generation);
    for (uint32_t i = 0; i < WORLD_VALUE_BYTES; i += 8) {
        uint64_t word = gw_rand_next(&rand) & 0x0f0f0f0f0f0f0f0f;
        memcpy(room + i, &word, 8);
    }
}

struct asked {
    struct world *world;
    uint32_t key;
    uint8_t generation;
    bool busy, write;
};

static void answered(void *ctx, const struct gw_result *r)
{
    static uint8_t expected[WORLD_VALUE_BYTES];
    struct asked *a = ctx;
    struct world *w = a->world;
    a->busy = false;
    if (r->status == GW_E_UNREACHABLE) {
        w->unreachable++;
        if (a->write) /* it has not taken place */
            w->generation[a->key] = (uint8_t)(a->generation - 1);
    } else if (r->status < 0 || r->status == GW_IN_DOUBT) {
        w->failed++;
        w->failure = r->status;
        if (a->write && r->status == GW_E_FULL)
            w->generation[a->key] = (uint8_t)(a->generation - 1); /* nor has this */
    } else if (a->write || (a->generation == 0 && r->status == GW_NOT_FOUND))
        w->good++;
    else if (r->status == GW_NOT_FOUND)
        w->missing++;
    else {
        world_value(expected, a->key, a->generation);
        if (r->status == GW_OK && r->value_bytes == WORLD_VALUE_BYTES &&
            memcmp(r->value, expected, WORLD_VALUE_BYTES) == 0)
            w->good++;
        else
            w->wrong++;
    }
}

/* Writes or reads every `step`-th key from `first` to `last`. */
void world_each(struct world *w, bool write, uint32_t first, uint32_t last, uint32_t step)
{
    static struct asked asked[IN_FLIGHT];
    static uint8_t value[WORLD_VALUE_BYTES];
    memset(asked, 0, sizeof asked);
    w->good = w->wrong = w->missing = w->unreachable = w->failed = 0;
    uint32_t at = 0;
    for (uint32_t key = first; key < last; key += step) {
        struct asked *a = &asked[at++ % IN_FLIGHT];
        char text[32];
        size_t n = (size_t)snprintf(text, sizeof text, "key:%u", key);
        while (a->busy)
            gw_poll(w->session, 100);
        w->generation[key] = (uint8_t)(w->generation[key] + write);
        *a = (struct asked){w, key, w->generation[key], true, write};
        if (write)
            world_value(value, key, a->generation);
        enum gw_status st;
        while ((st = write ? gw_set(w->session, text, n, value, WORLD_VALUE_BYTES, answered, a)
                           : gw_get(w->session, text, n, answered, a)) == GW_WOULD_BLOCK)
            gw_poll(w->session, 100);
        cr_assert_eq(st, GW_OK, "%s", gw_status_text(st));
    }
    cr_assert_eq(gw_drain(w->session, 60000), GW_OK);
}

void world_expect_exact(const struct world *w, const char *when)
{
    cr_expect(w->wrong == 0 && w->missing == 0 && w->failed == 0 && w->unreachable == 0,
              "%s: of %u keys %llu wrong, %llu missing, %llu unreachable, %llu failed (%s)", when,
              w->keys, (unsigned long long)w->wrong, (unsigned long long)w->missing,
              (unsigned long long)w->unreachable, (unsigned long long)w->failed,
              gw_status_text(w->failure));
    cr_expect_gt(w->good, 0);
}

void world_until_exact(struct world *w, uint32_t first, uint32_t last, uint32_t step,
                       const char *when)
{
    for (uint64_t end = harness_now_ms() + 90000;;) {
        world_each(w, false, first, last, step);
        uint64_t late = w->unreachable;
        if (late == 0) {
            world_expect_exact(w, when);
            return;
        }
        /* Perhaps all of them: the store is back, and not everybody knows. */
        cr_expect_eq(w->wrong + w->missing + w->failed, 0,
                     "%s: %llu keys wrong, %llu missing, %llu failed", when,
                     (unsigned long long)w->wrong, (unsigned long long)w->missing,
                     (unsigned long long)w->failed);
        cr_assert_lt(harness_now_ms(), end, "%s: %llu keys are unreachable", when,
                     (unsigned long long)late);
    }
}

/* ---- what the server says ------------------------------------------------------------------- */

uint64_t world_number(const struct world *w, const char *name)
{
    json_t *stats = recovery_stats(world_server(w));
    const json_t *value = json_object_get(json_object_get(stats, "blob"), name);
    cr_assert(json_is_integer(value), "%s is missing", name);
    uint64_t number = (uint64_t)json_integer_value(value);
    json_decref(stats);
    return number;
}

/* Waits until "blob"/"trouble" has (or has not) a text in it. */
void world_until_trouble(const struct world *w, const char *text, uint64_t ms)
{
    char last[300] = "";
    for (uint64_t end = harness_now_ms() + ms;; harness_sleep_ms(20)) {
        json_t *stats = recovery_stats(world_server(w));
        const char *trouble =
            json_string_value(json_object_get(json_object_get(stats, "blob"), "trouble"));
        snprintf(last, sizeof last, "%s", trouble ? trouble : "(none)");
        json_decref(stats);
        if (text ? strstr(last, text) != NULL : last[0] == 0)
            return;
        cr_assert_lt(harness_now_ms(), end, "'%s' is not in: '%s'", text ? text : "nothing", last);
    }
}

/* What `godwit status` shows, which comes with a heartbeat. */
void world_until_status(struct world *w, const char *text)
{
    for (uint64_t end = harness_now_ms() + 10000;; harness_sleep_ms(100)) {
        struct harness_run run = HARNESS_CLI(&w->spawn, NULL, "status", "--json");
        bool there = strstr(run.out, text) != NULL;
        cr_assert(there || harness_now_ms() < end, "'%s' is not in: %.2000s", text, run.out);
        harness_run_free(&run);
        if (there)
            return;
    }
}

void world_until_uploaded(const struct world *w)
{
    uint64_t least = UINT64_MAX, end = 0, lag;
    while ((lag = world_number(w, "lag_bytes")) > 0) {
        if (lag < least)
            end = harness_now_ms() + 30000; /* how fast it is is not the question here */
        least = lag < least ? lag : least;
        cr_assert_lt(harness_now_ms(), end, "%llu bytes are not uploaded", (unsigned long long)lag);
        harness_sleep_ms(20);
    }
}

void world_start_again(struct world *w)
{
    cr_assert(gw_spawn_server(&w->spawn, "A"), "%s", w->spawn.error);
    harness_until_healthy(&w->spawn);
}
