/* owner.h - asks every server, past the relays, again and again, for keys of chosen slots, and
 * checks that no two of them serve a slot. Layer: tests. */
#ifndef GW_TESTS_TORTURE_OWNER_H
#define GW_TESTS_TORTURE_OWNER_H

#include "tests/godwit_torture/cluster.h"

struct torture_owner {
    struct torture_run *run;
    struct torture_relays *relays;
    uint32_t servers;
    pthread_t thread;
};
/* What its thread does until run->stop. */
void *torture_owner_run(void *owner);
#endif
