/* image.h - images of a store as a checkpoint keeps them, for tests: the numbers of the cut, what
 * goes with them, an index snapshot, all in memory; and a store that goes on from one.
 * Thread rule: by the thread that drives the store's threads. */
#ifndef GW_TESTS_SUPPORT_IMAGE_H
#define GW_TESTS_SUPPORT_IMAGE_H

#include "index/store_recover.h"

struct gw_test_snapshot {
    struct gw_snapshot *open; /* NULL: complete */
    uint8_t *blocks;
    uint64_t count, room, next; /* next: that is given to recovery */
    gw_addr start;
};

/* Aborts when it cannot be had. */
void gw_test_snapshot_begin(struct gw_test_snapshot *s, struct gw_store *store);
bool gw_test_snapshot_step(struct gw_test_snapshot *s); /* a block; false: it is complete */
void gw_test_snapshot_take(struct gw_test_snapshot *s, struct gw_store *store); /* all of it */
void gw_test_snapshot_free(struct gw_test_snapshot *s);

struct gw_test_image {
    struct gw_store_image numbers;
    struct gw_addr_range *gaps; /* a copy */
    uint64_t *words, words_count;
};

/* Begins a cut, polling `thread` until there is room for it. */
void gw_test_image_begin(struct gw_test_image *image, struct gw_store *store,
                         struct gw_thread *thread, uint64_t number);
/* Once every thread has crossed and gw_store_cut_flushed. */
void gw_test_image_finish(struct gw_test_image *image, struct gw_store *store);
/* All of it, with one thread that crosses and polls. */
void gw_test_image_take(struct gw_test_image *image, struct gw_store *store,
                        struct gw_thread *thread, uint64_t number);
void gw_test_image_free(struct gw_test_image *image);

/* snapshot NULL: all is replayed. why: 256 bytes. */
enum gw_status gw_test_recover(const struct gw_store_options *options,
                               const struct gw_test_image *image, struct gw_test_snapshot *snapshot,
                               gw_addr resume, uint32_t threads, const struct gw_slots *drop,
                               struct gw_store **out, char *why);
#endif
