/* Goal: servers with several times more data than memory answer as exactly as others do, move such
 * ranges while they serve, and stay within their memory number whatever clients do.
 * How: real servers with 64 MiB of memory and a disk; every value says by its bytes whose it is and
 * which of its key's writes made it. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "tests/cluster/harness.h"

TestSuite(beyond_memory, .timeout = 200);

#define MIB       (1024ull * 1024)
#define MEMORY    (64 * MIB)
#define VALUE_MAX (1u << 20)
#define IN_FLIGHT 4096u
#define SLACK(n)  ((n) + (n) / 10)

/* Sanitizers keep shadows and freed blocks: what the kernel counts says nothing then. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEASURABLE false
#else
#define MEASURABLE true
#endif

static const char *const with_disk[] = {"--disk", "1GiB", "--threads", "2", NULL};
static const char *const with_little_disk[] = {"--disk", "192MiB", NULL};

/* ---- what is written, and what must be read ------------------------------------------------- */

struct plan {
    uint32_t keys;
    uint8_t *generation; /* of each key: which write made its value; 0: it is not there */
    uint64_t wrong, missing, failed;
    enum gw_status failure;
};

static uint32_t value_bytes(uint32_t key, uint8_t generation)
{
    return 600 + (key * 2654435761u + generation) % 900;
}

static void value_fill(uint8_t *room, uint32_t bytes, uint32_t key, uint8_t generation)
{
    uint64_t word = (uint64_t)key << 8 | generation;
    for (uint32_t i = 0; i < bytes; i++)
        room[i] = (uint8_t)((word >> (i % 5 * 8)) + i);
}

static size_t key_text(char *room, size_t room_bytes, uint32_t key)
{
    return (size_t)snprintf(room, room_bytes, "key:%u", key);
}

struct asked {
    struct plan *plan;
    uint32_t key;
    uint8_t generation; /* that it must have; 0: must not be there */
    bool busy, write;
};

static void answered(void *ctx, const struct gw_result *r)
{
    struct asked *a = ctx;
    static uint8_t expected[2000];
    a->busy = false;
    if (a->write || (a->generation == 0 && r->status == GW_NOT_FOUND)) {
        if (r->status < 0 || r->status == GW_IN_DOUBT) {
            a->plan->failed++;
            a->plan->failure = r->status;
        }
        return;
    }
    uint32_t bytes = value_bytes(a->key, a->generation);
    value_fill(expected, bytes, a->key, a->generation);
    if (r->status == GW_NOT_FOUND)
        a->plan->missing++;
    else if (r->status != GW_OK) {
        a->plan->failed++;
        a->plan->failure = r->status;
    } else if (a->generation == 0 || r->value_bytes != bytes ||
               memcmp(r->value, expected, bytes) != 0)
        a->plan->wrong++;
}

enum what { READ, WRITE, DELETE };

/* Does it for every `step`-th key from `first` on, thousands at a time. */
static void each(struct gw_session *s, struct plan *plan, enum what what, uint32_t first,
                 uint32_t step)
{
    static struct asked asked[IN_FLIGHT];
    static uint8_t value[2000];
    memset(asked, 0, sizeof asked);
    uint32_t at = 0;
    for (uint32_t key = first; key < plan->keys; key += step) {
        struct asked *a = &asked[at++ % IN_FLIGHT];
        while (a->busy)
            gw_poll(s, 100);
        if (what == WRITE)
            plan->generation[key]++;
        if (what == DELETE)
            plan->generation[key] = 0;
        *a = (struct asked){plan, key, plan->generation[key], true, what != READ};
        char text[32];
        size_t n = key_text(text, sizeof text, key);
        enum gw_status st;
        do {
            if (what == READ)
                st = gw_get(s, text, n, answered, a);
            else if (what == DELETE)
                st = gw_delete(s, text, n, answered, a);
            else {
                uint32_t bytes = value_bytes(key, a->generation);
                value_fill(value, bytes, key, a->generation);
                st = gw_set(s, text, n, value, bytes, answered, a);
            }
            if (st == GW_WOULD_BLOCK)
                gw_poll(s, 100);
        } while (st == GW_WOULD_BLOCK);
        cr_assert_eq(st, GW_OK, "%s", gw_status_text(st));
    }
    cr_assert_eq(gw_drain(s, 60000), GW_OK);
}

