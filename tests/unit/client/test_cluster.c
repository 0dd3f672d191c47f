/* The map that sessions share, and how often the coordinator may be asked for a newer one. */
#include <criterion/criterion.h>
#include <string.h>

#include "client/cluster.h"

#define MS UINT64_C(1000000)

static struct gw_map *map_of(uint64_t version)
{
    struct gw_map *map = gw_map_create();
    cr_assert_not_null(map);
    map->version = version;
    return map;
}

static struct gw_cluster *cluster_of(uint64_t version)
{
    struct gw_cluster *cluster;
    cr_assert_eq(gwi_cluster_create("127.0.0.1:1", NULL, 5, map_of(version), &cluster), GW_OK);
    return cluster;
}

Test(cluster, a_map_is_adopted_only_upwards)
{
    struct gw_cluster *cluster = cluster_of(5);
    cr_expect_eq(gwi_cluster_offer(cluster, map_of(5)), false);
    cr_expect_eq(gwi_cluster_offer(cluster, map_of(4)), false);
    cr_expect_eq(gw_cluster_map_version(cluster), 5);
    cr_expect_eq(gwi_cluster_offer(cluster, map_of(7)), true);
    cr_expect_eq(gw_cluster_map_version(cluster), 7);
    gw_cluster_close(cluster);
}

Test(cluster, a_truncated_map_is_refused_and_the_old_one_stays)
{
    struct gw_cluster *cluster = cluster_of(5);
    uint8_t bytes[12] = {9};
    struct gw_reader r = gw_reader_of(bytes, 4);
    cr_expect_eq(gwi_cluster_offer_wire(cluster, &r), GW_E_PROTOCOL);
    r = gw_reader_of(bytes, sizeof bytes);
    cr_expect_eq(gwi_cluster_offer_wire(cluster, &r), GW_E_PROTOCOL);
    cr_expect_eq(gw_cluster_map_version(cluster), 5);
    gw_cluster_close(cluster);
}

Test(cluster, one_fetch_at_a_time_and_fruitless_ones_ever_rarer)
{
    struct gw_cluster *cluster = cluster_of(1);
    uint64_t now_ns = 1000 * MS;
    uint32_t fetches = 0;
    for (uint64_t end_ns = now_ns + 60000 * MS; now_ns < end_ns; now_ns += MS) {
        if (!gwi_cluster_fetch_begin(cluster, now_ns))
            continue;
        fetches++;
        cr_expect_eq(gwi_cluster_fetch_begin(cluster, now_ns), false, "two at a time");
        gwi_cluster_fetch_end(cluster, now_ns, false);
        uint64_t at_ns = gwi_cluster_fetch_at(cluster, now_ns);
        cr_expect(at_ns >= now_ns + 25 * MS && at_ns <= now_ns + 2000 * MS);
    }
    cr_expect(fetches >= 30 && fetches <= 70, "%u fetches in a minute", fetches);
    cr_assert(gwi_cluster_fetch_begin(cluster, now_ns + 2000 * MS));
    gwi_cluster_fetch_end(cluster, now_ns, true);
    cr_expect_leq(gwi_cluster_fetch_at(cluster, now_ns), now_ns + 50 * MS,
                  "a fetch that helped makes the pause short again");
    gw_cluster_close(cluster);
}

Test(cluster, session_ids_follow_each_other_and_stay_unique)
{
    struct gw_cluster *cluster = cluster_of(1);
    uint64_t first = gwi_cluster_session_id(cluster);
    cr_expect_eq(first & 0xffff, 0);
    for (uint64_t i = 1; i < 65536; i++)
        cr_assert_eq(gwi_cluster_session_id(cluster), first + i);
    uint64_t next = gwi_cluster_session_id(cluster);
    cr_expect_neq(next, first, "the counter came round");
    cr_expect_neq(next >> 16, first >> 16);
    gw_cluster_close(cluster);
}

Test(cluster, an_address_that_is_none_is_refused)
{
    struct gw_cluster *cluster;
    char text[200];
    memset(text, '1', sizeof text);
    text[199] = '\0';
    cr_expect_eq(gw_cluster_open("", NULL, &cluster), GW_E_INVALID);
    cr_expect_eq(gw_cluster_open(text, NULL, &cluster), GW_E_INVALID);
    cr_expect_eq(gw_cluster_open("nonsense", NULL, &cluster), GW_E_INVALID);
    cr_expect_eq(gw_cluster_open("127.0.0.1:1", NULL, &cluster), GW_E_UNREACHABLE);
}
