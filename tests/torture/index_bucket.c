/* Goal: a look at a bucket sees each word once. An entry that is there is found, or it is being
 * moved and that is said: neither would be "absent" of a key that exists. A compiler that loads the
 * bucket twice, once for the entries and once for their states, breaks that (gwi_bucket_matches).
 * How: for each place of a bucket one thread freezes the entry there and makes it live again, as
 * fast as it can, and the others look for it. */
#include <string.h>

#include "index/table_inline.h"
#include "tests/torture/torture.h"

#define THREADS 3u
#define FLIPS   4096u /* between two looks at the clock */

static struct gw_bucket bucket;
static _Atomic uint32_t stop;
static _Atomic uint64_t found, moving;
static uint64_t end_ms;

static uint64_t tag_of(void)
{
    return gw_entry_tag(77, 5);
}

static void flip(_Atomic uint64_t *place, uint64_t live)
{
    const uint64_t frozen = live | (uint64_t)GW_ENTRY_FROZEN << GW_ENTRY_STATE_SHIFT;
    while (torture_now_ms() < end_ms)
        for (uint32_t i = 0; i < FLIPS; i++) {
            atomic_store_explicit(place, frozen, memory_order_release);
            atomic_store_explicit(place, live, memory_order_release);
        }
    atomic_store(&stop, 1);
}

static void look(void)
{
    uint64_t here = 0, away = 0;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        bool moved = false;
        uint32_t matches = gwi_bucket_matches(&bucket, tag_of(), &moved);
        CHECK(matches || moved, "neither found nor moving");
        here += matches != 0;
        away += moved;
    }
    atomic_fetch_add(&found, here);
    atomic_fetch_add(&moving, away);
}

static void body(uint32_t number, void *ctx)
{
    const uint32_t *at = ctx;
    if (number == 0)
        flip(&bucket.word[*at], gw_entry_make(tag_of(), gw_addr_of(4096)));
    else
        look();
}

int main(void)
{
    for (uint32_t at = 0; at < GW_BUCKET_ENTRIES; at++) {
        memset(&bucket, 0, sizeof bucket);
        atomic_store(&bucket.word[at], gw_entry_make(tag_of(), gw_addr_of(4096)));
        atomic_store(&stop, 0);
        end_ms = torture_now_ms() + torture_duration_ms() / GW_BUCKET_ENTRIES;
        torture_run(THREADS, body, &at);
    }
    printf("%lu found, %lu moving\n", (unsigned long)atomic_load(&found),
           (unsigned long)atomic_load(&moving));
    CHECK(atomic_load(&found) > 0 && atomic_load(&moving) > 0, "too little happened");
    return 0;
}