static void expect_exact(const struct plan *plan, const char *when)
{
    cr_expect_eq(plan->wrong, 0, "%s: %llu values are not what was written", when,
                 (unsigned long long)plan->wrong);
    cr_expect_eq(plan->missing, 0, "%s: %llu keys are missing", when,
                 (unsigned long long)plan->missing);
    cr_expect_eq(plan->failed, 0, "%s: %llu failed, the last with %s", when,
                 (unsigned long long)plan->failed, gw_status_text(plan->failure));
}

/* ---- asking servers ------------------------------------------------------------------------- */

static json_t *ask(const struct gw_spawn_server *server, const char *op)
{
    char request[64], *text = NULL;
    snprintf(request, sizeof request, "{\"op\": \"%s\"}", op);
    cr_assert_eq(gw_admin(server->address, request, 5000, &text), GW_OK);
    json_t *answer = json_loads(text, 0, NULL);
    cr_assert(answer, "%s", text);
    free(text);
    return answer;
}

static uint64_t number(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    cr_assert(json_is_integer(v), "%s is missing", name);
    return (uint64_t)json_integer_value(v);
}

static uint64_t stat_of(const struct gw_spawn_server *server, const char *name)
{
    json_t *stats = ask(server, "stats");
    uint64_t value = number(stats, name);
    json_decref(stats);
    return value;
}

static void expect_within(const struct gw_spawn_server *server, uint64_t limit, const char *when)
{
    uint64_t resident = gw_process_resident_bytes(server->process.pid);
    cr_expect(resident > 0 && (resident <= SLACK(limit) || !MEASURABLE),
              "%s: server %s has %llu MiB of %llu", when, server->id,
              (unsigned long long)(resident / MIB), (unsigned long long)(limit / MIB));
}

/* ---- tests ---------------------------------------------------------------------------------- */

/* A client that is killed in the midst of reading cold records: what it asked for is answered to
 * nobody, and nothing of it stays. */
static void kill_a_reader(struct gw_spawn *spawn, uint32_t keys)
{
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct gw_cluster *cluster;
        struct gw_session *s;
        if (gw_cluster_open(spawn->coordinator_address, NULL, &cluster) != GW_OK ||
            gw_session_open(cluster, NULL, &s) != GW_OK)
            _exit(1);
        for (uint32_t i = 0;; i = (i + 7919) % keys) {
            char text[32];
            size_t n = key_text(text, sizeof text, i);
            while (gw_get(s, text, n, NULL, NULL) == GW_WOULD_BLOCK)
                gw_poll(s, 1);
        }
    }
    harness_sleep_ms(300);
    int status;
    cr_assert_eq(waitpid(child, &status, WNOHANG), 0, "the reader ended by itself");
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

/* Without a shared tier the cold part goes page by page: does the source's log say so? */
static bool went_by_page(const struct gw_spawn *spawn)
{
    char path[256], line[1024];
    bool found = false;
    snprintf(path, sizeof path, "%s/%s.log", spawn->directory, spawn->servers[0].id);
    FILE *log = fopen(path, "r");
    cr_assert_not_null(log, "%s", path);
    while (!found && fgets(line, sizeof line, log))
        found = strstr(line, "what=ship_by_page") != NULL;
    fclose(log);
    return found;
}

Test(beyond_memory, four_times_as_much_data_is_exact_and_moves_while_it_is_served)
{
    struct gw_spawn spawn;
    struct gw_cluster *cluster;
    struct gw_session *s;
    harness_start_with(&spawn, 2, MEMORY, with_disk);
    struct plan plan = {.keys = (uint32_t)harness_scaled(260000)};
    plan.generation = calloc(plan.keys, 1);
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &s), GW_OK);

    each(s, &plan, WRITE, 0, 1);
    expect_within(&spawn.servers[0], MEMORY, "loaded");
    each(s, &plan, READ, 0, 1);
    expect_exact(&plan, "read back");
    cr_expect_gt(stat_of(&spawn.servers[0], "cold"), plan.keys / 2,
                 "nothing was cold, the test says nothing");
    each(s, &plan, WRITE, 1, 3);
    each(s, &plan, DELETE, 2, 10);
    kill_a_reader(&spawn, plan.keys);
    each(s, &plan, READ, 0, 2);
    expect_exact(&plan, "changed");
    expect_within(&spawn.servers[0], MEMORY, "changed");

    /* Half of it moves; meanwhile everything is read, and what was read is written. */
    struct harness_run run =
        HARNESS_EXPECT(&spawn, 0, NULL, "migrate", "--slots", "0-8191", "--from", "A", "--to", "B");
    harness_run_free(&run);
    each(s, &plan, READ, 0, 3);
    expect_exact(&plan, "moving");
    each(s, &plan, WRITE, 0, 7);
    HARNESS_CHECK(&spawn, 0, "job", "watch", "1", "--timeout", "100");
    each(s, &plan, READ, 0, 1);
    expect_exact(&plan, "moved");
    for (int i = 0; i < 2; i++) {
        expect_within(&spawn.servers[i], MEMORY, "moved");
        cr_expect_eq(stat_of(&spawn.servers[i], "corrupt"), 0);
    }
    cr_expect_gt(stat_of(&spawn.servers[1], "keys"), plan.keys / 3);
    cr_expect(went_by_page(&spawn));

    gw_session_close(s);
    gw_cluster_close(cluster);
    free(plan.generation);
    harness_stop(&spawn);
}

