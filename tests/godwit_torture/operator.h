/* operator.h - an operator who does not know what he wants: migrations between random servers, of
 * random slots, paused, resumed and cancelled. Layer: tests. */
#ifndef GW_TESTS_TORTURE_OPERATOR_H
#define GW_TESTS_TORTURE_OPERATOR_H

#include "tests/godwit_torture/run.h"

void *torture_operator_run(void *run); /* what its thread does until run->stop */
#endif
