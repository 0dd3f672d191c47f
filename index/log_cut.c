/* log_cut.c - the cut of a checkpoint: an address E, at the start of a page, that all threads agree
 * upon without waiting for one another (docs/decisions/0007).
 *
 * E is chosen by the CAS that turns the tail's page, with a mark in the new tail word: "this page's
 * start is the newest cut". The cut word (address and name) follows; whoever meets the mark writes
 * it first himself.
 *  1. Nothing below E is allocated after that CAS, nothing at or above it before: it is one of the
 *     changes of the tail word, which are in one order. So E is never too low.
 *  2. Whoever allocates at or above E knows the cut word before he goes on: on the marked page his
 *     own change of the tail word gave him the mark; the mark goes only when the page is turned,
 *     and who turns it has written the cut word before his CAS (release), which everybody who
 *     allocates later has acquired. The name, stored before the marking CAS, comes to him in the
 *     same way.
 *  3. So does whoever meets a record at or above E, for he acquired the entry that leads to it. And
 *     a view whose tail lies above E has E, for it loads the tail first and sees the mark, or what
 *     came before it went. So what a thread allocates, and records at or above its view's `fresh`,
 *     are all that can lie above a cut which it has not loaded.
 *  4. Two cuts do not overlap: the second begins when what lies below the first has been flushed,
 *     and the first has written the cut word before it returned. So a late helper of the first
 *     finds it written, or nobody has stored the second's name yet.
 *
 * The cut is made by a thread outside of the epoch, which others would not wait for: it keeps the
 * log's maintenance out (`busy`), so that nobody writes the page that it is closing, and does not
 * begin while frames are being taken away. */
#include "index/device.h"
#include "index/log_internal.h"

#define BUSY_TRIES 4096u /* a maintainer writes some pages' headers at most */
#define TURN_TRIES 1024u

/* Writes the cut word, unless somebody has. */
static void cut_raise(struct gw_log *log, uint64_t address)
{
    uint64_t now = atomic_load_explicit(&log->cut, memory_order_relaxed);
    /* Relaxed: acquired with the mark, or one's own. */
    uint64_t name = atomic_load_explicit(&log->cut_name, memory_order_relaxed) & GW_LOG_CUT_NAME;
    /* Release: the name before the word; pairs with gwi_log_cut_view. */
    while ((now & ~GW_LOG_CUT_NAME) < address &&
           !atomic_compare_exchange_weak_explicit(&log->cut, &now, address | name,
                                                  memory_order_release, memory_order_relaxed)) {}
}

void gwi_log_cut_met(struct gw_log *log, uint64_t page)
{
    cut_raise(log, page << log->page_bits);
}

uint64_t gwi_log_cut_view(struct gw_log *log, struct gw_log_view *view)
{
    /* Acquire, both: 3 in the head; the tail first. */
    uint64_t tail = atomic_load_explicit(&log->tail, memory_order_acquire);
    if (GW_UNLIKELY(tail & GW_LOG_TAIL_CUT))
        cut_raise(log, (tail >> GW_LOG_OFFSET_BITS) << log->page_bits);
    view->cut = atomic_load_explicit(&log->cut, memory_order_acquire);
    uint64_t end = view->cut & ~GW_LOG_CUT_NAME;
    view->read_only = view->read_only > end ? view->read_only : end;
    view->parity = (view->cut & 1) ? GW_CONTROL_PARITY : 0;
    return gwi_log_address_of(log, tail);
}

uint64_t gw_log_cut_number(const struct gw_log *log, const struct gw_log_view *view)
{
    /* The highest name with these low bits: what is stored now is the cut's own or a later one. */
    uint64_t name = atomic_load_explicit(&log->cut_name, memory_order_acquire);
    return (name - ((name - view->cut) & GW_LOG_CUT_NAME)) >> 1;
}

void gw_log_cut_resume(struct gw_log *log, uint64_t number)
{
    uint64_t name = number << 1;
    atomic_store_explicit(&log->cut_name, name, memory_order_relaxed);
    uint64_t address = atomic_load_explicit(&log->cut, memory_order_relaxed) & ~GW_LOG_CUT_NAME;
    atomic_store_explicit(&log->cut, address | (name & GW_LOG_CUT_NAME), memory_order_release);
}

/* Turns the page, with the mark. Requires: `busy` is ours. */
static enum gw_status turn(struct gw_log *log, gw_addr *end)
{
    uint64_t word = atomic_load_explicit(&log->tail, memory_order_acquire);
    for (uint32_t tries = 0; tries < TURN_TRIES; tries++) {
        uint64_t page = word >> GW_LOG_OFFSET_BITS, offset = word & GW_LOG_OFFSET_MASK;
        /* Acquire: pairs with the release that makes the frame ours. */
        if (page + 1 >= atomic_load_explicit(&log->page_limit, memory_order_acquire))
            return GW_RETRY;
        uint64_t next =
            (page + 1) << GW_LOG_OFFSET_BITS | GW_LOG_TAIL_CUT | (uint64_t)GW_LOG_PAGE_HEADER;
        /* Release: the name before the mark. */
        if (!atomic_compare_exchange_weak_explicit(&log->tail, &word, next, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        if (offset <= log->page_bytes) { /* else who stepped over the end notes it, as ever */
            gwi_log_page_close(log, page, offset);
            /* Relaxed: a number. */
            atomic_fetch_add_explicit(&log->cut_waste, (int64_t)(log->page_bytes - offset),
                                      memory_order_relaxed);
        }
        gwi_log_page_open(log, page + 1);
        *end = gw_addr_of((page + 1) << log->page_bits);
        cut_raise(log, end->v);
        return GW_OK;
    }
    return GW_RETRY;
}

enum gw_status gw_log_cut(struct gw_log *log, uint64_t number, gw_addr *end)
{
    if (!log->device)
        return GW_E_UNSUPPORTED;
    uint64_t last = atomic_load_explicit(&log->cut, memory_order_acquire) & ~GW_LOG_CUT_NAME;
    if (atomic_load_explicit(&log->flushed, memory_order_acquire) < last)
        return GW_E_BUSY;
    uint32_t tries = 0;
    /* Acquire: pairs with the maintainer's release. */
    while (atomic_exchange_explicit(&log->busy, 1, memory_order_acquire))
        if (++tries == BUSY_TRIES)
            return GW_RETRY;
    enum gw_status st = GW_RETRY;
    /* 2: somebody inside may hold frames that are being taken away, and we are not inside. */
    if (atomic_load_explicit(&log->head_moving, memory_order_acquire) != 2) {
        uint64_t name = atomic_load_explicit(&log->cut_name, memory_order_relaxed);
        GW_ASSERT(number > name >> 1 && number - (name >> 1) < GW_LOG_CUT_NAME / 2);
        atomic_store_explicit(&log->cut_name, number << 1 | (~name & 1), memory_order_relaxed);
        st = turn(log, end);
        if (st != GW_OK)
            atomic_store_explicit(&log->cut_name, name, memory_order_relaxed);
    }
    atomic_store_explicit(&log->busy, 0, memory_order_release);
    if (st != GW_OK)
        return st;
    enum gw_status refused = gw_log_shift_read_only(log, *end);
    (void)refused; /* maintenance tries again */
    return GW_OK;
}
