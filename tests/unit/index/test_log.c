/* Goal: boundaries rise in their order and one epoch apart; pages are turned, closed and used up.
 */
#include "index/log.h"

#include <criterion/criterion.h>

#include "index/entry_inline.h"

#define PAGE_BITS 16u
#define PAGE      (1u << PAGE_BITS)

static struct gw_epoch *epoch;
static struct gw_log *hlog;
static uint32_t slot[2];

static void setup(void)
{
    cr_assert_eq(gw_epoch_create(2, &epoch), GW_OK);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(gw_epoch_join(epoch, false, &slot[i]), GW_OK);
    cr_assert_eq(gw_log_create(epoch, 3 * PAGE, PAGE_BITS, 5 * PAGE + 100, &hlog), GW_OK);
}

static void teardown(void)
{
    for (int i = 0; i < 2; i++)
        gw_epoch_leave(epoch, slot[i]);
    gw_epoch_destroy(epoch);
    gw_log_destroy(hlog);
}

TestSuite(log, .init = setup, .fini = teardown);

Test(log, starts_behind_the_header_of_its_first_page)
{
    cr_expect_eq(gw_log_tail(hlog).v, 5 * PAGE + GW_LOG_PAGE_HEADER, "the start is cut to a page");
    struct gw_log_view view;
    gw_log_view_load(hlog, &view);
    cr_expect_eq(view.begin, gw_log_tail(hlog).v);
    const struct gw_log_page_header *h =
        (const struct gw_log_page_header *)gw_log_at(&view, gw_addr_of(5 * PAGE));
    cr_expect_eq(h->magic, GW_LOG_PAGE_MAGIC);
    cr_expect_eq(h->address, 5 * PAGE);
    cr_expect_eq(h->page_bits, PAGE_BITS);
}

Test(log, a_record_that_does_not_fit_goes_to_the_next_page)
{
    gw_addr a, b, c;
    uint64_t most = gw_log_record_bytes_max(hlog) / GW_ADDR_UNIT;
    cr_assert_eq(gw_log_allocate(hlog, most - 1, &a), GW_OK);
    cr_assert_eq(gw_log_allocate(hlog, 2, &b), GW_OK);
    cr_expect_eq(b.v, 6 * PAGE + GW_LOG_PAGE_HEADER);
    cr_assert_eq(gw_log_allocate(hlog, most, &c), GW_OK);
    cr_expect_eq(c.v, 7 * PAGE + GW_LOG_PAGE_HEADER);
    struct gw_log_view view;
    gw_log_view_load(hlog, &view);
    const struct gw_log_page_header *h =
        (const struct gw_log_page_header *)gw_log_at(&view, gw_addr_of(5 * PAGE));
    cr_expect_eq(h->used_units, PAGE / 16 - 1);
    h = (const struct gw_log_page_header *)gw_log_at(&view, gw_addr_of(6 * PAGE));
    cr_expect_eq(h->used_units, (GW_LOG_PAGE_HEADER + 32) / 16);
    gw_addr d;
    cr_expect_eq(gw_log_allocate(hlog, 1, &d), GW_E_FULL, "three pages and no device");
    cr_expect_eq(gw_log_tail(hlog).v, 8 * PAGE);
}

Test(log, a_full_log_takes_what_still_fits)
{
    gw_addr a;
    uint64_t most = gw_log_record_bytes_max(hlog) / GW_ADDR_UNIT;
    for (int i = 0; i < 2; i++)
        cr_assert_eq(gw_log_allocate(hlog, most, &a), GW_OK);
    cr_assert_eq(gw_log_allocate(hlog, most - 10, &a), GW_OK);
    for (int i = 0; i < 100; i++)
        cr_expect_eq(gw_log_allocate(hlog, 11, &a), GW_E_FULL);
    cr_expect_eq(atomic_load(&hlog->full), 1);
    cr_expect_eq(gw_log_allocate(hlog, 10, &a), GW_OK);
    cr_expect_eq(atomic_load(&hlog->full), 0);
    cr_expect_eq(gw_log_allocate(hlog, 1, &a), GW_E_FULL);
}

