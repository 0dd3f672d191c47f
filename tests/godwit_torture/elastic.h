/* elastic.h - what an operator does to whole servers: drains one, gives one slots again, evens out,
 * removes a drained one so that a new one takes its place. Layer: tests. */
#ifndef GW_TESTS_TORTURE_ELASTIC_H
#define GW_TESTS_TORTURE_ELASTIC_H

#include <jansson.h>

#include "index/base/rand.h"
#include "tests/godwit_torture/run.h"

/* Asks the coordinator, and writes down what came of it. The new job's or plan's number, if one was
 * made; `field`: its name in the answer, NULL: none is. */
long long torture_say(struct torture_run *run, const char *request, const char *field);

/* Options of a move, to be put behind other fields: ,"rate":...; often none. */
void torture_move_options(struct gw_rand *rand, char *room, size_t room_bytes);

/* Perhaps does something; true: it did, or waits for something. `status`: the coordinator's. */
bool torture_elastic_turn(struct torture_run *run, struct gw_rand *rand, const json_t *status);
#endif
