/* store_fixture.h - a small store with one thread, and one-operation calls on it. */
#ifndef GW_TESTS_STORE_FIXTURE_H
#define GW_TESTS_STORE_FIXTURE_H

#include "index/store.h"

struct fixture {
    struct gw_store *store;
    struct gw_thread *thread;
    struct gw_op op; /* the last operation, with its results */
    uint8_t *room;
    size_t room_bytes;
};

/* What is 0 in options becomes: log of 8 pages, index of 1 MiB. */
void fixture_open(struct fixture *f, const struct gw_store_options *options);
void fixture_close(struct fixture *f);

/* Prepares f->op; run() executes it as a batch of its own. */
void op(struct fixture *f, uint8_t verb, const char *key, uint8_t flags);
void op_bytes(struct fixture *f, uint8_t verb, const void *key, uint16_t key_bytes, uint8_t flags);
enum gw_status run(struct fixture *f);

enum gw_status put(struct fixture *f, const char *key, const char *value);
enum gw_status get(struct fixture *f, const char *key);
enum gw_status fetch(struct fixture *f, const char *key);
enum gw_status del(struct fixture *f, const char *key);
enum gw_status add(struct fixture *f, const char *key, int64_t delta);
#endif
