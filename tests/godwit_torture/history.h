/* history.h - what clients did and what they were told, as it is recorded and checked.
 * A key's state is one 64-bit word: 0 absent, a counter's number, or for bytes the hash chain of
 * the pieces that it is made of (pieces.h), so that a set, an append and what a read saw can be
 * compared without the bytes. A log belongs to the thread that fills it until that has ended.
 * Layer: tests. */
#ifndef GW_TESTS_TORTURE_HISTORY_H
#define GW_TESTS_TORTURE_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum torture_verb {
    TORTURE_GET,
    TORTURE_SET,
    TORTURE_APPEND,
    TORTURE_DELETE,
    TORTURE_INSERT,
    TORTURE_CAS,
    TORTURE_GET_SET,
    TORTURE_GET_DELETE,
    TORTURE_ADD,
    TORTURE_SEEN, /* no operation: `result` is a state that a value which was read went through */
};

enum torture_outcome {
    TORTURE_UNANSWERED, /* the run ended before the answer: as in doubt */
    TORTURE_IN_DOUBT,   /* took effect at any time after its invocation, or never */
    TORTURE_NOT_DONE,   /* certainly without effect */
    TORTURE_OK,
    TORTURE_NOT_FOUND,
    TORTURE_EXISTS,
    TORTURE_MISMATCH,
};

#define TORTURE_NEVER   UINT64_MAX
#define TORTURE_UNKNOWN UINT64_MAX /* an old value that the server no longer knew */

struct torture_op {
    uint64_t invoke_ns, response_ns; /* of the run's clock; NEVER unless answered */
    uint64_t argument;               /* SET, INSERT, CAS, GET_SET: the new state; APPEND: the piece;
                                        ADD: the delta */
    uint64_t expected;               /* CAS: the state whose version was named */
    uint64_t result; /* GET, GET_SET, GET_DELETE: what was seen, or UNKNOWN; ADD: the new number */
    uint32_t key, session;
    uint32_t serial;  /* order of issue within the session */
    uint32_t version; /* that the answer gave */
    uint8_t verb, outcome;
    uint16_t client;
};

/* The state after a piece was put behind what there was. */
uint64_t torture_state_append(uint64_t state, uint64_t piece);

static inline bool torture_answered(const struct torture_op *op)
{
    return op->outcome >= TORTURE_OK;
}
static inline bool torture_doubtful(const struct torture_op *op)
{
    return op->outcome <= TORTURE_IN_DOUBT;
}
/* "12.345678 - 12.400001 s, client 3, session 17 #4: cas r5 [..] where [..] is -> done";
 * `counter`: what a get saw is a number. */
void torture_op_describe(const struct torture_op *op, const char *key, bool counter, char *room,
                         size_t room_bytes);

/* ---- a growing list whose entries keep their places ---- */

#define TORTURE_LOG_PART 16384u
struct torture_log {
    struct torture_op **parts;
    size_t count, parts_room;
};
/* The new entry, zeroed; ends the program on lack of memory. *index: for torture_log_at. */
struct torture_op *torture_log_add(struct torture_log *log, size_t *index);
static inline struct torture_op *torture_log_at(const struct torture_log *log, size_t index)
{
    return &log->parts[index / TORTURE_LOG_PART][index % TORTURE_LOG_PART];
}
void torture_log_free(struct torture_log *log);
#endif
