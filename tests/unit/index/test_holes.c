/* Goal: the interleavings of ENGINE section 1 that this engine must survive, each driven by hand:
 * one test plays the threads, so that the bad order happens every time. Races are in torture/. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "index/store_internal.h"
#include "index/table_internal.h"
#include "store_fixture.h"

/* Finds a key's record as an operation would; the fixture's thread must be inside. */
static enum gwi_walk find(struct fixture *f, const char *key, struct gwi_position *position)
{
    op(f, GW_VERB_READ, key, 0);
    gw_store_hash(f->store, &f->op);
    enum gw_status why;
    return gwi_find(f->thread, &f->op, position, &why);
}

/* Executes f->op while the fixture's thread is inside already. */
static enum gw_status run_inside(struct fixture *f)
{
    size_t used;
    gw_store_hash(f->store, &f->op);
    gw_store_execute(f->thread, &f->op, 1, f->room, f->room_bytes, &used);
    return (enum gw_status)f->op.status;
}

static uint64_t control_of(struct gwi_position *p)
{
    return atomic_load(&p->record->control);
}

/* ---- H4: fetch-add on a record that somebody copies ---- */

Test(holes, h4_an_add_waits_while_the_record_is_being_copied)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    add(&f, "counter1", 5);
    gw_store_enter(f.thread);
    struct gwi_position p;
    cr_assert_eq(find(&f, "counter1", &p), GWI_FOUND);
    uint64_t control = control_of(&p);
    cr_assert(gw_record_seal(p.record, control)); /* another thread is about to copy the 5 */
    op(&f, GW_VERB_ADD, "counter1", 0);
    f.op.delta = 1;
    cr_expect_eq(run_inside(&f), GW_RETRY, "the add would be lost");
    op(&f, GW_VERB_READ, "counter1", 0);
    cr_expect_eq(run_inside(&f), GW_OK, "readers ignore the seal");
    cr_expect_eq(f.op.number, 5);
    cr_expect_not(gw_record_lock(p.record, control), "a control word from before the seal");
    gw_record_unseal(p.record, control | GW_CONTROL_SEALED);
    op(&f, GW_VERB_ADD, "counter1", 0);
    f.op.delta = 1;
    cr_expect_eq(run_inside(&f), GW_OK, "the copier gave up");
    cr_expect_eq(f.op.number, 6);
    gw_store_exit(f.thread);
    fixture_close(&f);
}

Test(holes, h4_an_add_in_the_fuzzy_region_seals_and_copies)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    struct gw_thread *late;
    cr_assert_eq(gw_store_thread_open(f.store, &late), GW_OK);
    add(&f, "counter1", 5);
    uint32_t version = f.op.version;
    gw_store_enter(late); /* from before the shift: may still add in place */
    cr_assert_eq(gw_store_shift_read_only(f.store), GW_OK);
    gw_store_poll(f.thread);
    gw_store_enter(f.thread);
    cr_expect_lt(f.thread->view.safe_read_only, f.thread->view.read_only, "fuzzy while it is in");
    struct gwi_position before, after;
    cr_assert_eq(find(&f, "counter1", &before), GWI_FOUND);
    uint64_t seen = control_of(&before);
    op(&f, GW_VERB_ADD, "counter1", 0);
    f.op.delta = 1;
    cr_expect_eq(run_inside(&f), GW_OK);
    cr_expect_eq(f.op.number, 6);
    cr_expect_eq(f.op.version, version + 1);
    cr_assert_eq(find(&f, "counter1", &after), GWI_FOUND);
    cr_expect_neq(before.record, after.record, "a copy at the tail");
    cr_expect(control_of(&before) & GW_CONTROL_SEALED, "so that the late thread cannot add to it");
    cr_expect_not(gw_record_lock(before.record, seen));
    gw_store_exit(f.thread);
    gw_store_exit(late);

    struct gw_op op2 = f.op; /* the late thread comes again */
    size_t used;
    gw_store_hash(f.store, &op2);
    op2.verb = GW_VERB_ADD;
    op2.delta = 10;
    gw_store_enter(late);
    gw_store_execute(late, &op2, 1, NULL, 0, &used);
    gw_store_exit(late);
    cr_expect_eq(op2.number, 16);
    gw_store_thread_close(late);
    fixture_close(&f);
}