Test(log, the_read_only_boundary_rises_in_three_steps)
{
    gw_addr a;
    struct gw_log_view old, now;
    uint64_t first = gw_log_tail(hlog).v;
    cr_assert_eq(gw_log_allocate(hlog, 100, &a), GW_OK);
    uint64_t to = gw_log_tail(hlog).v;
    gw_epoch_enter(epoch, slot[0]);
    gw_log_view_load(hlog, &old);
    cr_assert_eq(gw_log_shift_read_only(hlog, gw_addr_of(to + 4096)), GW_OK);
    gw_epoch_poll(epoch);
    gw_epoch_enter(epoch, slot[1]);
    gw_log_view_load(hlog, &now);
    cr_expect_eq(now.read_only, to, "not above the tail");
    cr_expect_eq(now.safe_read_only, first, "somebody may still change in place");
    gw_epoch_exit(epoch, slot[0]);
    gw_epoch_poll(epoch);
    gw_log_view_load(hlog, &old);
    cr_expect_eq(old.safe_read_only, to);
    cr_expect_eq(atomic_load(&hlog->flushable), first, "slot 1 may still seal (H5)");
    gw_epoch_exit(epoch, slot[1]);
    gw_epoch_poll(epoch);
    cr_expect_eq(atomic_load(&hlog->flushable), to);
    cr_assert_eq(gw_log_shift_read_only(hlog, gw_addr_of(first)), GW_OK);
    gw_log_view_load(hlog, &now);
    cr_expect_eq(now.read_only, to, "never down");
    cr_expect_eq(gw_epoch_waiting(epoch), 0);
}

Test(log, users_do_not_fill_the_pages_that_compaction_has_opened)
{
    gw_addr a;
    uint64_t most = gw_log_record_bytes_max(hlog) / GW_ADDR_UNIT;
    atomic_store(&hlog->reserve, 1);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(gw_log_allocate(hlog, most - 10, &a), GW_OK);
    cr_expect_eq(gw_log_allocate(hlog, 10, &a), GW_OK, "the rest of their own last page");
    cr_expect_eq(gw_log_allocate(hlog, 2, &a), GW_E_FULL);
    cr_assert_eq(gw_log_allocate_reserved(hlog, 10, &a), GW_OK);
    cr_expect_eq(a.v, 7 * PAGE + GW_LOG_PAGE_HEADER);
    cr_expect_eq(gw_log_allocate(hlog, 2, &a), GW_E_FULL, "it is not theirs");
    cr_expect_eq(gw_log_allocate_reserved(hlog, most - 10, &a), GW_OK, "all of it is there");
    cr_expect_eq(gw_log_allocate_reserved(hlog, 1, &a), GW_E_FULL);
}

/* A thread may be stopped between its loads for as long as it likes. */
Test(log, without_a_device_nothing_lies_below_the_head_of_a_view)
{
    gw_addr a;
    struct gw_log_view view;
    gw_log_view_load(hlog, &view);
    uint64_t first = view.begin;
    uint64_t most = gw_log_record_bytes_max(hlog) / GW_ADDR_UNIT;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(gw_log_allocate(hlog, most, &a), GW_OK);
    cr_assert_eq(gw_log_shift_read_only(hlog, gw_log_tail(hlog)), GW_OK);
    while (gw_epoch_poll(epoch)) {}
    gw_log_raise_begin(hlog, gw_addr_of(7 * PAGE));
    gw_log_maintain(hlog, 0);
    cr_assert_eq(atomic_load(&hlog->head), 7 * PAGE);
    atomic_store(&hlog->begin, first); /* as who loaded it before all this */
    gw_log_view_load(hlog, &view);
    cr_expect_eq(view.head, 7 * PAGE);
    cr_expect_geq(view.begin, view.head,
                  "a look-up would go on to read a device that is not there");
    atomic_store(&hlog->begin, 7 * PAGE);
}

Test(log, layouts_are_those_of_the_design)
{
    uint64_t control = gw_control_make(0xdeadbeef, 0xabcd, 0x12, GW_RECORD_COUNTER,
                                       GW_CONTROL_ARRIVED | GW_CONTROL_TOMBSTONE);
    cr_expect_eq(control, 0xdeadbeefabcd1294u);
    cr_expect_eq(gw_record_link(2, 0x3ffffffffff), (uint64_t)2 << 42 | 0x3ffffffffff);
    cr_expect_eq(gw_record_units_for(8, 8, false), 2, "a counter under 8 bytes takes 32");
    cr_expect_eq(gw_record_units_for(8, 8, true), 3, "with an expiry 48");
    cr_expect_eq(gw_entry_make(gw_entry_tag(0x3fff, 63), gw_addr_of(0x123450)),
                 0xfffff00000012345u);
    cr_expect_eq(gw_entry_slot(0xfffff00000012345u), 0x3fff);
    cr_expect_eq(gw_entry_hash_bits(0xfffff00000012345u), 63);
    cr_expect_not(gw_entry_is_live(UINT64_MAX), "never written");
    cr_expect_not(gw_entry_is_live(0));
}
