/* verify.h - what is looked at when a run is over. Layer: tests. */
#ifndef GW_TESTS_TORTURE_VERIFY_H
#define GW_TESTS_TORTURE_VERIFY_H

#include "tests/godwit_torture/client.h"

/* Reads every key with `reader` (a client of its own, whose log then holds the end). */
bool torture_read_all(struct torture_client *reader);
/* Scans the cluster: every key that is found must be one that the last reading found, in the same
 * state, and the other way round. */
void torture_scan_check(struct torture_client *reader);

struct torture_checked {
    uint64_t keys, undecided, operations;
};
/* All histories against all rules. Clients: the workers and, last, the reader. */
struct torture_checked torture_histories_check(struct torture_run *run,
                                               struct torture_client *clients, size_t count);
/* Each violation with the history of its key around it. */
void torture_violations_print(struct torture_run *run, struct torture_client *clients,
                              size_t count);
bool torture_history_write(const struct torture_run *run, const struct torture_client *clients,
                           size_t count, const char *path);
#endif
