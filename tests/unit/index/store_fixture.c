/* store_fixture.c - see store_fixture.h. */
#include "store_fixture.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

void fixture_open(struct fixture *f, const struct gw_store_options *options)
{
    struct gw_store_options o = *options;
    uint32_t page_bits = o.page_bits ? o.page_bits : GW_STORE_PAGE_BITS;
    if (!o.log_bytes)
        o.log_bytes = (uint64_t)8 << page_bits;
    if (!o.index_bytes)
        o.index_bytes = 1 << 20;
    o.hash_seed = 12345;
    memset(f, 0, sizeof *f);
    cr_assert_eq(gw_store_open(&o, &f->store), GW_OK);
    cr_assert_eq(gw_store_thread_open(f->store, &f->thread), GW_OK);
    f->room_bytes = (size_t)1 << page_bits;
    f->room = malloc(f->room_bytes);
}

void fixture_close(struct fixture *f)
{
    gw_store_thread_close(f->thread);
    gw_store_close(f->store);
    free(f->room);
}

void op_bytes(struct fixture *f, uint8_t verb, const void *key, uint16_t key_bytes, uint8_t flags)
{
    memset(&f->op, 0, sizeof f->op);
    f->op.verb = verb;
    f->op.flags = flags;
    f->op.key = key;
    f->op.key_bytes = key_bytes;
}

void op(struct fixture *f, uint8_t verb, const char *key, uint8_t flags)
{
    op_bytes(f, verb, key, (uint16_t)strlen(key), flags);
}

enum gw_status run(struct fixture *f)
{
    size_t used = 0;
    if (f->op.key_bytes)
        gw_store_hash(f->store, &f->op);
    uint64_t hashes[8];
    gw_store_poll(f->thread);
    while (gw_store_ready(f->thread, hashes, 8) != 0) {}
    gw_store_enter(f->thread);
    gw_store_execute(f->thread, &f->op, 1, f->room, f->room_bytes, &used);
    gw_store_exit(f->thread);
    return (enum gw_status)f->op.status;
}

enum gw_status put(struct fixture *f, const char *key, const char *value)
{
    op(f, GW_VERB_UPSERT, key, 0);
    f->op.value = (const uint8_t *)value;
    f->op.value_bytes = (uint32_t)strlen(value);
    return run(f);
}
enum gw_status get(struct fixture *f, const char *key)
{
    op(f, GW_VERB_READ, key, 0);
    return run(f);
}
enum gw_status fetch(struct fixture *f, const char *key)
{
    op(f, GW_VERB_FETCH, key, 0);
    return run(f);
}
enum gw_status del(struct fixture *f, const char *key)
{
    op(f, GW_VERB_DELETE, key, 0);
    return run(f);
}
enum gw_status add(struct fixture *f, const char *key, int64_t delta)
{
    op(f, GW_VERB_ADD, key, 0);
    f->op.delta = delta;
    return run(f);
}
