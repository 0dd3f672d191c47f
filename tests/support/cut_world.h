/* cut_world.h - workers that change a few keys in every way while checkpoints are cut, and the
 * check that each image is exactly what they had done when they crossed.
 *
 * Every change is noted as a commit log would note it: key, version, effect, and what the key is
 * now. At a crossing a worker closes its notes. When an image has been flushed its records are read
 * from the device, and the notes of its interval, of all workers, must lead from the last image to
 * this one, key by key, and each note must say of its predecessor what is true: FIRST if it is in
 * the last image, START if there is none. That is what checkpoints promise, and all that recovery
 * relies on.
 *
 * Keys that arrive (as from a migration) are inserted once by worker 0, all others use them
 * UNSETTLED. Filler pushes records out of memory. The steps of a worker are phases that may lie
 * apart, so that one program can run them on one thread in an order of its own, another on threads
 * of their own. Thread rule: a worker's functions by one thread, the cutter's by one. */
#ifndef GW_TESTS_SUPPORT_CUT_WORLD_H
#define GW_TESTS_SUPPORT_CUT_WORLD_H

#include <pthread.h>

#include "index/base/rand.h"
#include "tests/support/log_image.h"

#define CUT_KEYS      192u /* counters, texts, and those that arrive: a third each */
#define CUT_BATCH     24u
#define CUT_WAITING   48u
#define CUT_PAGE_BITS 16u
#define CUT_TEXT_MAX  300u

struct cut_state { /* of a key */
    uint32_t version;
    bool present, tombstone, counter, arrived;
    int64_t number;
    uint64_t digest, bytes, expiry_ms;
};

struct cut_note {
    struct cut_state state;
    uint32_t key;
    uint8_t effect;
};

struct cut_notes {
    struct cut_note *note;
    uint32_t count, room;
};

struct cut_world;

struct cut_worker {
    struct cut_world *world;
    struct gw_thread *t;
    struct gw_rand rand;
    uint32_t number, phase, waiting, done;
    bool drains; /* takes nothing new */
    struct gw_op wait[CUT_WAITING];
    uint64_t key[CUT_WAITING];
    uint8_t text[CUT_WAITING][CUT_TEXT_MAX];
    uint32_t version[CUT_KEYS]; /* last ones seen: for CAS */
    struct cut_notes open;
    pthread_mutex_t lock;
    struct cut_notes closed; /* lock */
    uint64_t crossed;        /* lock: interval */
    uint8_t room[1 << 16];
};

struct cut_world {
    struct gw_ram_device *ram;
    struct gw_device face; /* with a hook */
    struct gw_store *store;
    struct cut_worker *worker;
    uint32_t workers;
    _Atomic uint32_t arrive; /* the next key that arrives */
    _Atomic uint64_t filler;
    /* Called before a device read is submitted; NULL: nothing. */
    void (*on_read)(void *ctx);
    void *on_read_ctx;
    /* the cutter */
    uint64_t cut; /* number of the one under way, or of the last */
    bool under_way;
    struct gw_store_image image;
    struct cut_state state[CUT_KEYS], next[CUT_KEYS]; /* of the last image; of the one read now */
    struct gw_rand rand;
    /* what has happened, for the tests to see that something has */
    uint64_t cuts, notes, firsts, starts, early, pendings, retries;
};

void cut_world_open(struct cut_world *w, uint32_t workers, uint64_t seed);
void cut_world_close(struct cut_world *w);

/* The next phase of the worker's turn: draw and enter; execute; execute the rest; leave, poll. */
void cut_worker_step(struct cut_worker *worker);
#define CUT_PHASES 4u
bool cut_worker_is_outside(const struct cut_worker *worker);

/* Begins a cut, if none is under way and a frame is to be had; true: it has begun. */
bool cut_begin(struct cut_world *w);
/* Looks after the one under way; true: it is complete, and has been checked. */
bool cut_look(struct cut_world *w);
/* When all workers have drained, and a last cut is complete: what the store says of each key. */
void cut_world_compare(struct cut_world *w);
#endif
