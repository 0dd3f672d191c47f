/* Goal: on the shared tier, threads that write and read at once, while extents are uploaded,
 * segments dropped and the log trimmed, and another server reads the same log, see right bytes or a
 * clear answer, and no wake-up is lost.
 * How: each thread has a queue; all take turns at writing the next page in order, as the log does,
 * reading blocks of the live window and moving its lower end, under a bound of the disk that is
 * reached all the time. Readers of a second tier follow the shared boundary. Contents follow from
 * the address. Half of the threads sleep on their event descriptor. */
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "tests/support/tier.h"
#include "tests/torture/torture.h"
#include "tiering/ssd_format.h"
#include "tiering/tier.h"

#define THREADS   4u /* of each server: two of the owner write as well */
#define PAGE_BITS 13u
#define PAGE      (1u << PAGE_BITS)
#define SEGMENT   (4u * PAGE)
#define SEGMENTS  5u
#define READS     12u
#define WINDOW    (24u * SEGMENT)
#define SLEEP_MS  5000

struct transfer {
    bool busy, write;
    uint64_t at, base;
    uint8_t *room;
    struct worker *worker;
};

struct worker {
    struct gw_rand rand;
    struct transfer reads[READS], write;
    uint64_t read_ok, read_trimmed, written, slept;
    uint32_t busy;
    uint8_t *rooms;
};

static struct gw_device *owner, *other;
static struct gw_tier *owner_tier, *other_tier;
static _Atomic uint64_t next_page, written_to, trimmed, stop_ms, writing;

static void transfer_done(void *arg, enum gw_status status)
{
    struct transfer *t = arg;
    CHECK(t->busy, "called twice");
    t->busy = false;
    t->worker->busy--;
    if (t->write) {
        CHECK(status == GW_OK, "write at %lu: %s", (unsigned long)t->at, gw_status_text(status));
        t->worker->written++;
        atomic_store(&written_to, t->at + PAGE);
        atomic_store(&writing, 0);
        return;
    }
    if (status == GW_OK) {
        CHECK(tier_is_filled(t->room, 4096, t->at), "wrong bytes at %lu", (unsigned long)t->at);
        t->worker->read_ok++;
        return;
    }
    CHECK((status == GW_NOT_FOUND || t->base) && t->at < atomic_load(&trimmed), "read at %lu: %s",
          (unsigned long)t->at, gw_status_text(status));
    t->worker->read_trimmed++;
}

static void try_read(struct gw_device *device, uint64_t base, uint32_t queue, struct worker *w,
                     struct transfer *t)
{
    uint64_t from = atomic_load(&trimmed);
    uint64_t to = base ? owner->shared(owner) : atomic_load(&written_to);
    if (from >= to)
        return;
    t->at = from + gw_rand_below(&w->rand, (to - from) / 4096) * 4096;
    t->base = base;
    memset(t->room, 0xEE, 8);
    t->busy = true;
    w->busy++;
    enum gw_status status =
        device->read(device, queue, gw_addr_of(base | t->at), t->room, 4096, transfer_done, t);
    if (status == GW_PENDING)
        return;
    CHECK(status == GW_WOULD_BLOCK || (status == GW_NOT_FOUND && t->at < atomic_load(&trimmed)),
          "read at %lu: %s", (unsigned long)t->at, gw_status_text(status));
    t->busy = false;
    w->busy--;
}

/* One at a time, in order: as the log's maintainer. */
static void try_write(uint32_t queue, struct worker *w, struct transfer *t)
{
    uint64_t none = 0;
    if (!atomic_compare_exchange_strong(&writing, &none, 1))
        return;
    t->at = atomic_load(&next_page) * PAGE;
    tier_fill(t->room, PAGE, t->at);
    t->busy = true;
    w->busy++;
    enum gw_status status =
        owner->write(owner, queue, gw_addr_of(t->at), t->room, PAGE, transfer_done, t);
    if (status == GW_PENDING) {
        atomic_fetch_add(&next_page, 1);
        return;
    }
    CHECK(status == GW_E_FULL || status == GW_WOULD_BLOCK, "write at %lu: %s", (unsigned long)t->at,
          gw_status_text(status));
    t->busy = false;
    w->busy--;
    atomic_store(&writing, 0);
}

static void move_window(struct worker *w)
{
    uint64_t at = atomic_load(&trimmed), to = atomic_load(&written_to);
    uint64_t below = at + (1 + gw_rand_below(&w->rand, 6)) * PAGE;
    if (to < below + WINDOW || !atomic_compare_exchange_strong(&trimmed, &at, below))
        return;
    owner->trim(owner, gw_addr_of(below));
    gw_tier_keep(owner_tier, gw_addr_of(below));
}

static void sleep_or_pause(struct gw_device *device, uint32_t queue, struct worker *w, bool sleeps)
{
    if (!sleeps || w->busy == 0 || w->write.busy) {
        usleep(10);
        return;
    }
    struct pollfd p = {.fd = device->wait_fd(device, queue), .events = POLLIN};
    CHECK(poll(&p, 1, SLEEP_MS) == 1, "queue %u sleeps for ever: %u under way", queue, w->busy);
    w->slept++;
}

