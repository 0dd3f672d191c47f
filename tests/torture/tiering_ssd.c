/* Goal: on the SSD tier, threads that write, read and trim at once see right bytes or a clear
 * answer; a file goes only when nobody uses it; the bound is never passed.
 * How: each thread has a queue; all take turns at writing the next page, reading blocks of the live
 * window and moving its lower end, under a bound that is reached all the time. Contents follow from
 * the address, so that a read of a wrong or half-written place shows. Ring and worker threads. */
#include <string.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "tests/support/tier.h"
#include "tests/torture/torture.h"
#include "tiering/ssd.h"
#include "tiering/ssd_format.h"

#define THREADS   4u
#define PAGE_BITS 13u
#define PAGE      (1u << PAGE_BITS)
#define SEGMENT   (4u * PAGE)
#define SEGMENTS  6u
#define READS     16u
#define WRITES    3u
#define NO_PAGE   UINT64_MAX /* a write that has no page number yet */

struct transfer {
    bool busy, write;
    uint64_t at;
    uint8_t *room;
    struct worker *worker;
};

struct worker {
    struct gw_rand rand;
    struct transfer reads[READS], writes[WRITES];
    uint64_t read_ok, read_trimmed, written, refused;
    uint32_t busy;
    uint8_t *rooms;
};

static struct gw_device *device;
static uint64_t limit_bytes;
static _Atomic uint64_t next_page, trimmed, stop_ms;

static void transfer_done(void *arg, enum gw_status status)
{
    struct transfer *t = arg;
    CHECK(t->busy, "called twice");
    t->busy = false;
    t->worker->busy--;
    if (t->write) {
        CHECK(status == GW_OK, "write at %lu: %s", (unsigned long)t->at, gw_status_text(status));
        t->worker->written++;
        t->at = NO_PAGE;
        return;
    }
    if (status == GW_OK) {
        CHECK(tier_is_filled(t->room, 4096, t->at), "wrong bytes at %lu", (unsigned long)t->at);
        t->worker->read_ok++;
        return;
    }
    CHECK(status == GW_NOT_FOUND && t->at < atomic_load(&trimmed), "read at %lu: %s",
          (unsigned long)t->at, gw_status_text(status));
    t->worker->read_trimmed++;
}

static void try_read(uint32_t queue, struct worker *w, struct transfer *t)
{
    uint64_t from = atomic_load(&trimmed), to = atomic_load(&next_page) * PAGE;
    if (from >= to)
        return;
    t->at = from + gw_rand_below(&w->rand, (to - from) / 4096) * 4096;
    memset(t->room, 0xEE, 8);
    t->busy = true;
    w->busy++;
    enum gw_status status =
        device->read(device, queue, gw_addr_of(t->at), t->room, 4096, transfer_done, t);
    if (status == GW_PENDING)
        return;
    CHECK(status == GW_NOT_FOUND, "read: %s", gw_status_text(status)); /* trimmed, or on its way */
    t->busy = false;
    w->busy--;
}

/* A page number belongs to one thread until it is written: a refused one is offered again. */
static void try_write(uint32_t queue, struct worker *w, struct transfer *t)
{
    if (t->at == NO_PAGE)
        t->at = atomic_fetch_add(&next_page, 1) * PAGE;
    tier_fill(t->room, PAGE, t->at);
    t->busy = true;
    w->busy++;
    enum gw_status status =
        device->write(device, queue, gw_addr_of(t->at), t->room, PAGE, transfer_done, t);
    if (status == GW_PENDING)
        return;
    t->busy = false;
    w->busy--;
    if (status == GW_NOT_FOUND) { /* others went on and trimmed it */
        CHECK(t->at < atomic_load(&trimmed), "a page above the trim is not found");
        t->at = NO_PAGE;
        return;
    }
    CHECK(status == GW_E_FULL || status == GW_WOULD_BLOCK, "write: %s", gw_status_text(status));
    w->refused++;
}

static void move_window(struct worker *w)
{
    struct gw_device_usage usage;
    device->usage(device, &usage);
    CHECK(usage.used_bytes <= limit_bytes, "%lu bytes used", (unsigned long)usage.used_bytes);
    uint64_t at = atomic_load(&trimmed), to = atomic_load(&next_page) * PAGE;
    uint64_t below = at + SEGMENT / 2 + gw_rand_below(&w->rand, 4) * PAGE;
    if (to < below + (SEGMENTS - 2) * SEGMENT)
        return;
    if (atomic_compare_exchange_strong(&trimmed, &at, below))
        device->trim(device, gw_addr_of(below));
}

