/* Goal: a reply leaves when what it shows is durable in the logs of all dispatchers, and never
 * before; what is logged of an operation is what recovery needs.
 * How: two dispatchers without threads, with real logs, driven by hand; operations as the engine
 * leaves them. The rule itself is modelled in tests/model/spin/commit.pml. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/process.h"
#include "index/store_cut.h"
#include "server/server.h"
#include "tiering/commit.h"
#include "tiering/commit_read.h"

#define DISPATCHERS 2u

struct scene {
    struct gwi_server *server;
    struct gwi_dispatcher *d[DISPATCHERS];
    struct gwi_session session[DISPATCHERS];
    uint64_t serial;
};

static const struct gw_net_events no_events;

static void begin(struct scene *s)
{
    memset(s, 0, sizeof *s);
    s->server = aligned_alloc(GW_CACHE_LINE, (sizeof *s->server + GW_CACHE_LINE - 1) /
                                                 GW_CACHE_LINE * GW_CACHE_LINE);
    memset(s->server, 0, sizeof *s->server);
    char dir[] = "/tmp/godwit-commit-XXXXXX";
    cr_assert(mkdtemp(dir));
    snprintf(s->server->options.data, sizeof s->server->options.data, "%s", dir);
    s->server->options.threads = DISPATCHERS;
    s->server->options.commit_log_bytes = 64u << 20;
    s->server->durable.mode = GWI_DURABILITY_COMMIT;
    s->server->data.store_id = 77;
    s->server->data.incarnation = 1;
    s->server->memory.gather_bytes_max = 1u << 20;
    struct gw_store_options options = {.log_bytes = 1u << 20,
                                       .page_bits = 16,
                                       .index_bytes = 65536};
    cr_assert_eq(gw_store_open(&options, &s->server->store), GW_OK);
    for (uint32_t i = 0; i < DISPATCHERS; i++) {
        struct gwi_dispatcher *d = aligned_alloc(GW_CACHE_LINE, (sizeof *d + GW_CACHE_LINE - 1) /
                                                                    GW_CACHE_LINE * GW_CACHE_LINE);
        memset(d, 0, sizeof *d);
        d->server = s->server;
        d->index = i;
        struct gw_net_options net;
        gw_net_options_default(&net);
        net.connections_max = 4;
        cr_assert_eq(gw_net_uring_create(&net, &no_events, d, &d->net), GW_OK);
        cr_assert_eq(gw_store_thread_open(s->server->store, &d->store), GW_OK);
        s->d[i] = s->server->dispatcher[i] = d;
        s->server->dispatchers = i + 1;
        cr_assert_eq(gwi_commit_open(d), GW_OK);
        gwi_commit_view(d, 5);
        s->session[i] = (struct gwi_session){.id = 100 + i, .applied = gw_applied_create(1024)};
    }
}

static void end(struct scene *s)
{
    for (uint32_t i = 0; i < DISPATCHERS; i++) {
        gwi_commit_close(s->d[i]);
        gw_net_destroy(s->d[i]->net);
        gw_store_thread_close(s->d[i]->store);
        gw_applied_destroy(s->session[i].applied);
        free(s->d[i]);
    }
    gw_store_close(s->server->store);
    gw_process_remove_tree(s->server->options.data);
    free(s->server);
}

/* A batch with one add; its position. */
static uint64_t add(struct scene *s, uint32_t who)
{
    struct gwi_dispatcher *d = s->d[who];
    gwi_commit_begin(d);
    struct gw_op op = {.key = (const uint8_t *)"key",
                       .key_bytes = 3,
                       .verb = GW_VERB_ADD,
                       .status = GW_OK,
                       .effect = GW_EFFECT_CHANGED,
                       .kind = GW_KIND_COUNTER,
                       .number = 3,
                       .version = (uint32_t)++s->serial};
    gwi_commit_write(d, &s->session[who], s->serial, &op);
    return gwi_commit_end(d);
}

static uint64_t read_only(struct scene *s, uint32_t who)
{
    return gwi_commit_end(s->d[who]);
}

/* Ends the flush that is under way, without beginning another. */
static void land(struct scene *s, uint32_t who)
{
    struct gwi_commit *c = &s->d[who]->commit;
    for (int i = 0; i < 5000 && gw_commit_poll(c->log) == GW_PENDING; i++)
        usleep(1000);
    cr_assert_eq(gw_commit_poll(c->log), GW_OK);
    (void)gwi_commit_turn(s->d[who]);
}

static bool is_durable(const struct scene *s, uint64_t position)
{
    return position <= gwi_commit_durable(s->server);
}

Test(commit, a_reply_waits_for_its_own_flush)
{
    struct scene s;
    begin(&s);
    cr_expect_eq(read_only(&s, 0), 0, "nothing is open, and a read waits");
    uint64_t position = add(&s, 0);
    cr_expect_neq(position, 0);
    cr_expect_not(is_durable(&s, position));
    (void)gwi_commit_turn(s.d[0]);
    cr_expect(s.d[0]->commit.flying);
    cr_expect_not(is_durable(&s, position), "durable before the device has said so");
    land(&s, 0);
    cr_expect(is_durable(&s, position));
    cr_expect_eq(read_only(&s, 0), 0);
    end(&s);
}

