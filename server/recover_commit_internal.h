/* recover_commit_internal.h - what the files of recover_commit share.
 *   recover_commit.c        the passes, threads, the end: sessions
 *   recover_commit_read.c   logs to items, sorted into parts by hash
 *   recover_commit_apply.c  a part's items to chains, to the store, to lists of what sessions did
 *   recover_commit_chain.c  which items of a key count
 * Payloads stay where the reader of the logs has them; an item is 24 bytes that lead there. */
#ifndef GW_SERVER_RECOVER_COMMIT_INTERNAL_H
#define GW_SERVER_RECOVER_COMMIT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/server.h"
#include "tiering/commit_read.h"

#define GWI_REDO_PARTS 64u /* of a pass; by six bits of the hash */

/* A group of entries: where they are, whose they are. */
struct gwi_redo_group {
    struct gw_commit_group group;
    const uint8_t *entries;
    struct gwi_session *session; /* NULL: there was no room for it */
    uint64_t interval;
};

struct gwi_redo_item {
    uint64_t hash;
    uint32_t version;
    uint32_t at;    /* of the entry among its group's */
    uint32_t group; /* among its reader's */
    uint16_t reader;
    uint8_t op;
    uint8_t zero;
};
_Static_assert(sizeof(struct gwi_redo_item) == 24, "memory of recovery is counted in these");

struct gwi_redo_part {
    struct gwi_redo_item *items;
    size_t n, max;
};

struct gwi_redo_kept {
    struct gwi_session *session;
    struct gw_applied applied;
};

struct gwi_redo;

struct gwi_redo_worker {
    struct gwi_redo *redo;
    pthread_t thread;
    uint32_t index;
    struct gwi_redo_group *groups;
    size_t groups_n, groups_max;
    struct gwi_redo_part part[GWI_REDO_PARTS];
    struct gwi_redo_kept *kept;
    size_t kept_n, kept_max;
    uint64_t blocks, bytes, entries, dropped, applied;
    enum gw_status status;
    char why[256];
};

struct gwi_redo {
    struct gwi_server *server;
    struct gw_commit_logs *logs;
    const struct gw_map *map; /* may be NULL */
    struct gwi_sessions *sessions;
    pthread_mutex_t *session_lock; /* of each of them */
    struct gwi_recover_report *report;
    uint64_t number;
    uint32_t self; /* our index in the map; GW_NO_SERVER */
    uint32_t pass, passes;
    _Atomic uint32_t log_next, part_next;
    atomic_bool stop; /* a worker has failed */
    struct gwi_redo_worker *worker;
    uint32_t workers;
};

/* Reads the logs that are left to read. */
void gwi_redo_read(struct gwi_redo_worker *w);
/* Applies the parts that are left. */
void gwi_redo_apply(struct gwi_redo_worker *w);
/* Notes a failure; `why` is a sentence without its end. Returns st. */
enum gw_status gwi_redo_fail(struct gwi_redo_worker *w, enum gw_status st, const char *why);
/* Room for one more element; false: no memory. */
bool gwi_redo_grow(void **array, size_t n, size_t *max, size_t each);

/* The entry of an item. False: not as written (it has been read once, so never). */
static inline bool gwi_redo_entry(const struct gwi_redo *redo, const struct gwi_redo_item *item,
                                  struct gw_commit_entry *entry,
                                  const struct gwi_redo_group **group)
{
    const struct gwi_redo_group *g = &redo->worker[item->reader].groups[item->group];
    uint32_t at = item->at;
    bool bad = false;
    if (group)
        *group = g;
    return gw_commit_next_entry(&g->group, g->entries, &at, entry, &bad);
}
#endif