static void turn(uint32_t number, struct worker *w, bool submit)
{
    for (uint32_t i = 0; submit && i < READS; i++)
        if (!w->reads[i].busy && gw_rand_below(&w->rand, 2))
            try_read(number, w, &w->reads[i]);
    for (uint32_t i = 0; submit && i < WRITES; i++)
        if (!w->writes[i].busy && gw_rand_below(&w->rand, 4) == 0)
            try_write(number, w, &w->writes[i]);
    if (gw_rand_below(&w->rand, 8) == 0)
        move_window(w);
    if (device->poll(device, number) == 0)
        usleep(10);
}

static void worker_body(uint32_t number, void *ctx)
{
    struct worker *w = (struct worker *)ctx + number;
    if (number % 2)
        device->adopt(device, number, w->rooms, READS * 4096);
    if (number > 1)
        CHECK(device->wait_fd(device, number) >= 0, "no event descriptor");
    while (torture_now_ms() < atomic_load(&stop_ms))
        turn(number, w, true);
    while (w->busy > 0)
        turn(number, w, false);
}

static void worker_init(struct worker *w, uint32_t number)
{
    *w = (struct worker){.rooms = tier_room(READS * 4096 + WRITES * PAGE)};
    gw_rand_init(&w->rand, number + 7);
    for (uint32_t i = 0; i < READS; i++)
        w->reads[i] = (struct transfer){.room = w->rooms + i * 4096, .worker = w};
    for (uint32_t i = 0; i < WRITES; i++)
        w->writes[i] = (struct transfer){.room = w->rooms + READS * 4096 + i * PAGE,
                                         .worker = w,
                                         .write = true,
                                         .at = NO_PAGE};
}

static void run(bool threads, bool buffered, uint64_t ms)
{
    struct worker workers[THREADS];
    struct gw_ssd_report report;
    char *dir = tier_dir_make();
    limit_bytes = SEGMENTS * gw_ssd_geometry_of(PAGE_BITS, SEGMENT / PAGE).file_bytes;
    struct gw_ssd_options options = {.dir = dir,
                                     .page_bits = PAGE_BITS,
                                     .segment_bytes = SEGMENT,
                                     .limit_bytes = limit_bytes,
                                     .store_id = 1,
                                     .queues = THREADS,
                                     .depth = 32,
                                     .threads = threads,
                                     .buffered = buffered};
    CHECK(gw_ssd_open(&options, &device, &report) == GW_OK, "%s", report.error);
    atomic_store(&next_page, 0);
    atomic_store(&trimmed, 0);
    atomic_store(&stop_ms, torture_now_ms() + ms);
    for (uint32_t i = 0; i < THREADS; i++)
        worker_init(&workers[i], i);
    torture_run(THREADS, worker_body, workers);

    uint64_t reads = 0, late = 0, writes = 0, refused = 0;
    for (uint32_t i = 0; i < THREADS; i++) {
        reads += workers[i].read_ok;
        late += workers[i].read_trimmed;
        writes += workers[i].written;
        refused += workers[i].refused;
    }
    printf("%s, %s: %lu reads, %lu trimmed under way, %lu writes, %lu refused\n",
           report.uring ? "ring" : "threads", report.direct ? "direct" : "buffered",
           (unsigned long)reads, (unsigned long)late, (unsigned long)writes,
           (unsigned long)refused);
    CHECK(reads > 0 && writes > SEGMENTS * 4, "nothing happened");
    device->trim(device, gw_addr_of(UINT64_MAX));
    gw_ssd_close(device);
    CHECK(tier_dir_count(dir, "") == 0, "files are left");
    for (uint32_t i = 0; i < THREADS; i++)
        free(workers[i].rooms);
    tier_dir_remove(dir);
}

int main(void)
{
    uint64_t ms = torture_duration_ms();
    run(false, false, ms / 2);
    run(true, false, ms / 4);
    run(false, true, ms / 4);
    return 0;
}
