/* migrate_verify.c - what keys and values are made of, and whether they are there: see migrate.h.
 */
#include <stdlib.h>
#include <string.h>

#include "bench/migrate.h"
#include "index/base/clock.h"

#define VALUE_HEAD 12u /* key number, generation */
#define WINDOW     256u
#define TRIES_MAX  20u /* of a key whose cold record takes longer than a server waits for it */
#define DRAIN_MS   60000
#define LONGEST_NS 3600000000000u

void gwi_migrate_key(const struct gw_migrate_settings *s, uint64_t number, uint8_t *key)
{
    uint64_t scrambled = gw_workload_key(number);
    memcpy(key, &scrambled, sizeof scrambled);
    memset(key + sizeof scrambled, 'k', s->key_bytes - sizeof scrambled);
}

void gwi_migrate_value(uint8_t *value, uint64_t bytes, uint64_t key, uint32_t generation)
{
    memcpy(value, &key, sizeof key);
    memcpy(value + sizeof key, &generation, sizeof generation);
    uint64_t state = gw_workload_key(key + 1) ^ ((uint64_t)generation << 32);
    for (uint64_t at = VALUE_HEAD; at < bytes; at += 8) {
        state += 0x9e3779b97f4a7c15u;
        uint64_t word = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
        word ^= word >> 27;
        memcpy(value + at, &word, bytes - at < 8 ? bytes - at : 8);
    }
}

struct verifier {
    const struct gw_migrate_settings *settings;
    const uint32_t *generations;
    struct gw_migrate_verified *out;
    uint8_t *expected;
    struct wanted {
        struct verifier *verifier;
        struct wanted *next_free;
        uint64_t key;
        uint32_t tries;
    } * free_wanted, *again;
};

static void compare(void *ctx, const struct gw_result *result)
{
    struct wanted *wanted = ctx;
    struct verifier *v = wanted->verifier;
    uint32_t generation = v->generations[wanted->key];
    uint64_t bytes = v->settings->value_bytes;
    if (result->status == GW_E_UNREACHABLE && ++wanted->tries < TRIES_MAX) {
        wanted->next_free = v->again;
        v->again = wanted;
        return;
    }
    if (result->status == GW_NOT_FOUND) {
        v->out->missing++;
    } else if (result->status != GW_OK) {
        v->out->failed++;
    } else if (bytes == 8) {
        v->out->wrong += result->kind != GW_VALUE_COUNTER || result->number != generation;
    } else {
        gwi_migrate_value(v->expected, bytes, wanted->key, generation);
        v->out->wrong += result->kind != GW_VALUE_BYTES || result->value_bytes != bytes ||
                         memcmp(result->value, v->expected, bytes) != 0;
    }
    v->out->keys++;
    wanted->next_free = v->free_wanted;
    v->free_wanted = wanted;
}

static void ask(struct verifier *v, struct gw_session *session, struct wanted *w)
{
    const struct gw_migrate_settings *s = v->settings;
    uint8_t key[256];
    enum gw_status st;
    gwi_migrate_key(s, w->key, key);
    while ((st = gw_get(session, key, s->key_bytes, compare, w)) == GW_WOULD_BLOCK)
        (void)gw_poll(session, 10);
    if (st != GW_OK)
        v->out->failed++;
}

static void ask_again(struct verifier *v, struct gw_session *session)
{
    struct wanted *all = v->again;
    v->again = NULL; /* asking may poll, and polling may add */
    for (struct wanted *next; all; all = next) {
        next = all->next_free;
        ask(v, session, all);
    }
}

void gw_migrate_verify(const struct gw_migrate_settings *s, const uint32_t *generations,
                       struct gw_cluster *cluster, const struct gw_slots *slots,
                       struct gw_migrate_verified *out)
{
    struct verifier v = {.settings = s,
                         .generations = generations,
                         .out = out,
                         .expected = malloc(s->value_bytes + 8)};
    struct wanted *wanted = calloc(WINDOW, sizeof *wanted);
    struct gw_session *session = NULL;
    memset(out, 0, sizeof *out);
    uint64_t start = gw_clock_now_ns(gw_clock_system());
    if (!v.expected || !wanted || gw_session_open(cluster, NULL, &session) != GW_OK) {
        out->failed++;
        goto end;
    }
    for (uint32_t i = 0; i < WINDOW; i++) {
        wanted[i].verifier = &v;
        wanted[i].next_free = v.free_wanted;
        v.free_wanted = &wanted[i];
    }
    for (uint64_t number = 0; number < s->keys && out->failed == 0; number++) {
        uint8_t key[256];
        gwi_migrate_key(s, number, key);
        if (!gw_slots_has(slots, gw_key_slot(key, s->key_bytes)))
            continue;
        while (!v.free_wanted) {
            (void)gw_poll(session, 10);
            ask_again(&v, session);
        }
        struct wanted *w = v.free_wanted;
        v.free_wanted = w->next_free;
        w->key = number;
        w->tries = 0;
        ask(&v, session, w);
    }
    while ((gw_in_flight(session) != 0 || v.again) &&
           gw_clock_now_ns(gw_clock_system()) - start < LONGEST_NS) {
        (void)gw_poll(session, 10);
        ask_again(&v, session);
    }
    if (gw_drain(session, DRAIN_MS) != GW_OK)
        out->failed += gw_in_flight(session);
end:
    if (session)
        gw_session_close(session);
    out->seconds = (double)(gw_clock_now_ns(gw_clock_system()) - start) / 1e9;
    free(wanted);
    free(v.expected);
}