Test(holes, h4_below_safe_read_only_a_copy_needs_no_seal)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    add(&f, "counter1", 5);
    cr_assert_eq(gw_store_shift_read_only(f.store), GW_OK);
    gw_store_poll(f.thread);
    gw_store_enter(f.thread);
    cr_expect_eq(f.thread->view.safe_read_only, f.thread->view.read_only);
    struct gwi_position before;
    cr_assert_eq(find(&f, "counter1", &before), GWI_FOUND);
    op(&f, GW_VERB_ADD, "counter1", 0);
    f.op.delta = 1;
    cr_expect_eq(run_inside(&f), GW_OK);
    cr_expect_not(control_of(&before) & GW_CONTROL_SEALED, "its page may be on its way out (H5)");
    gw_store_exit(f.thread);
    fixture_close(&f);
}

Test(holes, h4_a_lock_is_tried_a_bounded_number_of_times)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    add(&f, "counter1", 5);
    put(&f, "text", "abc");
    gw_store_enter(f.thread);
    struct gwi_position p, q;
    cr_assert_eq(find(&f, "counter1", &p), GWI_FOUND);
    cr_assert_eq(find(&f, "text", &q), GWI_FOUND);
    uint64_t cp = control_of(&p), cq = control_of(&q);
    cr_assert(gw_record_lock(p.record, cp)); /* a holder that was descheduled */
    cr_assert(gw_record_lock(q.record, cq));
    static const uint8_t verbs[] = {GW_VERB_ADD, GW_VERB_UPSERT, GW_VERB_DELETE, GW_VERB_READ};
    for (size_t i = 0; i < sizeof verbs; i++) {
        op(&f, verbs[i], i % 2 ? "text" : "counter1", 0);
        cr_expect_eq(run_inside(&f), GW_RETRY, "verb %d", verbs[i]);
    }
    gw_record_unlock(p.record, cp);
    gw_record_unlock(q.record, cq);
    gw_store_exit(f.thread);
    cr_expect_eq(add(&f, "counter1", 1), GW_OK);
    cr_expect_eq(f.op.number, 6);
    fixture_close(&f);
}

Test(holes, h4_later_operations_on_a_key_do_not_overtake_one_that_must_wait)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    add(&f, "counter1", 5);
    add(&f, "counter2", 5);
    gw_store_enter(f.thread);
    struct gwi_position p;
    cr_assert_eq(find(&f, "counter1", &p), GWI_FOUND);
    uint64_t control = control_of(&p);
    cr_assert(gw_record_seal(p.record, control));
    struct gw_op ops[4];
    static const char *keys[] = {"counter1", "counter2", "counter1", "new"};
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < 4; i++) {
        ops[i].verb = i == 2 ? GW_VERB_READ : GW_VERB_ADD; /* a read could be executed */
        ops[i].delta = 1;
        ops[i].key = (const uint8_t *)keys[i];
        ops[i].key_bytes = (uint16_t)strlen(keys[i]);
        gw_store_hash(f.store, &ops[i]);
    }
    ops[3].flags = GW_OP_UNSETTLED;
    size_t used;
    cr_expect_eq(gw_store_execute(f.thread, ops, 4, f.room, f.room_bytes, &used), 4);
    cr_expect_eq(ops[0].status, GW_RETRY);
    cr_expect_eq(ops[1].status, GW_OK, "another key goes on");
    cr_expect_eq(ops[2].status, GW_RETRY, "would not see the add before it");
    cr_expect_eq(ops[3].status, GW_ABSENT);
    ops[0] = ops[3];
    ops[1] = ops[3];
    ops[1].verb = GW_VERB_UPSERT;
    ops[1].flags = 0;
    cr_expect_eq(gw_store_execute(f.thread, ops, 2, f.room, f.room_bytes, &used), 2);
    cr_expect_eq(ops[1].status, GW_ABSENT, "a blind write waits behind what waits for a pull");
    gw_record_unseal(p.record, control | GW_CONTROL_SEALED);
    gw_store_exit(f.thread);
    fixture_close(&f);
}

/* ---- H7: the sleeping dispatcher and the cut ---- */

static void count_call(void *arg)
{
    ++*(uint32_t *)arg;
}

static void note_wake(void *ctx, uint32_t slot)
{
    *(uint32_t *)ctx |= 1u << slot;
}

