/* Goal: allocations never overlap, never straddle a page, and use the last page to its end.
 * How: threads allocate random sizes until nothing fits and write their mark over all of it; then
 * the log is read from its start, record by record, and every mark must be whole. */
#include <string.h>

#include "index/base/rand.h"
#include "index/log.h"
#include "tests/torture/torture.h"

#define THREADS   4u
#define PAGE_BITS 19u
#define PAGES     64u

static struct gw_epoch *epoch;
static struct gw_log *log_;
static _Atomic uint64_t allocated[THREADS];

static void body(uint32_t number, void *ctx)
{
    (void)ctx;
    struct gw_rand rand;
    uint32_t slot;
    uint64_t units_max = 100;
    gw_rand_init(&rand, number + 7);
    CHECK(gw_epoch_join(epoch, false, &slot) == GW_OK, "join");
    while (units_max > 0) {
        gw_epoch_enter(epoch, slot);
        struct gw_log_view view;
        gw_log_view_load(log_, &view);
        uint64_t units = gw_rand_below(&rand, units_max) + 1;
        gw_addr at;
        enum gw_status st = gw_log_allocate(log_, units, &at);
        if (st == GW_OK) {
            struct gw_record *r = gw_log_at(&view, at);
            for (uint64_t i = 0; i < units * 2; i++)
                CHECK(((uint64_t *)r)[i] == 0, "room in use at %lx", (unsigned long)at.v);
            memset(r, (int)number + 1, units * 16);
            r->link = gw_record_link(units, number);
            CHECK((at.v >> PAGE_BITS) == ((at.v + units * 16 - 1) >> PAGE_BITS), "straddles");
            atomic_fetch_add_explicit(&allocated[number], units, memory_order_relaxed);
        } else {
            CHECK(st == GW_E_FULL || st == GW_RETRY, "status %d", st);
            if (st == GW_E_FULL)
                units_max = units - 1; /* smaller ones may fit */
        }
        gw_epoch_exit(epoch, slot);
    }
    gw_epoch_leave(epoch, slot);
}

static void check(void)
{
    struct gw_log_view view;
    gw_log_view_load(log_, &view);
    uint64_t first_page = view.begin >> PAGE_BITS;
    uint64_t found[THREADS] = {0}, unused = 0;
    for (uint64_t p = first_page; p < first_page + PAGES; p++) {
        uint64_t at = (p << PAGE_BITS) + GW_LOG_PAGE_HEADER, end = (p + 1) << PAGE_BITS;
        const struct gw_log_page_header *header =
            (const struct gw_log_page_header *)gw_log_at(&view, gw_addr_of(p << PAGE_BITS));
        CHECK(header->magic == GW_LOG_PAGE_MAGIC && header->address == p << PAGE_BITS, "header");
        while (at < end) {
            const struct gw_record *r = gw_log_at(&view, gw_addr_of(at));
            uint64_t units = gw_record_units(r), number = gw_record_previous(r);
            if (units == 0)
                break; /* rest of the page unused */
            CHECK(number < THREADS, "mark");
            for (uint64_t i = 8; i < units * 16; i++)
                CHECK(((const uint8_t *)r)[i] == number + 1, "overwritten at %lx",
                      (unsigned long)at);
            found[number] += units;
            at += units * 16;
        }
        unused += (end - at) / 16;
        if (p + 1 < first_page + PAGES)
            CHECK(header->used_units == (at - (p << PAGE_BITS)) / 16, "used_units");
    }
    for (uint32_t i = 0; i < THREADS; i++)
        CHECK(found[i] == allocated[i], "thread %u: %lu of %lu found", i, (unsigned long)found[i],
              (unsigned long)allocated[i]);
    CHECK(unused <= PAGES * 100, "%lu units unused", (unsigned long)unused);
}

int main(void)
{
    uint64_t end = torture_now_ms() + torture_duration_ms();
    uint32_t rounds = 0;
    do {
        /* Some logs start just below the place where 42 bits wrap. */
        uint64_t start = rounds % 2 ? GW_ADDR_WINDOW - (3u << PAGE_BITS) : 1u << PAGE_BITS;
        CHECK(gw_epoch_create(THREADS, &epoch) == GW_OK, "epoch");
        CHECK(gw_log_create(epoch, PAGES << PAGE_BITS, PAGE_BITS, start, &log_) == GW_OK, "log");
        for (uint32_t i = 0; i < THREADS; i++)
            atomic_store(&allocated[i], 0);
        torture_run(THREADS, body, NULL);
        check();
        gw_epoch_destroy(epoch);
        gw_log_destroy(log_);
        rounds++;
    } while (torture_now_ms() < end);
    printf("%u rounds\n", rounds);
    return 0;
}
