/* test_store.c - the file: what is refused, with which words, and what a failed save leaves. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coordinator/store.h"
#include "tests/unit/coordinator/world.h"

static struct world w;
static char why[512];

static void set_up(void)
{
    world_init(&w);
}
static void tear_down(void)
{
    world_fini(&w);
}
TestSuite(store, .init = set_up, .fini = tear_down);

/* The status of opening `url`, which must name `mention` when it fails. */
static enum gw_status opened(const char *url, const char *mention)
{
    struct gw_fact_store *store;
    why[0] = '\0';
    enum gw_status st = gw_fact_store_open(url, &store, why, sizeof why);
    if (st == GW_OK)
        gw_fact_store_close(store);
    else
        cr_expect_not_null(strstr(why, mention), "\"%s\" does not mention \"%s\"", why, mention);
    return st;
}

static void execute(const char *sql)
{
    sqlite3 *db;
    cr_assert_eq(sqlite3_open(w.path, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    sqlite3_close(db);
}

/* The status of a coordinator's start from the file, after `sql` has been done to it. */
static enum gw_status started_after(const char *sql)
{
    world_stop(&w);
    execute(sql);
    why[0] = '\0';
    enum gw_status st = gw_fact_store_open(w.url, &w.store, why, sizeof why);
    if (st != GW_OK)
        return st;
    return gw_fact_store_start(w.store, 1, 1, &w.c, why, sizeof why);
}

Test(store, a_url_that_is_none_is_refused)
{
    cr_expect_eq(opened("etcd:somewhere", "sqlite:PATH"), GW_E_INVALID);
    cr_expect_eq(opened("sqlite:", "sqlite:PATH"), GW_E_INVALID);
    cr_expect_eq(opened("/tmp/x", "/tmp/x"), GW_E_INVALID);
}

Test(store, a_path_that_cannot_be_written_is_refused_by_name)
{
    cr_expect_eq(opened("sqlite:/nonexistent/map.db", "/nonexistent/map.db"), GW_E_IO);
    cr_expect_eq(opened("sqlite:/proc/self", "/proc/self"), GW_E_IO, "a directory");
    cr_expect_eq(opened("sqlite:/proc/version", "/proc/version"), GW_E_IO, "read-only");
}

Test(store, one_coordinator_at_a_time_holds_the_file)
{
    /* From another process, as it would be: the lock is the process's. */
    pid_t child = fork();
    if (child == 0)
        _exit(opened(w.url, "another coordinator") == GW_E_BUSY ? 0 : 1);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect_eq(status, 0);
    cr_expect_eq(opened(w.url, w.path), GW_E_BUSY, "nor from the same process");
    world_stop(&w);
    cr_expect_eq(opened(w.url, ""), GW_OK);
    world_start(&w);
}

Test(store, another_schema_version_is_refused_by_number)
{
    cr_expect_eq(started_after("UPDATE meta SET value = 77 WHERE key = 'schema'"), GW_E_VERSION);
    cr_expect_not_null(strstr(why, "schema version 77"), "%s", why);
    cr_expect_not_null(strstr(why, w.path));
}

#define WITHOUT_SCHEMA_4 "ALTER TABLE jobs DROP COLUMN pull_leads;"
#define WITHOUT_SCHEMA_3                                                                           \
    WITHOUT_SCHEMA_4                                                                               \
    "ALTER TABLE servers DROP COLUMN removed; ALTER TABLE servers DROP COLUMN drained;"            \
    "ALTER TABLE servers DROP COLUMN log_id; ALTER TABLE servers DROP COLUMN needs;"               \
    "ALTER TABLE jobs DROP COLUMN plan; ALTER TABLE jobs DROP COLUMN queued;"                      \
    "ALTER TABLE jobs DROP COLUMN rate_bytes; ALTER TABLE jobs DROP COLUMN sample_bytes;"          \
    "ALTER TABLE jobs DROP COLUMN max_impact_us; ALTER TABLE jobs DROP COLUMN sample_ms;"          \
    "ALTER TABLE jobs DROP COLUMN flags; ALTER TABLE jobs DROP COLUMN bytes_left;"                 \
    "ALTER TABLE jobs DROP COLUMN records_left; ALTER TABLE jobs DROP COLUMN rate;"                \
    "ALTER TABLE jobs DROP COLUMN indirections; ALTER TABLE jobs DROP COLUMN hot_records;"         \
    "ALTER TABLE jobs DROP COLUMN retries; ALTER TABLE jobs DROP COLUMN source_p99_us;"            \
    "ALTER TABLE jobs DROP COLUMN target_p99_us; DROP TABLE plans;"

Test(store, a_file_of_schema_3_is_brought_up_to_date)
{
    uint64_t a = world_join(&w, "a", 1), job;
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0-99", "a", "b", &job), GW_OK);
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    cr_assert_eq(started_after(WITHOUT_SCHEMA_4 "UPDATE meta SET value = 3 WHERE key = 'schema'"),
                 GW_OK, "%s", why);
    const struct gw_job_record *is = gw_coordinator_job(w.c, job);
    cr_assert_not_null(is);
    cr_expect_eq(is->state, GW_JOB_COMMITTED);
    cr_expect_eq(is->hot_records, 24);
    cr_expect_eq(is->pull_leads, 0);
}

/* Goal: a file of the second schema, with a job that is under way, goes on. */
Test(store, a_file_of_schema_2_is_brought_up_to_date)
{
    uint64_t a = world_join(&w, "a", 1), job;
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0-99", "a", "b", &job), GW_OK);
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    cr_assert_eq(started_after(WITHOUT_SCHEMA_3 "UPDATE meta SET value = 2 WHERE key = 'schema'"),
                 GW_OK, "%s", why);
    const struct gw_job_record *is = gw_coordinator_job(w.c, job);
    cr_assert_not_null(is);
    cr_expect_eq(is->state, GW_JOB_COMMITTED);
    cr_expect_eq(is->bytes_left, 0);
    cr_expect_eq(is->options.max_impact_us, 0);
    cr_expect_not(is->queued);
    cr_expect_eq(gw_coordinator_plans(w.c), 0);
}

/* Goal: a file of the first schema goes on: its tenures begin at their owners' views. */
Test(store, a_file_of_schema_1_is_brought_up_to_date)
{
    world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    uint64_t view = gw_coordinator_map(w.c)->server[0].view;
    cr_assert_eq(started_after(WITHOUT_SCHEMA_3 "ALTER TABLE slots DROP COLUMN since;"
                                                "ALTER TABLE servers DROP COLUMN lost;"
                                                "ALTER TABLE jobs DROP COLUMN since;"
                                                "ALTER TABLE jobs DROP COLUMN paused;"
                                                "UPDATE meta SET value = 1 WHERE key = 'schema'"),
                 GW_OK, "%s", why);
    cr_expect_eq(gw_coordinator_map(w.c)->since[0], view);
    cr_expect_eq(gw_coordinator_map(w.c)->since[GW_SLOTS - 1], view);
    world_stop(&w);
    world_start(&w);
    cr_expect_eq(gw_coordinator_map(w.c)->since[0], view);
    char text[256];
    cr_expect(gw_coordinator_check(w.c, text, sizeof text), "%s", text);
}

Test(store, a_tenure_that_begins_behind_its_owners_view_is_refused)
{
    world_join(&w, "a", 1);
    cr_expect_eq(started_after("UPDATE slots SET since = 99 WHERE slot = 3"), GW_E_CORRUPT);
    cr_expect_not_null(strstr(why, "slot 3"), "%s", why);
    cr_expect_eq(started_after("UPDATE slots SET since = 0 WHERE slot = 3"), GW_E_CORRUPT);
}

Test(store, another_programs_file_is_refused)
{
    cr_expect_eq(started_after("PRAGMA application_id = 7"), GW_E_CORRUPT);
    cr_expect_not_null(strstr(why, "another program"), "%s", why);
}

Test(store, a_file_that_is_no_database_is_refused)
{
    world_stop(&w);
    FILE *f = fopen(w.path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("not a database\n", f);
    fclose(f);
    cr_expect_eq(opened(w.url, w.path), GW_E_CORRUPT);
}

Test(store, a_damaged_page_is_found)
{
    world_join(&w, "a", 1);
    world_stop(&w);
    int fd = open(w.path, O_RDWR);
    char rubbish[4096];
    memset(rubbish, 0x5a, sizeof rubbish);
    for (off_t page = 1; page < 40; page++)
        cr_assert_eq(pwrite(fd, rubbish, sizeof rubbish, page * 4096), sizeof rubbish);
    close(fd);
    struct gw_coordinator *c;
    enum gw_status st = gw_fact_store_open(w.url, &w.store, why, sizeof why);
    if (st == GW_OK)
        st = gw_fact_store_start(w.store, 1, 1, &c, why, sizeof why);
    cr_expect_eq(st, GW_E_CORRUPT, "%s: %s", gw_status_name(st), why);
}

Test(store, facts_that_contradict_each_other_are_refused)
{
    uint64_t job;
    world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    cr_expect_eq(started_after("UPDATE slots SET server = 1 WHERE slot = 9"), GW_E_CORRUPT);
    cr_expect_not_null(strstr(why, "slot 9"), "%s", why);
    cr_expect_eq(started_after("UPDATE slots SET server = 0 WHERE slot = 9;"
                               "UPDATE jobs SET state = 17"),
                 GW_E_CORRUPT);
    cr_expect_not_null(strstr(why, "jobs"), "%s", why);
    cr_expect_eq(started_after("UPDATE jobs SET state = 2"), GW_E_CORRUPT, "without a commit");
    cr_expect_eq(started_after("UPDATE jobs SET state = 1"), GW_OK, "%s", why);
}

Test(store, a_slot_without_owner_is_refused)
{
    world_join(&w, "a", 1);
    cr_expect_eq(started_after("UPDATE slots SET server = NULL WHERE slot = 77"), GW_E_CORRUPT);
    cr_expect_not_null(strstr(why, "slot 77"), "%s", why);
}

/* Goal: a save that fails for want of space leaves the file as it was. The next limit is tried
 * until the save goes through. */
Test(store, a_failed_save_leaves_all_or_nothing)
{
    world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    uint64_t job;
    cr_assert_eq(world_migrate(&w, "0-8191", "a", "b", &job), GW_OK);
    signal(SIGXFSZ, SIG_IGN);
    bool committed = false;
    int failures = 0;
    for (rlim_t bytes = 0; !committed; bytes += 8192) {
        world_stop(&w);
        world_start(&w);
        uint64_t a = world_join(&w, "a", 1);
        world_join(&w, "b", 1);
        struct gw_job_event e = {.job = job, .event = GW_JOB_ASK_COMMIT};
        cr_assert_eq(gw_coordinator_job_event(w.c, a, &e), GW_OK);
        const struct gw_outcome *o = gw_coordinator_outcome(w.c);
        struct rlimit none, limit;
        getrlimit(RLIMIT_FSIZE, &none);
        limit = none;
        limit.rlim_cur = bytes;
        setrlimit(RLIMIT_FSIZE, &limit);
        enum gw_status st = gw_fact_store_save(w.store, o->fact, o->facts, why, sizeof why);
        setrlimit(RLIMIT_FSIZE, &none);
        if (st != GW_OK) {
            failures++;
            cr_expect_eq(st, GW_E_IO, "%s: %s", gw_status_name(st), why);
            cr_expect_not_null(strstr(why, w.path), "%s", why);
        }
        world_stop(&w);
        world_start(&w);
        committed = gw_coordinator_job(w.c, job)->state == GW_JOB_COMMITTED;
        cr_expect_eq(committed, st == GW_OK);
        cr_expect_str_eq(world_owner(&w, 0), committed ? "b" : "a");
        cr_expect_str_eq(world_owner(&w, 8191), committed ? "b" : "a");
        cr_assert_lt(bytes, 4 << 20);
    }
    cr_expect_gt(failures, 2);
}

Test(store, words_of_64_bits_and_all_texts_come_back)
{
    uint64_t job;
    uint64_t a = world_join_at(&w, "a-b_c.9", UINT64_MAX, "[::1]:65535", 0);
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0,2,4,6-8,16383", "a-b_c.9", "b", &job), GW_OK);
    struct gw_job_event e = {.job = job,
                             .event = GW_JOB_GAVE_UP,
                             .bytes_moved = UINT64_MAX,
                             .pause_ns = UINT64_MAX - 1,
                             .text = "'; DROP TABLE jobs; -- \xc3\xa4"};
    cr_assert_eq(gw_coordinator_job_event(w.c, a, &e), GW_OK);
    world_turn(&w);
    struct gw_coordinator *before = w.c;
    gw_fact_store_close(w.store);
    world_start(&w);
    cr_expect(world_same(before, w.c));
    gw_coordinator_destroy(before);
}