Test(holes, h7_a_sleeper_holds_back_the_cut_until_it_has_done_its_part)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    struct gw_epoch *epoch = gw_store_epoch(f.store);
    struct gw_thread *sleeper;
    cr_assert_eq(gw_store_thread_open(f.store, &sleeper), GW_OK);
    uint32_t awake = gw_store_epoch_slot(f.thread), asleep = gw_store_epoch_slot(sleeper);
    uint32_t done = 0, woken = 0, left = 0;
    gw_cut_set_waker(epoch, note_wake, &woken);
    struct gw_cut cut = {.phase = 7, .done = count_call, .arg = &done}, seen;
    cr_assert_eq(gw_cut_publish(epoch, &cut), GW_OK);
    cr_expect_eq(woken, 1u << awake | 1u << asleep, "publishing wakes those who must act");

    gw_store_enter(f.thread);
    cr_expect(gw_cut_next(epoch, awake, &seen));
    cr_expect_eq(seen.phase, 7);
    gw_cut_acknowledge(epoch, awake);
    cr_expect_not(gw_cut_next(epoch, awake, &seen));
    gw_store_exit(f.thread);
    cr_assert_eq(gw_epoch_defer(epoch, count_call, &left), GW_OK);
    gw_store_poll(f.thread);
    cr_expect_eq(left, 1, "asleep counts as having left the epoch");
    cr_expect_eq(done, 0, "but not as having done one's part");

    gw_store_enter(sleeper); /* wakes: enters, and finds the phase before its input */
    cr_expect(gw_cut_next(epoch, asleep, &seen));
    cr_expect_eq(seen.phase, 7);
    gw_cut_acknowledge(epoch, asleep);
    cr_expect_eq(done, 1, "the last one completes it");
    gw_store_exit(sleeper);
    gw_store_thread_close(sleeper);
    fixture_close(&f);
}

/* ---- H12: stale pointers between the stages of a batch ---- */

Test(holes, h12_an_operation_sees_what_an_earlier_one_of_its_batch_has_moved)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    put(&f, "key", "short");
    add(&f, "counter1", 1);
    cr_assert_eq(gw_store_shift_read_only(f.store), GW_OK);
    gw_store_poll(f.thread);
    static const char longer[] = "a value that needs a record of its own at the tail of the log";
    struct gw_op ops[6];
    memset(ops, 0, sizeof ops);
    static const struct {
        const char *key;
        uint8_t verb;
    } script[6] = {{"key", GW_VERB_UPSERT},   {"counter1", GW_VERB_ADD},  {"key", GW_VERB_READ},
                   {"counter1", GW_VERB_ADD}, {"counter1", GW_VERB_READ}, {"new", GW_VERB_INSERT}};
    for (int i = 0; i < 6; i++) {
        ops[i].verb = script[i].verb;
        ops[i].key = (const uint8_t *)script[i].key;
        ops[i].key_bytes = (uint16_t)strlen(script[i].key);
        ops[i].value = (const uint8_t *)longer;
        ops[i].value_bytes = sizeof longer;
        ops[i].delta = 10;
        gw_store_hash(f.store, &ops[i]);
    }
    size_t used;
    gw_store_enter(f.thread);
    cr_expect_eq(gw_store_execute(f.thread, ops, 6, f.room, f.room_bytes, &used), 6);
    cr_expect_eq(ops[2].out_bytes, sizeof longer, "stage 2 had found the old record");
    cr_expect_eq(ops[1].number, 11, "copied");
    cr_expect_eq(ops[3].number, 21, "then in place, in the copy");
    cr_expect_eq(ops[4].number, 21);
    ops[0] = ops[5]; /* creates, then reads what did not exist when the batch began */
    ops[0].key = (const uint8_t *)"new2";
    ops[0].key_bytes = 4;
    gw_store_hash(f.store, &ops[0]);
    ops[1] = ops[0];
    ops[1].verb = GW_VERB_READ;
    ops[2] = ops[0];
    cr_expect_eq(gw_store_execute(f.thread, ops, 3, f.room, f.room_bytes, &used), 3);
    cr_expect_eq(ops[0].status, GW_OK);
    cr_expect_eq(ops[1].status, GW_OK);
    cr_expect_eq(ops[2].status, GW_EXISTS);
    gw_store_exit(f.thread);
    fixture_close(&f);
}

/* ---- H13: chain order broken by early allocation ---- */

