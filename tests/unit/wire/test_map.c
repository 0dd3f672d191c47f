/* Goal: a map arrives as it left, has one wire form, and a forged one does not pass. */
#include "client/wire/map.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/wire/names.h"
#include "wire_samples.h"

static enum gw_status decode(const uint8_t *bytes, size_t n, struct gw_map **out)
{
    uint8_t *exact = malloc(n ? n : 1);
    if (n)
        memcpy(exact, bytes, n);
    struct gw_reader r = gw_reader_of(exact, n);
    enum gw_status st = gw_map_decode(&r, out);
    free(exact);
    return st;
}

Test(map, arrives_as_it_left)
{
    struct gw_map *map = sample_map(), *got;
    size_t bound = gw_map_wire_bytes(map);
    uint8_t *room = malloc(bound);
    struct gw_writer w = gw_writer_of(room, bound);
    gw_map_encode(map, &w);
    cr_assert_not(w.bad);
    cr_assert_eq(decode(room, gw_writer_used(&w), &got), GW_OK);
    cr_expect_eq(got->version, map->version);
    cr_expect_eq(got->cluster, map->cluster);
    cr_expect_eq(got->hash_seed, map->hash_seed);
    cr_assert_eq(got->servers, 3);
    for (uint32_t i = 0; i < 3; i++) {
        cr_expect_str_eq(got->server[i].id, map->server[i].id);
        cr_expect_str_eq(got->server[i].address, map->server[i].address);
        cr_expect_eq(got->server[i].view, map->server[i].view);
        cr_expect_eq(got->server[i].incarnation, map->server[i].incarnation);
    }
    cr_expect_arr_eq(got->owner, map->owner, sizeof map->owner);
    cr_expect_arr_eq(got->since, map->since, sizeof map->since);
    gw_map_destroy(got);
    gw_map_destroy(map);
    free(room);
}

Test(map, knows_servers_and_their_slots)
{
    struct gw_map *map = sample_map();
    struct gw_slots slots;
    char text[64];
    cr_expect_eq(gw_map_find(map, "c"), 2);
    cr_expect_eq(gw_map_find(map, "d"), -1);
    gw_map_slots_of(map, 2, &slots);
    gw_slots_format(&slots, text, sizeof text);
    cr_expect_str_eq(text, "8000-8999,10000-16382");
    gw_map_slots_of(map, 1, &slots);
    cr_expect_eq(gw_slots_count(&slots), 0);

    struct gw_map *copy = gw_map_copy(map);
    map->server[2].id[0] = 'x';
    map->owner[0] = 2;
    cr_expect_eq(gw_map_find(copy, "c"), 2, "a copy shares nothing");
    cr_expect_eq(copy->owner[0], 0);
    gw_map_destroy(map);
    gw_map_destroy(copy);
    gw_map_destroy(NULL);
}

Test(map, an_empty_one_owns_nothing_and_travels)
{
    struct gw_map *map = gw_map_create(), *got;
    uint8_t room[64];
    cr_expect_eq(map->version, 0);
    cr_expect_eq(map->owner[0], GW_NO_SERVER);
    cr_expect_eq(map->owner[GW_SLOTS - 1], GW_NO_SERVER);
    struct gw_writer w = gw_writer_of(room, sizeof room);
    gw_map_encode(map, &w);
    cr_assert_eq(decode(room, gw_writer_used(&w), &got), GW_OK);
    cr_expect_eq(got->servers, 0);
    gw_map_destroy(got);
    got = gw_map_copy(map);
    cr_assert_not_null(got);
    gw_map_destroy(got);
    gw_map_destroy(map);
}

Test(map, as_many_servers_as_there_may_be_with_a_slot_each_in_turn)
{
    struct gw_map *map = gw_map_create(), *got;
    map->servers = GW_SERVERS_MAX;
    map->server = calloc(GW_SERVERS_MAX, sizeof *map->server);
    for (uint32_t i = 0; i < GW_SERVERS_MAX; i++) {
        snprintf(map->server[i].id, sizeof map->server[i].id, "%063u", i);
        memset(map->server[i].address, 'a', GW_ADDRESS_BYTES_MAX);
    }
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        map->owner[slot] = (uint16_t)(slot % GW_SERVERS_MAX);
    size_t bound = gw_map_wire_bytes(map);
    uint8_t *room = malloc(bound + 1);
    struct gw_writer w = gw_writer_of(room, bound);
    gw_map_encode(map, &w);
    cr_assert_not(w.bad);
    cr_expect_eq(gw_writer_used(&w), bound, "the bound is reached by the largest map");
    cr_assert_eq(decode(room, bound, &got), GW_OK);
    cr_expect_arr_eq(got->owner, map->owner, sizeof map->owner);
    gw_map_destroy(got);
    room[bound] = 0;
    cr_expect_eq(decode(room, bound + 1, &got), GW_E_PROTOCOL);

    /* Two of the same id, far apart. */
    memcpy(room + 28 + 17, map->server[GW_SERVERS_MAX - 1].id, GW_ID_BYTES_MAX);
    cr_expect_eq(decode(room, bound, &got), GW_E_PROTOCOL);
    gw_map_destroy(map);
    free(room);
}

