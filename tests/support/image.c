/* image.c - see image.h. */
#include "tests/support/image.h"

#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"

#define TURNS_MAX 1000000u

void gw_test_snapshot_begin(struct gw_test_snapshot *s, struct gw_store *store)
{
    memset(s, 0, sizeof *s);
    GW_ASSERT(gw_snapshot_begin(store, &s->open, &s->start) == GW_OK);
}

bool gw_test_snapshot_step(struct gw_test_snapshot *s)
{
    if (!s->open)
        return false;
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 4;
        s->blocks = realloc(s->blocks, s->room * GW_SNAPSHOT_BLOCK);
        GW_ASSERT(s->blocks);
    }
    enum gw_status st = gw_snapshot_next(s->open, s->blocks + s->count * GW_SNAPSHOT_BLOCK);
    if (st == GW_OK) {
        s->count++;
        return true;
    }
    GW_ASSERT(st == GW_END);
    gw_snapshot_end(s->open);
    s->open = NULL;
    return false;
}

void gw_test_snapshot_take(struct gw_test_snapshot *s, struct gw_store *store)
{
    gw_test_snapshot_begin(s, store);
    while (gw_test_snapshot_step(s)) {}
}

void gw_test_snapshot_free(struct gw_test_snapshot *s)
{
    gw_snapshot_end(s->open);
    free(s->blocks);
    memset(s, 0, sizeof *s);
}

static enum gw_status next_block(void *ctx, uint8_t *block)
{
    struct gw_test_snapshot *s = ctx;
    if (s->next == s->count)
        return GW_END;
    memcpy(block, s->blocks + s->next++ * GW_SNAPSHOT_BLOCK, GW_SNAPSHOT_BLOCK);
    return GW_OK;
}

void gw_test_image_begin(struct gw_test_image *image, struct gw_store *store,
                         struct gw_thread *thread, uint64_t number)
{
    memset(image, 0, sizeof *image);
    enum gw_status st;
    uint32_t turns = 0;
    while ((st = gw_store_cut_begin(store, number, &image->numbers)) != GW_OK) {
        GW_ASSERT(st == GW_RETRY || st == GW_E_BUSY);
        GW_ASSERT(turns++ < TURNS_MAX);
        gw_store_poll(thread);
    }
}

void gw_test_image_finish(struct gw_test_image *image, struct gw_store *store)
{
    gw_store_cut_numbers(store, &image->numbers);
    uint64_t room = 0, count;
    while ((count = gw_store_mixed_chains(store, image->words, room)) > room) {
        room = count + 8;
        image->words = realloc(image->words, room * sizeof *image->words);
        GW_ASSERT(image->words);
    }
    image->words_count = count;
    uint32_t gaps = image->numbers.gaps_count;
    image->gaps = calloc(gaps + 1, sizeof *image->gaps);
    GW_ASSERT(image->gaps);
    if (gaps)
        memcpy(image->gaps, image->numbers.gaps, gaps * sizeof *image->gaps);
    image->numbers.gaps = image->gaps;
}

void gw_test_image_take(struct gw_test_image *image, struct gw_store *store,
                        struct gw_thread *thread, uint64_t number)
{
    gw_test_image_begin(image, store, thread, number);
    gw_store_enter(thread);
    gw_store_exit(thread);
    for (uint32_t turns = 0; !gw_store_cut_flushed(store, image->numbers.end); turns++) {
        GW_ASSERT(turns < TURNS_MAX);
        gw_store_poll(thread);
    }
    gw_test_image_finish(image, store);
}

void gw_test_image_free(struct gw_test_image *image)
{
    free(image->gaps);
    free(image->words);
    memset(image, 0, sizeof *image);
}

enum gw_status gw_test_recover(const struct gw_store_options *options,
                               const struct gw_test_image *image, struct gw_test_snapshot *snapshot,
                               gw_addr resume, uint32_t threads, const struct gw_slots *drop,
                               struct gw_store **out, char *why)
{
    struct gw_recovery r = {.image = image->numbers,
                            .snapshot_start = image->numbers.begin,
                            .resume = resume,
                            .threads = threads,
                            .drop = drop,
                            .mixed = image->words,
                            .mixed_count = image->words_count};
    if (snapshot) {
        snapshot->next = 0;
        r.snapshot_start = snapshot->start;
        r.next_block = next_block;
        r.next_ctx = snapshot;
    }
    return gw_store_recover(options, &r, out, why, 256);
}