static void turn(uint32_t number, struct worker *w, bool submit)
{
    bool owns = number < THREADS;
    uint32_t queue = number % THREADS;
    struct gw_device *device = owns ? owner : other;
    uint64_t base = owns ? 0 : other->origin(other, 1);
    for (uint32_t i = 0; submit && i < READS; i++)
        if (!w->reads[i].busy && gw_rand_below(&w->rand, 2))
            try_read(device, base, queue, w, &w->reads[i]);
    if (submit && number < 2 && !w->write.busy)
        try_write(queue, w, &w->write);
    if (owns && gw_rand_below(&w->rand, 8) == 0)
        move_window(w);
    if (owns && gw_rand_below(&w->rand, 64) == 0)
        gw_tier_hurry(owner_tier, gw_addr_of(atomic_load(&written_to)));
    if (device->poll(device, queue) == 0)
        sleep_or_pause(device, queue, w, number % 2 == 1);
}

static void worker_body(uint32_t number, void *ctx)
{
    struct worker *w = (struct worker *)ctx + number;
    while (torture_now_ms() < atomic_load(&stop_ms))
        turn(number, w, true);
    while (w->busy > 0)
        turn(number, w, false);
}

static void worker_init(struct worker *w, uint32_t number)
{
    *w = (struct worker){.rooms = tier_room(READS * 4096 + PAGE)};
    gw_rand_init(&w->rand, number + 7);
    for (uint32_t i = 0; i < READS; i++)
        w->reads[i] = (struct transfer){.room = w->rooms + i * 4096, .worker = w};
    w->write = (struct transfer){.room = w->rooms + READS * 4096, .worker = w, .write = true};
}

static void open_one(const char *dir, const char *url, uint64_t store, struct gw_device **device,
                     struct gw_tier **tier)
{
    struct gw_ssd_report report;
    struct gw_tier_options options = {
        .ssd = {.dir = dir,
                .page_bits = PAGE_BITS,
                .segment_bytes = SEGMENT,
                .limit_bytes = SEGMENTS * gw_ssd_geometry_of(PAGE_BITS, SEGMENT / PAGE).file_bytes,
                .store_id = store,
                .incarnation = 1,
                .queues = THREADS,
                .depth = 32},
        .blob_url = url,
        .cluster = 1,
        .frame_bytes = 16 << 10,
        .cache_bytes = 128 << 10};
    snprintf(options.server_id, sizeof options.server_id, "s%u", (unsigned)store);
    CHECK(gw_tier_open(&options, device, tier, &report) == GW_OK, "%s", report.error);
}

int main(void)
{
    struct worker workers[2 * THREADS];
    char *dir = tier_dir_make(), *other_dir = tier_dir_make(), *store = tier_dir_make(), url[4200];
    snprintf(url, sizeof url, "dir:%s", store);
    open_one(dir, url, 1, &owner, &owner_tier);
    open_one(other_dir, url, 2, &other, &other_tier);
    atomic_store(&next_page, 1);
    atomic_store(&trimmed, PAGE);
    atomic_store(&written_to, PAGE);
    atomic_store(&stop_ms, torture_now_ms() + torture_duration_ms());
    for (uint32_t i = 0; i < 2 * THREADS; i++)
        worker_init(&workers[i], i);
    torture_run(2 * THREADS, worker_body, workers);
    uint64_t reads = 0, foreign = 0, late = 0, slept = 0;
    for (uint32_t i = 0; i < 2 * THREADS; i++) {
        *(i < THREADS ? &reads : &foreign) += workers[i].read_ok;
        late += workers[i].read_trimmed;
        slept += workers[i].slept;
        free(workers[i].rooms);
    }
    struct gw_tier_stats stats;
    gw_tier_stats(owner_tier, &stats);
    printf("%lu pages, %lu reads, %lu foreign, %lu trimmed under way, %lu slept; %lu segments "
           "dropped, %lu objects deleted, %lu cold reads\n",
           (unsigned long)atomic_load(&next_page), (unsigned long)reads, (unsigned long)foreign,
           (unsigned long)late, (unsigned long)slept, (unsigned long)stats.dropped_segments,
           (unsigned long)stats.deleted_objects, (unsigned long)stats.cold_reads);
    CHECK(stats.trouble[0] == 0, "%s", stats.trouble);
    CHECK(reads > 0 && foreign > 0 && stats.dropped_segments > 0 && stats.cold_reads > 0,
          "nothing happened");
    gw_tier_close(owner_tier);
    gw_tier_close(other_tier);
    char command[8400];
    snprintf(command, sizeof command, "rm -rf '%s'", store);
    CHECK(system(command) == 0, "%s", command);
    free(store);
    tier_dir_remove(dir);
    tier_dir_remove(other_dir);
    return 0;
}
