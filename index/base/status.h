/* status.h - the one result type of Godwit.
 * Zero is done; positive values are outcomes that the caller must branch on; negative ones are
 * failures. The numbers travel on the wire in one signed byte (docs/PROTOCOL.md) and are never
 * reused. Layer: index/base; also installed as part of libgodwit. */
#ifndef GW_INDEX_BASE_STATUS_H
#define GW_INDEX_BASE_STATUS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GW_MUST_USE __attribute__((warn_unused_result))

/* X(name, number, text): the only place where a status is declared. */
#define GW_STATUS_LIST(X)                                                                          \
    X(GW_OK, 0, "done")                                                                            \
    X(GW_PENDING, 1, "accepted, the result follows")                                               \
    X(GW_NOT_FOUND, 2, "no such key")                                                              \
    X(GW_RETRY, 3, "busy, try again next turn")                                                    \
    X(GW_WRONG_VIEW, 4, "another view of the cluster is in force")                                 \
    X(GW_EXISTS, 5, "the key exists already")                                                      \
    X(GW_MISMATCH, 6, "the version differs from the expected one")                                 \
    X(GW_WRONG_TYPE, 7, "the value is of another type")                                            \
    X(GW_MOVED, 8, "not executed: the slot is moving or has moved")                                \
    X(GW_IN_DOUBT, 9, "the result cannot be known: it may or may not have taken effect")           \
    X(GW_WOULD_BLOCK, 10, "a bound is reached, poll and try again")                                \
    X(GW_NOT_YET, 11, "this view is not in force here yet")                                        \
    X(GW_OVERFLOW, 12, "the counter would leave the range of 64-bit signed integers")              \
    X(GW_ABSENT, 13, "not here yet: must be asked for at the previous owner")                      \
    X(GW_TOMBSTONE, 14, "the newest record says deleted")                                          \
    X(GW_END, 15, "nothing more")                                                                  \
    X(GW_E_NOMEM, -1, "out of memory")                                                             \
    X(GW_E_FULL, -2, "the store is full: writes are refused, reads go on")                         \
    X(GW_E_INVALID, -3, "invalid argument")                                                        \
    X(GW_E_TOO_LARGE, -4, "larger than the limit")                                                 \
    X(GW_E_CORRUPT, -5, "corrupt data")                                                            \
    X(GW_E_IO, -6, "input/output error")                                                           \
    X(GW_E_TIMEOUT, -7, "the deadline has passed")                                                 \
    X(GW_E_UNREACHABLE, -8, "cannot be reached")                                                   \
    X(GW_E_CLOSED, -9, "the connection is closed")                                                 \
    X(GW_E_PROTOCOL, -10, "the peer breaks the protocol")                                          \
    X(GW_E_VERSION, -11, "unsupported protocol version")                                           \
    X(GW_E_REFUSED, -12, "refused")                                                                \
    X(GW_E_LIMIT, -13, "a configured limit is reached")                                            \
    X(GW_E_BUSY, -14, "in use by somebody else")                                                   \
    X(GW_E_UNSUPPORTED, -15, "not supported here")                                                 \
    X(GW_E_CANCELLED, -16, "cancelled")                                                            \
    X(GW_E_UNKNOWN_SESSION, -17, "the session is not known here")                                  \
    X(GW_E_SERIAL, -18, "the serial lies outside of the agreed window")                            \
    X(GW_E_INTERNAL, -19, "internal error")

enum gw_status {
#define GW_STATUS_ENUM(name, number, text) name = number,
    GW_STATUS_LIST(GW_STATUS_ENUM)
#undef GW_STATUS_ENUM
};

static inline bool gw_failed(enum gw_status st)
{
    return (int)st < 0;
}

/* A sentence for people; for a number outside of the list "unknown status". Never NULL. */
const char *gw_status_text(enum gw_status st);
/* The name without its prefix, lower case ("not_found", "e_full"), for logs and JSON. */
const char *gw_status_name(enum gw_status st);

#ifdef __cplusplus
}
#endif
#endif