/* What B shows may rest upon what A has changed and not made durable: H3. */
static void others_first(uint32_t a, uint32_t b)
{
    struct scene s;
    begin(&s);
    uint64_t of_a = add(&s, a);
    uint64_t read = read_only(&s, b), of_b = add(&s, b);
    cr_expect_neq(read, 0, "it shows what may be lost");
    (void)gwi_commit_turn(s.d[b]);
    land(&s, b);
    cr_expect_not(is_durable(&s, of_b), "B's log is durable, A's is not");
    cr_expect_not(is_durable(&s, read));
    (void)gwi_commit_turn(s.d[a]);
    land(&s, a);
    cr_expect(is_durable(&s, of_a) && is_durable(&s, of_b) && is_durable(&s, read));
    cr_expect_eq(gwi_commit_ticket(s.server), 0);
    end(&s);
}

Test(commit, a_reply_waits_for_what_others_began_before_it)
{
    others_first(0, 1);
    others_first(1, 0);
}

Test(commit, what_gathers_during_a_flush_waits_for_the_next_one)
{
    struct scene s;
    begin(&s);
    uint64_t first = add(&s, 0);
    (void)gwi_commit_turn(s.d[0]);
    uint64_t second = add(&s, 0), ticket = gwi_commit_ticket(s.server);
    cr_expect_neq(ticket, 0);
    land(&s, 0); /* and the second one is under way */
    cr_expect(is_durable(&s, first));
    cr_expect_not(is_durable(&s, second));
    cr_expect_not(is_durable(&s, ticket));
    cr_expect(s.d[0]->commit.flying);
    land(&s, 0);
    cr_expect(is_durable(&s, second) && is_durable(&s, ticket));
    end(&s);
}

Test(commit, a_batch_that_left_nothing_behind_holds_nobody_up)
{
    struct scene s;
    begin(&s);
    gwi_commit_begin(s.d[0]);
    uint64_t meanwhile = read_only(&s, 1);
    cr_expect_neq(meanwhile, 0, "a batch that may change something runs");
    cr_expect_eq(gwi_commit_end(s.d[0]), 0);
    cr_expect(is_durable(&s, meanwhile), "it waits for ever");
    cr_expect_eq(gwi_commit_turn(s.d[0]), UINT64_MAX);
    end(&s);
}

/* After a failed write nobody knows what is on the disk: no reply leaves any more, and the server
 * ends. */
Test(commit, a_failed_write_stops_acknowledging_for_good)
{
    struct scene s;
    begin(&s);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit none = {0}, before;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    uint64_t position = add(&s, 0), other = add(&s, 1);
    none.rlim_max = before.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &none), 0);
    (void)gwi_commit_turn(s.d[0]);
    for (int i = 0; i < 5000 && !s.d[0]->commit.failed; i++) {
        usleep(1000);
        (void)gwi_commit_turn(s.d[0]);
    }
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    cr_assert(s.d[0]->commit.failed);
    cr_expect_eq(atomic_load(&s.server->fatal), GW_E_IO);
    cr_expect_eq(atomic_load(&s.server->durable.failed), GW_E_IO);
    cr_expect(gwi_commit_is_behind(s.d[0]), "it takes batches");
    /* The other log may be broken too: files are made ahead while nothing could be written. */
    (void)gwi_commit_turn(s.d[1]);
    for (int i = 0; i < 5000 && gw_commit_poll(s.d[1]->commit.log) == GW_PENDING; i++)
        usleep(1000);
    (void)gwi_commit_turn(s.d[1]);
    cr_expect_not(is_durable(&s, position));
    cr_expect_not(is_durable(&s, other), "it may rest upon what is lost");
    gwi_commit_look(s.d[1]);
    cr_expect_eq(s.d[1]->commit.durable, 0);
    cr_expect_neq(read_only(&s, 1), 0);
    end(&s);
}

struct blocks {
    uint64_t interval[8], view[8], entries[8];
    uint32_t n;
};

static bool note_block(void *ctx, const struct gw_commit_block *block, const uint8_t *payload)
{
    struct blocks *b = ctx;
    b->interval[b->n] = block->interval;
    b->view[b->n] = block->view;
    struct gw_commit_group group;
    const uint8_t *entries;
    bool bad = false;
    uint32_t at = 0;
    while (gw_commit_next_group(payload, block->payload_bytes, &at, &group, &entries, &bad))
        b->entries[b->n] += group.entries;
    cr_assert_not(bad);
    b->n++;
    return true;
}

