/* blob_internal.h - what the files of the object store's client share.
 *
 *   gw_blob_put/get/... --queue--> READY --begin--> UNDER WAY --ended--> callback
 *                                    ^                 |
 *                                    `--- WAITING <----' (a failure; backoff)
 *
 * blob.c has the calls: the queue, the thread, deadlines, retries, hedges, statistics. A backend
 * has the tries: blob_s3.c and blob_dir.c. A call has one try under way, a hedged one two.
 * Everything but the queue and the statistics belongs to the thread. Layer: tiering, internal. */
#ifndef GW_TIERING_BLOB_INTERNAL_H
#define GW_TIERING_BLOB_INTERNAL_H

#include "tiering/blob.h"

#define GWI_BLOB_LIST_MAX 1000u
#define GWI_BLOB_BODY_MAX ((size_t)256 << 20) /* of an object that is got as a whole */
#define GWI_BLOB_KEY_MAX  1024u               /* S3's bound: prefix and name */

enum gwi_blob_kind { GWI_BLOB_PUT, GWI_BLOB_GET, GWI_BLOB_DELETE, GWI_BLOB_LIST };

/* How a try ended. */
enum gwi_blob_outcome {
    GWI_BLOB_DONE,     /* answered as hoped */
    GWI_BLOB_ABSENT,   /* of a get: there is no such object */
    GWI_BLOB_MORE,     /* of a list: this page is in, the next one follows */
    GWI_BLOB_AGAIN,    /* failed by what has been put right: try again at once (a clock) */
    GWI_BLOB_PASSING,  /* failed, and may pass by itself */
    GWI_BLOB_HOPELESS, /* failed, and somebody must do something */
    GWI_BLOB_REFUSED,  /* the same: 403 */
    GWI_BLOB_FULL,     /* the same: no room */
};

struct gwi_blob_try;

struct gwi_blob_call {
    struct gwi_blob_call *next, *prev;
    struct gwi_blob_calls *in; /* the list that it is in */
    enum gwi_blob_kind kind;
    const char *name;  /* owned, with the struct; of a list: the prefix */
    const char *after; /* owned, with the struct; of a list, else NULL */
    const uint8_t *data;
    size_t bytes; /* of a get 0: all */
    uint64_t offset;
    uint64_t deadline_ns;           /* UINT64_MAX: none */
    uint64_t ready_ns;              /* WAITING: until then */
    uint32_t failed;                /* tries */
    struct gwi_blob_try *one, *two; /* under way; two: the hedge */
    enum gwi_blob_outcome last;     /* failure; DONE: none yet */
    char payload_hash[65];          /* of a put, if the backend wants it */
    uint32_t payload_crc;
    /* Of a list: what was found so far, in the form of the callback. */
    uint8_t *found;
    size_t found_bytes, found_room;
    uint32_t found_count;
    char found_last[GW_BLOB_NAME_MAX + 1];
    char *token; /* of the next page; NULL: the first one */
    gw_blob_cb cb;
    void *ctx;
};

struct gwi_blob_calls {
    struct gwi_blob_call *head, *tail;
    uint32_t count;
};

/* The backend's, of which it is the first member. */
struct gwi_blob_try {
    struct gwi_blob_call *call;
    uint64_t began_ns;
    uint64_t moved_ns;    /* the last byte, up or down; the backend keeps it */
    uint64_t answered_ns; /* the first byte of the answer; 0: none yet */
};

struct gwi_blob_result {
    enum gwi_blob_outcome outcome;
    const uint8_t *data; /* of a get */
    size_t bytes;
    uint64_t up, down; /* bytes of bodies that went over */
    const char *text;  /* of a failure, in words */
};

struct gwi_blob_backend;

struct gwi_blob_ops {
    /* By the caller's thread, before a put is queued; may be NULL. */
    void (*prepare)(struct gwi_blob_backend *backend, struct gwi_blob_call *call);
    /* Begins a try, which ends with gwi_blob_ended from within `run`, or with `cancel`. fresh: not
     * over a connection that was used before. GW_E_NOMEM. */
    enum gw_status (*begin)(struct gwi_blob_backend *backend, struct gwi_blob_call *call,
                            bool fresh, struct gwi_blob_try **out);
    /* Ends it without a word, and frees it. *up, *down: as in a result. */
    void (*cancel)(struct gwi_blob_backend *backend, struct gwi_blob_try *try_, uint64_t *up,
                   uint64_t *down);
    /* Does what can be done, or waits for it, for a wake or until wait_ns have passed. */
    void (*run)(struct gwi_blob_backend *backend, uint64_t wait_ns);
    void (*wake)(struct gwi_blob_backend *backend);  /* any thread */
    void (*close)(struct gwi_blob_backend *backend); /* after all tries */
};

struct gwi_blob_backend {
    const struct gwi_blob_ops *ops;
    struct gw_blob *blob;
    uint32_t requests_max, puts_max; /* under way; set by the backend's open, then bounded */
    bool hedges;
    int64_t clock_ahead_s; /* of the object store's clock, when that is followed */
    char host[128];        /* for sentences */
};

/* blob_dir.c, blob_s3.c: `rest` is the URL behind the scheme. As gw_blob_open. */
GW_MUST_USE enum gw_status gwi_blob_dir_open(const char *rest,
                                             const struct gw_blob_options *options,
                                             struct gwi_blob_backend **out, char *error,
                                             size_t error_bytes);
GW_MUST_USE enum gw_status gwi_blob_s3_open(const char *rest, const struct gw_blob_options *options,
                                            struct gwi_blob_backend **out, char *error,
                                            size_t error_bytes);

/* blob.c, for the backends. */
/* The try has ended; the backend frees it after the call, in which a callback may run. */
void gwi_blob_ended(struct gw_blob *blob, struct gwi_blob_try *try_,
                    const struct gwi_blob_result *result);
/* A name of an object: 1 to GW_BLOB_NAME_MAX of [A-Za-z0-9._/-], parts between slashes neither
 * empty nor beginning with a dot. */
bool gwi_blob_name_valid(const char *name);
/* Adds to what a list found. GW_END: GWI_BLOB_LIST_MAX are there. GW_E_CORRUPT: not behind the one
 * before. GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_blob_found(struct gwi_blob_call *call, const char *name,
                                          uint64_t size);
const char *gwi_blob_kind_name(enum gwi_blob_kind kind);
#endif