/* Goal: an order that a session gave is kept also when its first part waits for the device. */
Test(beyond_memory, operations_of_a_session_on_a_cold_key_keep_their_order)
{
    struct gw_spawn spawn;
    struct gw_cluster *cluster;
    struct gw_session *s;
    struct gw_result r;
    harness_start_with(&spawn, 1, MEMORY, with_disk);
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &s), GW_OK);
    char text[32];
    const uint32_t counters = 2000;
    for (uint32_t i = 0; i < counters; i++)
        cr_assert_eq(gw_set_counter(s, text, (size_t)snprintf(text, sizeof text, "n%u", i), 100,
                                    NULL, NULL),
                     GW_OK);
    cr_assert_eq(gw_drain(s, 60000), GW_OK);
    struct plan plan = {.keys = (uint32_t)harness_scaled(120000)};
    plan.generation = calloc(plan.keys, 1);
    each(s, &plan, WRITE, 0, 1); /* the counters are cold now */
    uint64_t cold = stat_of(&spawn.servers[0], "cold");
    for (uint32_t i = 0; i < counters; i++) {
        size_t n = (size_t)snprintf(text, sizeof text, "n%u", i);
        enum gw_status st = GW_OK;
        for (int step = 0; step < 4 && st == GW_OK; step++)
            do {
                st = step == 0   ? gw_add(s, text, n, 5, 0, NULL, NULL)
                     : step == 1 ? gw_delete(s, text, n, NULL, NULL)
                     : step == 2 ? gw_add(s, text, n, 1, 10, NULL, NULL)
                                 : gw_add(s, text, n, 2, 1000, NULL, NULL);
                if (st == GW_WOULD_BLOCK)
                    gw_poll(s, 10);
            } while (st == GW_WOULD_BLOCK);
        cr_assert_eq(st, GW_OK);
    }
    cr_assert_eq(gw_drain(s, 60000), GW_OK);
    cr_expect_gt(stat_of(&spawn.servers[0], "cold"), cold + counters / 2, "they were not cold");
    for (uint32_t i = 0; i < counters; i++) {
        size_t n = (size_t)snprintf(text, sizeof text, "n%u", i);
        cr_assert_eq(gw_get_sync(s, text, n, &r), GW_OK);
        cr_assert_eq(r.number, 13, "%s is %lld", text, (long long)r.number);
    }
    gw_session_close(s);
    gw_cluster_close(cluster);
    free(plan.generation);
    harness_stop(&spawn);
}

/* Goal: the memory number holds for many clients and values of all sizes.
 * How: two hundred sessions, each a connection, write and read values of 8 bytes to a megabyte;
 * what the kernel says is looked at all the time. */
