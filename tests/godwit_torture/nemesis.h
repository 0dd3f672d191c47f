/* nemesis.h - kills, stops, cuts, fills and outages, by a seed. In the thread of the cluster.
 * Layer: tests.
 */
#ifndef GW_TESTS_TORTURE_NEMESIS_H
#define GW_TESTS_TORTURE_NEMESIS_H

#include "index/base/rand.h"
#include "tests/godwit_torture/cluster.h"

struct torture_nemesis {
    struct torture_cluster *cluster;
    struct gw_rand rand;
    uint64_t kill_at_ns, stop_at_ns, cut_at_ns, fill_at_ns, full_until_ns, mute_until_ns;
    uint64_t outage_at_ns, outage_until_ns;
    uint32_t mute; /* a server whose answers are held back, until it is killed; 0: none */
    int filler;
    bool out; /* the shared tier cannot be reached */
};
void torture_nemesis_init(struct torture_nemesis *nemesis, struct torture_cluster *cluster);
/* Does what is due. */
void torture_nemesis_turn(struct torture_nemesis *nemesis);
/* Gives the disk and the shared tier back. */
void torture_nemesis_end(struct torture_nemesis *nemesis);
#endif