Test(commit, blocks_end_where_interval_and_view_do)
{
    struct scene s;
    begin(&s);
    uint64_t interval = s.d[0]->commit.interval;
    (void)add(&s, 0);
    (void)add(&s, 0);
    gwi_commit_cross(s.d[0], interval + 1);
    (void)add(&s, 0);
    gwi_commit_view(s.d[0], 5);
    (void)add(&s, 0);
    gwi_commit_view(s.d[0], 6);
    (void)add(&s, 0);
    (void)gwi_commit_turn(s.d[0]);
    land(&s, 0);
    char dir[1100], error[GW_COMMIT_TEXT_BYTES];
    snprintf(dir, sizeof dir, "%s/commit", s.server->options.data);
    struct gw_commit_logs *logs;
    gwi_commit_close(s.d[0]);
    gwi_commit_close(s.d[1]);
    cr_assert_eq(gw_commit_logs_open(dir, 77, 0, false, &logs, error), GW_OK, "%s", error);
    struct blocks b = {.n = 0};
    cr_assert_eq(gw_commit_logs_each(logs, 0, note_block, &b), GW_OK);
    gw_commit_logs_close(logs);
    cr_assert_eq(b.n, 3);
    cr_expect(b.interval[0] == interval && b.view[0] == 5 && b.entries[0] == 2);
    cr_expect(b.interval[1] == interval + 1 && b.view[1] == 5 && b.entries[1] == 2);
    cr_expect(b.interval[2] == interval + 1 && b.view[2] == 6 && b.entries[2] == 1);
    end(&s);
}

/* ---- entries ---- */

static struct gw_commit_entry entry_of(struct gw_op op)
{
    op.key = (const uint8_t *)"k";
    op.key_bytes = 1;
    op.version = 9;
    struct gw_commit_entry e;
    gwi_commit_entry_of(&op, &e);
    cr_expect_eq(e.version, 9);
    cr_expect_eq(e.status, op.status);
    return e;
}

Test(commit, an_entry_holds_what_the_record_is_now)
{
    const uint8_t *in = (const uint8_t *)"in", *now = (const uint8_t *)"whole";
    struct gw_commit_entry e =
        entry_of((struct gw_op){.verb = GW_VERB_UPSERT,
                                .effect = GW_EFFECT_CHANGED | GW_EFFECT_START,
                                .value = in,
                                .value_bytes = 2});
    cr_expect(e.op == GW_COMMIT_SET && e.value == in && e.value_bytes == 2);
    cr_expect_eq(e.flags, GW_COMMIT_START);
    e = entry_of((struct gw_op){.verb = GW_VERB_APPEND,
                                .effect = GW_EFFECT_CHANGED | GW_EFFECT_FIRST,
                                .value = in,
                                .value_bytes = 2,
                                .result = now,
                                .result_bytes = 5,
                                .out_bytes = 5,
                                .expiry_ms = 44});
    cr_expect(e.op == GW_COMMIT_SET && e.value == now && e.value_bytes == 5);
    cr_expect_eq(e.flags, GW_COMMIT_FIRST | GW_COMMIT_EXPIRES);
    cr_expect(e.expiry_ms == 44 && e.reply == GW_WIRE_LENGTH);
    e = entry_of((struct gw_op){.verb = GW_VERB_GETSET,
                                .effect = GW_EFFECT_CHANGED,
                                .flags = GW_OP_COUNTER,
                                .delta = 12,
                                .number = 5,
                                .kind = GW_KIND_COUNTER});
    cr_expect(e.op == GW_COMMIT_COUNTER && e.number == 12, "the new one, not the old one");
    cr_expect_eq(e.reply, GW_WIRE_FORGOTTEN);
    e = entry_of((struct gw_op){.verb = GW_VERB_GETSET,
                                .effect = GW_EFFECT_CHANGED,
                                .value = in,
                                .value_bytes = 2,
                                .kind = GW_KIND_NONE});
    cr_expect_eq(e.reply, GW_WIRE_NONE);
    e = entry_of((struct gw_op){.verb = GW_VERB_READ_TOUCH,
                                .effect = GW_EFFECT_CHANGED,
                                .number = 6,
                                .kind = GW_KIND_COUNTER});
    cr_expect(e.op == GW_COMMIT_COUNTER && e.number == 6 && e.reply == GW_WIRE_FORGOTTEN);
    e = entry_of(
        (struct gw_op){.verb = GW_VERB_GETDEL, .effect = GW_EFFECT_CHANGED | GW_EFFECT_TOMBSTONE});
    cr_expect(e.op == GW_COMMIT_TOMBSTONE && e.reply == GW_WIRE_FORGOTTEN && e.value_bytes == 0);
    e = entry_of((struct gw_op){.verb = GW_VERB_ADD,
                                .effect = GW_EFFECT_CHANGED | GW_EFFECT_TOMBSTONE,
                                .kind = GW_KIND_COUNTER,
                                .number = 3});
    cr_expect(e.op == GW_COMMIT_TOMBSTONE && e.reply == GW_WIRE_FORGOTTEN);
    e = entry_of(
        (struct gw_op){.verb = GW_VERB_INSERT, .status = GW_EXISTS, .value = in, .value_bytes = 2});
    cr_expect(e.op == GW_COMMIT_NOTHING && e.value_bytes == 0 && e.flags == 0 && e.reply == 0);
}