/* Builds a map of two servers with the given runs: first, last, server, since. */
static size_t with_runs(uint8_t *room, size_t room_bytes, uint16_t runs, const uint16_t *run)
{
    struct gw_writer w = gw_writer_of(room, room_bytes);
    for (int i = 0; i < 3; i++)
        gw_write64(&w, 1);
    gw_write16(&w, 2);
    gw_write16(&w, 0);
    for (uint8_t i = 0; i < 2; i++) {
        gw_write64(&w, 1);
        gw_write64(&w, 1);
        gw_write8(&w, 1);
        gw_write8(&w, (uint8_t)('a' + i));
        gw_write8(&w, 0);
    }
    gw_write16(&w, runs);
    for (uint32_t i = 0; i < runs; i++) {
        for (uint32_t j = 0; j < 3; j++)
            gw_write16(&w, run[4 * i + j]);
        gw_write64(&w, run[4 * i + 3]);
    }
    cr_assert_not(w.bad);
    return gw_writer_used(&w);
}

Test(map, runs_have_one_form)
{
    static const struct {
        uint16_t runs, run[8];
        enum gw_status st;
    } cases[] = {
        {1, {0, 16383, 1, 1}, GW_OK},
        {2, {0, 5, 0, 1, 6, 9, 1, 1}, GW_OK},
        {2, {0, 5, 0, 1, 7, 9, 0, 1}, GW_OK},
        {2, {0, 5, 0, 1, 6, 9, 0, 0}, GW_OK},         /* one server, two tenures */
        {2, {0, 5, 0, 1, 6, 9, 0, 1}, GW_E_PROTOCOL}, /* should be one run */
        {1, {0, 5, 0, 2}, GW_E_PROTOCOL},             /* since a version that is not yet */
        {2, {0, 5, 0, 1, 5, 9, 1, 1}, GW_E_PROTOCOL}, /* overlap */
        {2, {6, 9, 0, 1, 0, 5, 1, 1}, GW_E_PROTOCOL}, /* descend */
        {1, {5, 4, 0, 1}, GW_E_PROTOCOL},
        {1, {0, 16384, 0, 1}, GW_E_PROTOCOL},
        {1, {0, 65535, 0, 1}, GW_E_PROTOCOL},
        {1, {0, 5, 2, 1}, GW_E_PROTOCOL},
        {1, {0, 5, GW_NO_SERVER, 1}, GW_E_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t room[256];
        struct gw_map *got;
        size_t n = with_runs(room, sizeof room, cases[i].runs, cases[i].run);
        enum gw_status st = decode(room, n, &got);
        cr_expect_eq(st, cases[i].st, "case %zu", i);
        if (st == GW_OK)
            gw_map_destroy(got);
    }
}

Test(map, counts_beyond_the_bytes_or_the_limit_are_refused)
{
    uint8_t room[256];
    struct gw_map *got;
    size_t n = with_runs(room, sizeof room, 1, (const uint16_t[]){0, 5, 0, 1});
    gw_store16(room + 24, GW_SERVERS_MAX);
    cr_expect_eq(decode(room, n, &got), GW_E_PROTOCOL);
    gw_store16(room + 24, GW_SERVERS_MAX + 1);
    cr_expect_eq(decode(room, n, &got), GW_E_PROTOCOL);
    gw_store16(room + 24, 0xffff);
    cr_expect_eq(decode(room, n, &got), GW_E_PROTOCOL);
    gw_store16(room + 24, 2);
    gw_store16(room + n - 16, 0xffff); /* runs */
    cr_expect_eq(decode(room, n, &got), GW_E_PROTOCOL);
}

Test(map, names_are_what_the_wire_takes)
{
    char longest[65];
    memset(longest, 'x', 64);
    longest[64] = '\0';
    cr_expect_not(gw_id_valid(longest));
    cr_expect_not(gw_address_valid(longest));
    longest[63] = '\0';
    cr_expect(gw_id_valid(longest));
    cr_expect(gw_address_valid(longest));
    cr_expect(gw_id_valid("Az09._-"));
    cr_expect_not(gw_id_valid(""));
    cr_expect_not(gw_id_valid("a b"));
    cr_expect_not(gw_id_valid("a/b"));
    cr_expect_not(gw_id_valid("\xc3\xa9"));
    cr_expect(gw_address_valid("[::1]:7400"));
    cr_expect_not(gw_address_valid(""));
    cr_expect_not(gw_address_valid("host :1"));
    cr_expect_not(gw_address_valid("host\n:1"));
    cr_expect_not(gw_address_valid("h\xc3\xb6st:1"));
}