Test(holes, h13_chain_order_survives_early_allocation)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    put(&f, "key", "1");
    gw_store_enter(f.thread);
    struct gw_log *log = f.thread->log;
    gw_addr early;
    cr_assert_eq(gw_log_allocate(log, 3, &early), GW_OK); /* A allocates and is slow */
    op(&f, GW_VERB_UPSERT, "key", 0);                     /* B allocates above it and publishes */
    f.op.value = (const uint8_t *)"a longer value than the one before";
    f.op.value_bytes = 34;
    cr_assert_eq(run_inside(&f), GW_OK);
    struct gwi_position p;
    cr_assert_eq(find(&f, "key", &p), GWI_FOUND);
    cr_assert_gt(p.address.v, early.v);
    struct gw_record *mine = gw_log_at(&f.thread->view, early);
    gw_record_fill(mine, 3, (const uint8_t *)"key", gw_control_make(1, 3, 0, GW_RECORD_BYTES, 0));
    cr_expect_not(gwi_publish(f.thread, p.place, p.entry, mine, early),
                  "A would link a record above its own address");
    cr_expect_eq(atomic_load(p.place), p.entry);
    gw_log_void(mine, 3);
    for (uint64_t narrow = gw_entry_narrow(p.entry), last = UINT64_MAX; narrow;) {
        gw_addr at = gw_addr_widen(narrow, f.thread->view.reference);
        cr_expect_lt(at.v, last, "the chain runs downward");
        last = at.v;
        narrow = gw_record_previous(gw_log_at(&f.thread->view, at));
    }
    gw_store_exit(f.thread);
    fixture_close(&f);
}

/* ---- H14: the address space ends ---- */

Test(holes, h14_addresses_wrap_at_42_bits)
{
    struct fixture f;
    uint64_t start = GW_ADDR_WINDOW - ((uint64_t)2 << 19);
    fixture_open(&f, &(struct gw_store_options){.page_bits = 19, .log_start = start});
    char key[16], value[101];
    memset(value, 'v', 100);
    value[100] = 0;
    int n = 0;
    for (; n < 20000; n++) { /* 144 bytes each: 2.8 MiB, two pages below the wrap, three above */
        snprintf(key, sizeof key, "%08d", n);
        cr_assert_eq(put(&f, key, value), GW_OK);
    }
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_assert_lt(stats.log_begin, GW_ADDR_WINDOW);
    cr_assert_gt(stats.log_tail, GW_ADDR_WINDOW + (1 << 20));
    cr_assert_eq(gw_store_shift_read_only(f.store), GW_OK);
    gw_store_poll(f.thread);
    for (int i = 0; i < n; i += 7) { /* chains from above the wrap to below it */
        snprintf(key, sizeof key, "%08d", i);
        cr_assert_eq(put(&f, key, "new"), GW_OK);
    }
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%08d", i);
        cr_assert_eq(get(&f, key), GW_OK);
        cr_assert_eq(f.op.out_bytes, i % 7 ? 100 : 3, "key %d", i);
    }
    fixture_close(&f);
}

Test(holes, h14_widening_finds_the_address_within_the_window)
{
    static const uint64_t references[] = {(uint64_t)1 << 45, GW_ADDR_WINDOW, GW_ADDR_WINDOW + 16,
                                          3 * GW_ADDR_WINDOW + 12345 * 16};
    static const uint64_t backs[] = {0, 16, 4096, (uint64_t)1 << 40, ((uint64_t)1 << 45) - 16};
    for (size_t r = 0; r < 4; r++)
        for (size_t b = 0; b < 5; b++) {
            gw_addr at = gw_addr_of(references[r] - backs[b]);
            cr_expect_eq(gw_addr_widen(gw_addr_narrow(at), gw_addr_of(references[r])).v, at.v);
        }
}

/* ---- H15: the life of an entry ---- */

struct tie {
    struct gw_table *table;
    _Atomic uint64_t *place[2];
    uint64_t entry[2];
};

static const uint64_t tie_hash = 0x123456789abcdef0u, tie_tag = 77u << 8 | 5u << 2;

/* Two inserters of one tag have both put their tentative entries in; 0 has the lower place. */
static void tie_open(struct tie *t)
{
    struct gw_table_options options = {.bytes = 65536};
    cr_assert_eq(gw_table_create(&options, &t->table), GW_OK);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(gwi_table_place(t->table, tie_hash, tie_tag,
                                     gw_addr_of(4096u + 64u * (unsigned)i), &t->place[i],
                                     &t->entry[i]),
                     GW_OK);
    cr_assert_lt(t->place[0], t->place[1]);
    uint64_t none;
    cr_expect_null(gw_table_find(t->table, tie_hash, tie_tag, &none), "tentative is not live");
}

Test(holes, h15_the_lower_place_wins_a_tie_when_it_is_first)
{
    struct tie t;
    tie_open(&t);
    cr_expect_eq(gwi_table_confirm(t.table, tie_hash, &t.place[0], &t.entry[0]), GW_OK);
    cr_expect_eq(gwi_table_confirm(t.table, tie_hash, &t.place[1], &t.entry[1]), GW_EXISTS);
    cr_expect_eq(t.place[1], t.place[0], "the other one learns which");
    cr_expect_eq(gw_entry_narrow(t.entry[1]), 4096 / 16);
    gw_table_destroy(t.table);
}