Test(beyond_memory, the_memory_number_holds_for_many_clients_and_sizes)
{
    enum { SESSIONS = 200 };
    struct gw_spawn spawn;
    struct gw_cluster *cluster;
    static struct gw_session *s[SESSIONS];
    harness_start_with(&spawn, 1, MEMORY, with_disk);
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    for (int i = 0; i < SESSIONS; i++)
        cr_assert_eq(gw_session_open(cluster, NULL, &s[i]), GW_OK);
    uint8_t *value = malloc(VALUE_MAX);
    memset(value, 'v', VALUE_MAX);
    struct gw_rand rand;
    gw_rand_init(&rand, 7);
    uint64_t highest = 0, bytes = 0, end = harness_now_ms() + harness_scaled(8000);
    while (harness_now_ms() < end) {
        for (int i = 0; i < SESSIONS; i++) {
            char text[32];
            size_t n = (size_t)snprintf(text, sizeof text, "m%llu",
                                        (unsigned long long)gw_rand_below(&rand, 3000));
            uint32_t size = 8u << gw_rand_below(&rand, 18); /* 8 B to 1 MiB */
            enum gw_status st = gw_rand_below(&rand, 3) == 0
                                    ? gw_set(s[i], text, n, value, size, NULL, NULL)
                                    : gw_get(s[i], text, n, NULL, NULL);
            cr_assert(st == GW_OK || st == GW_WOULD_BLOCK, "%s", gw_status_text(st));
            bytes += st == GW_OK ? size : 0;
            gw_poll(s[i], 0);
        }
        uint64_t now = gw_process_resident_bytes(spawn.servers[0].process.pid);
        highest = now > highest ? now : highest;
    }
    for (int i = 0; i < SESSIONS; i++)
        cr_expect_eq(gw_drain(s[i], 60000), GW_OK);
    cr_expect(highest <= SLACK(MEMORY) || !MEASURABLE, "%llu MiB of %llu",
              (unsigned long long)(highest / MIB), (unsigned long long)(MEMORY / MIB));
    cr_expect(bytes > harness_scaled(4 * MEMORY) || !MEASURABLE,
              "only %llu MiB were asked for: the test says nothing",
              (unsigned long long)(bytes / MIB));
    fprintf(stderr, "highest %.1f MiB, %llu MiB asked for\n", (double)highest / (double)MIB,
            (unsigned long long)(bytes / MIB));
    for (int i = 0; i < SESSIONS; i++)
        gw_session_close(s[i]);
    gw_cluster_close(cluster);
    free(value);
    harness_stop(&spawn);
}

/* Goal: when disk and memory are used up writes are refused, clearly; reads, deletes and changes in
 * place go on; and when something was deleted there is room again, by itself. */
Test(beyond_memory, a_full_disk_refuses_writes_and_recovers_when_keys_go)
{
    struct gw_spawn spawn;
    struct gw_cluster *cluster;
    struct gw_session *s;
    struct gw_result r;
    harness_start_with(&spawn, 1, MEMORY, with_little_disk);
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &s), GW_OK);
    cr_assert_eq(gw_set_counter_sync(s, "counter", 7, 1, NULL), GW_OK);
    static uint8_t value[10000];
    char text[32];
    uint32_t stored = 0;
    enum gw_status st = GW_OK;
    for (; st == GW_OK && stored < 40000; stored += st == GW_OK)
        st = gw_set_sync(s, text, key_text(text, sizeof text, stored), value, sizeof value, &r);
    cr_expect_eq(st, GW_E_FULL, "%s after %u", gw_status_text(st), stored);
    cr_expect_gt(stored * sizeof value, 100 * MIB, "it is full with %zu MiB",
                 (size_t)(stored * sizeof value / MIB));
    json_t *stats = ask(&spawn.servers[0], "stats");
    cr_expect(json_is_true(json_object_get(stats, "full")));
    const json_t *tier = json_object_get(stats, "tier");
    cr_expect_leq(number(tier, "used_bytes"), number(tier, "limit_bytes"));
    json_decref(stats);
    for (uint32_t i = 0; i < stored; i += 97)
        cr_assert_eq(gw_get_sync(s, text, key_text(text, sizeof text, i), &r), GW_OK, "%u", i);
    for (uint32_t i = 0; i < stored; i += 2) {
        /* A delete writes a tombstone, from a reserve of its own, which may be used up for a moment
         * while pages are on their way to the disk. */
        uint64_t since = harness_now_ms();
        do
            st = gw_delete_sync(s, text, key_text(text, sizeof text, i), &r);
        while (st == GW_E_FULL && harness_now_ms() - since < 3000);
        cr_assert_eq(st, GW_OK, "%s at %u", gw_status_text(st), i);
    }
    uint64_t start = harness_now_ms();
    do
        st = gw_set_sync(s, "again", 5, value, sizeof value, &r);
    while (st == GW_E_FULL && harness_now_ms() - start < 10000);
    cr_expect_eq(st, GW_OK, "%s, long after half of the keys have gone", gw_status_text(st));
    /* Compaction begins when a whole segment is garbage. Of this disk's eight segments users get
     * five, so four of them are sure to fit; whether a fifth does depends on where the log begins.
     * Half of what filled five, and a sixth, are less than four. */
    const uint32_t again = stored / 6;
    uint32_t more = 0;
    for (; more < again; more++) {
        size_t n = (size_t)snprintf(text, sizeof text, "more:%u", more);
        start = harness_now_ms();
        do
            st = gw_set_sync(s, text, n, value, sizeof value, &r);
        while (st == GW_E_FULL && harness_now_ms() - start < 3000);
        if (st != GW_OK)
            break;
    }
    cr_expect_eq(more, again, "%s after %u of %u", gw_status_text(st), more, again);
    cr_expect_eq(gw_get_sync(s, text, key_text(text, sizeof text, 1), &r), GW_OK);
    cr_expect_eq(gw_add_sync(s, "counter", 7, 1, 0, &r), GW_OK);
    cr_expect_eq(r.number, 2);
    expect_within(&spawn.servers[0], MEMORY, "full");
    gw_session_close(s);
    gw_cluster_close(cluster);
    harness_stop(&spawn);
}

