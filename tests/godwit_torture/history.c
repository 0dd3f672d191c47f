/* history.c - see history.h. */
#include "tests/godwit_torture/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t torture_state_append(uint64_t state, uint64_t piece)
{
    uint64_t x = state * UINT64_C(0x9e3779b97f4a7c15) + piece;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    return x == 0 || x == TORTURE_UNKNOWN ? 1 : x; /* 0 is absent */
}

static void state_words(uint64_t state, bool number, char *room, size_t room_bytes)
{
    if (state == TORTURE_UNKNOWN)
        snprintf(room, room_bytes, "something unknown");
    else if (number)
        snprintf(room, room_bytes, "%" PRId64, (int64_t)state);
    else if (state == 0)
        snprintf(room, room_bytes, "nothing");
    else
        snprintf(room, room_bytes, "[%08" PRIx64 "]", state >> 32);
}

void torture_op_describe(const struct torture_op *op, const char *key, bool counter, char *room,
                         size_t room_bytes)
{
    static const char *const verbs[] = {"get", "set",     "append",     "delete", "insert",
                                        "cas", "get-set", "get-delete", "add",    "seen"};
    static const char *const outcomes[] = {
        "no answer", "in doubt", "not done", "done", "not found", "exists", "mismatch",
    };
    char argument[48] = "", expected[64] = "", result[64] = "", end[32] = "...", text[32];
    bool number = counter || op->verb == TORTURE_ADD;
    if (op->verb != TORTURE_GET && op->verb != TORTURE_DELETE && op->verb != TORTURE_GET_DELETE) {
        uint64_t state =
            op->verb == TORTURE_APPEND ? torture_state_append(0, op->argument) : op->argument;
        argument[0] = ' ';
        state_words(state, number, argument + 1, sizeof argument - 1);
    }
    if (op->verb == TORTURE_CAS) {
        state_words(op->expected, false, text, sizeof text);
        snprintf(expected, sizeof expected, " where %s is", text);
    }
    if (op->outcome == TORTURE_OK && (op->verb == TORTURE_GET || op->verb == TORTURE_GET_SET ||
                                      op->verb == TORTURE_ADD || op->verb == TORTURE_GET_DELETE)) {
        state_words(op->result, number, text, sizeof text);
        snprintf(result, sizeof result, ", %s", text);
    }
    if (op->response_ns != TORTURE_NEVER)
        snprintf(end, sizeof end, "%.6f", (double)op->response_ns / 1e9);
    snprintf(room, room_bytes,
             "%.6f - %s s, client %u, session %u #%u: %s %s%s%s -> %s%s (version %u)",
             (double)op->invoke_ns / 1e9, end, op->client, op->session, op->serial, verbs[op->verb],
             key, argument, expected, outcomes[op->outcome], result, op->version);
}

struct torture_op *torture_log_add(struct torture_log *log, size_t *index)
{
    if (log->count == log->parts_room * TORTURE_LOG_PART) {
        struct torture_op **parts =
            realloc(log->parts, (log->parts_room + 1) * sizeof log->parts[0]);
        struct torture_op *part = calloc(TORTURE_LOG_PART, sizeof *part);
        if (!parts || !part) {
            fprintf(stderr, "godwit-torture: no memory for the history\n");
            exit(3);
        }
        log->parts = parts;
        log->parts[log->parts_room++] = part;
    }
    *index = log->count++;
    return torture_log_at(log, *index);
}

void torture_log_free(struct torture_log *log)
{
    for (size_t i = 0; i < log->parts_room; i++)
        free(log->parts[i]);
    free(log->parts);
    *log = (struct torture_log){0};
}