Test(holes, h15_the_higher_place_steps_back_when_it_is_first)
{
    struct tie t;
    tie_open(&t);
    _Atomic uint64_t *high = t.place[1];
    cr_expect_eq(gwi_table_confirm(t.table, tie_hash, &t.place[1], &t.entry[1]), GW_RETRY);
    cr_expect_eq(atomic_load(high), 0, "its word is gone");
    cr_expect_eq(gwi_table_confirm(t.table, tie_hash, &t.place[0], &t.entry[0]), GW_OK);
    _Atomic uint64_t *place;
    uint64_t entry;
    cr_expect_eq(gw_table_insert(t.table, tie_hash, tie_tag, gw_addr_of(8192), &place, &entry),
                 GW_EXISTS);
    cr_expect_eq(place, t.place[0]);
    gw_table_destroy(t.table);
}

Test(holes, h15_who_was_taken_away_notices)
{
    struct tie t;
    tie_open(&t);
    atomic_store(t.place[1], 0); /* the lower one did so, between our scan and our CAS */
    atomic_store(t.place[0], 0); /* and is gone itself */
    cr_expect_eq(gwi_table_confirm(t.table, tie_hash, &t.place[1], &t.entry[1]), GW_RETRY);
    uint64_t none;
    cr_expect_null(gw_table_find(t.table, tie_hash, tie_tag, &none));
    gw_table_destroy(t.table);
}

Test(holes, h15_a_delete_leaves_the_entry)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    put(&f, "key", "1");
    gw_store_enter(f.thread);
    struct gwi_position before, after;
    cr_assert_eq(find(&f, "key", &before), GWI_FOUND);
    op(&f, GW_VERB_DELETE, "key", 0);
    cr_expect_eq(run_inside(&f), GW_OK);
    cr_assert_eq(find(&f, "key", &after), GWI_FOUND);
    cr_expect_eq(before.place, after.place);
    cr_expect(control_of(&after) & GW_CONTROL_TOMBSTONE);
    gw_store_exit(f.thread);
    fixture_close(&f);
}

Test(holes, h15_an_overflow_line_that_lost_its_race_goes_back)
{
    struct gw_table *table;
    struct gw_table_options options = {.bytes = 65536, .chunk_bits = 9}; /* one chunk */
    cr_assert_eq(gw_table_create(&options, &table), GW_OK);
    uint64_t word = atomic_load(&table->directory[0]);
    uint32_t a = gwi_line_take(table, word, false), b = gwi_line_take(table, word, false);
    cr_expect_neq(a, 0);
    cr_expect_neq(a, b);
    gwi_line_give_back(table, word, a);
    gwi_line_give_back(table, word, b);
    cr_expect_eq(gw_table_lines_used(table), 0);
    uint64_t total = gw_table_lines_total(table), got = 0;
    while (gwi_line_take(table, word, false) != 0)
        got++;
    cr_expect_eq(got, total, "none is lost, none is given twice");
    gw_table_destroy(table);
}

Test(holes, h16_one_slot_for_everything_is_correct_and_bounded)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){.index_bytes = 1 << 20});
    char key[32];
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "{tag}%d", i);
        cr_assert_eq(add(&f, key, i), GW_OK);
    }
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "{tag}%d", i);
        cr_assert_eq(get(&f, key), GW_OK);
        cr_assert_eq(f.op.number, i);
    }
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_expect_lt(stats.walk_longest, 12, "six hash bits tell most keys of a bucket apart");
    cr_expect_gt(stats.walk_longest, 1);
    fixture_close(&f);
}

/* A key that is always replaced by a copy has a chain as long as memory; all but its first record
 * are older versions. */
Test(holes, h16_unlinking_does_not_walk_through_old_versions)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){.index_bytes = 1 << 20});
    static char value[1000];
    memset(value, 'v', sizeof value - 1);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(put(&f, "key", value + (i % 2 ? 500 : 0)), GW_OK);
    struct gw_cursor cursor = {0};
    uint64_t unlinked = 0;
    gw_store_enter(f.thread);
    gw_store_unlink(f.thread, &cursor, UINT64_MAX, NULL, UINT32_MAX, &unlinked);
    gw_store_exit(f.thread);
    cr_expect_eq(unlinked, 1);
    cr_expect_eq(f.thread->chain_count, 1);
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_expect_eq(stats.keys, 0);
    cr_expect_eq(stats.live_bytes, 0);
    fixture_close(&f);
}