/* Goal: the parts that are said add up to what the kernel says. */
Test(beyond_memory, explain_memory_adds_up)
{
    struct gw_spawn spawn;
    struct gw_cluster *cluster;
    struct gw_session *s;
    harness_start_with(&spawn, 1, MEMORY, with_disk);
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &s), GW_OK);
    struct plan plan = {.keys = (uint32_t)harness_scaled(100000)};
    plan.generation = calloc(plan.keys, 1);
    each(s, &plan, WRITE, 0, 1);
    each(s, &plan, READ, 0, 5);
    harness_sleep_ms(600); /* numbers are published now and then */
    json_t *memory = ask(&spawn.servers[0], "memory"), *part;
    uint64_t sum = 0, rest = 0;
    size_t i;
    json_array_foreach(json_object_get(memory, "parts"), i, part)
    {
        sum += number(part, "bytes");
        if (strcmp(json_string_value(json_object_get(part, "name")), "rest") == 0)
            rest = number(part, "bytes");
    }
    uint64_t resident = number(memory, "resident"), limit = number(memory, "limit");
    cr_expect_eq(limit, MEMORY);
    cr_expect_eq(sum, number(memory, "sum"));
    cr_expect(resident <= SLACK(limit) || !MEASURABLE);
    /* What is held and was never touched is counted, and is not resident. */
    cr_expect(!MEASURABLE || (sum <= SLACK(resident) + 4 * MIB && resident <= SLACK(sum)),
              "%llu in parts, %llu resident", (unsigned long long)sum,
              (unsigned long long)resident);
    cr_expect(rest < limit / 8 || !MEASURABLE, "%llu bytes are nobody's", (unsigned long long)rest);
    json_decref(memory);
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "explain", "memory", "--server", "A");
    cr_expect(strstr(run.out, "--memory 64 MiB"), "%s", run.out);
    harness_run_free(&run);
    HARNESS_CHECK(&spawn, 0, "explain", "store", "--address", spawn.servers[0].address);
    HARNESS_CHECK(&spawn, 5, "explain", "memory", "--server", "nobody");
    gw_session_close(s);
    gw_cluster_close(cluster);
    free(plan.generation);
    harness_stop(&spawn);
}

/* Goal: one connection too many is told why, and those that are there go on. */
Test(beyond_memory, connections_beyond_the_number_are_refused_with_the_reason)
{
    struct gw_spawn spawn;
    harness_start_with(&spawn, 1, MEMORY, NULL);
    json_t *memory = ask(&spawn.servers[0], "memory");
    uint32_t most = (uint32_t)number(memory, "connections_max");
    json_decref(memory);
    cr_assert(most >= 200 && most < 4000, "%u", most);
    uint32_t wanted = most + 40; /* a few are kept for servers and tools */
    int *fds = calloc(wanted, sizeof *fds);
    struct gw_welcome welcome;
    uint64_t view;
    uint32_t served = 0;
    for (uint32_t i = 0; i < wanted; i++) {
        fds[i] = harness_connect(spawn.servers[0].address);
        if (i % 16 == 0) /* the others say nothing */
            served += harness_hello(fds[i], 1000 + i, &welcome, &view);
    }
    cr_expect_geq(served, most / 16 - 1);
    enum gw_status said = GW_OK;
    int last = harness_connect(spawn.servers[0].address);
    cr_expect(harness_closes(last, 5000, &said));
    cr_expect_eq(said, GW_E_LIMIT, "%s", gw_status_name(said));
    expect_within(&spawn.servers[0], MEMORY, "crowded");
    for (uint32_t i = 0; i < wanted; i++)
        close(fds[i]);
    close(last);
    free(fds);
    harness_sleep_ms(300);
    HARNESS_CHECK(&spawn, 0, "incr", "after");
    harness_stop(&spawn);
}
