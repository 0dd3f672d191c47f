/* store.c - facts to SQLite and back.
 *
 * Rules:
 *  1. The file is locked for as long as it is open (locking_mode=EXCLUSIVE, taken by the first
 *     transaction, before anything is read): two coordinators would both commit.
 *  2. A fact's `was` is part of the statement's WHERE: compare-and-set holds in the file, too.
 *  3. Numbers are unsigned 64-bit words stored as SQLite's signed ones, bit by bit.
 * Design: MIGRATION R3, docs/ADMIN.md. */
#include "coordinator/store.h"

#include <assert.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "index/base/assert.h"

#define APPLICATION_ID 0x47445754 /* "GDWT": tells our files from other programs' */
#define SLOTS_TEXT_MAX (GW_SLOTS * 6u)
#define NEEDS_TEXT_MAX (GW_HEARTBEAT_NEEDS_MAX * 34u + 8)

/* In the order of `statement_text`. */
enum statement {
    SAVE_CLUSTER,
    SAVE_SERVER,
    SAVE_OWNER,
    INSERT_JOB,
    UPDATE_JOB,
    DELETE_JOB,
    INSERT_PLAN,
    UPDATE_PLAN,
    DELETE_PLAN,
    STATEMENTS
};

#define JOB_COLUMNS                                                                                \
    "id, state, source, target, slots, commit_version, bytes_moved, records_moved, chunks_done, "  \
    "chunks, pulls, pause_ns, created_ms, updated_ms, transferred_ms, finished_ms, phase, error, " \
    "since, paused, plan, queued, rate_bytes, sample_bytes, max_impact_us, sample_ms, flags, "     \
    "bytes_left, records_left, rate, indirections, hot_records, retries, source_p99_us, "          \
    "target_p99_us, pull_leads"
#define PLAN_COLUMNS                                                                               \
    "id, kind, state, server, ending, paused, moves, moves_done, map_version, created_ms, "        \
    "updated_ms, finished_ms, error"

static const char *const statement_text[STATEMENTS] = {
    [SAVE_CLUSTER] = "UPDATE cluster SET map_version=?2, cluster=?3, hash_seed=?4, next_job=?5 "
                     "WHERE one=1 AND map_version=?1",
    [SAVE_SERVER] = "INSERT INTO servers(position, id, address, view, incarnation, lost, "
                    "removed, drained, log_id, needs) "
                    "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT(position) DO "
                    "UPDATE SET address=excluded.address, view=excluded.view, "
                    "incarnation=excluded.incarnation, lost=excluded.lost, "
                    "removed=excluded.removed, drained=excluded.drained, log_id=excluded.log_id, "
                    "needs=excluded.needs WHERE id=excluded.id",
    [SAVE_OWNER] = "UPDATE slots SET server=?3, since=?4 WHERE slot BETWEEN ?1 AND ?2",
    [INSERT_JOB] = "INSERT INTO jobs(" JOB_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, "
                   "?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, "
                   "?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36)",
    [UPDATE_JOB] =
        "UPDATE jobs SET state=?2, source=?3, target=?4, slots=?5, commit_version=?6, "
        "bytes_moved=?7, records_moved=?8, chunks_done=?9, chunks=?10, pulls=?11, "
        "pause_ns=?12, created_ms=?13, updated_ms=?14, transferred_ms=?15, "
        "finished_ms=?16, phase=?17, error=?18, since=?19, paused=?20, plan=?21, queued=?22, "
        "rate_bytes=?23, sample_bytes=?24, max_impact_us=?25, sample_ms=?26, flags=?27, "
        "bytes_left=?28, records_left=?29, rate=?30, indirections=?31, hot_records=?32, "
        "retries=?33, source_p99_us=?34, target_p99_us=?35, pull_leads=?36 WHERE id=?1 AND "
        "state=?37",
    [DELETE_JOB] = "DELETE FROM jobs WHERE id=?1",
    [INSERT_PLAN] = "INSERT INTO plans(" PLAN_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, "
                    "?9, ?10, ?11, ?12, ?13)",
    [UPDATE_PLAN] = "UPDATE plans SET kind=?2, state=?3, server=?4, ending=?5, paused=?6, "
                    "moves=?7, moves_done=?8, map_version=?9, created_ms=?10, updated_ms=?11, "
                    "finished_ms=?12, error=?13 WHERE id=?1 AND state=?14",
    [DELETE_PLAN] = "DELETE FROM plans WHERE id=?1",
};

/* What schema 3 adds, to a new file as to an older one. */
#define SCHEMA_3                                                                                   \
    "ALTER TABLE servers ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;"                           \
    "ALTER TABLE servers ADD COLUMN drained INTEGER NOT NULL DEFAULT 0;"                           \
    "ALTER TABLE servers ADD COLUMN log_id INTEGER NOT NULL DEFAULT 0;"                            \
    "ALTER TABLE servers ADD COLUMN needs TEXT NOT NULL DEFAULT '';"                               \
    "ALTER TABLE jobs ADD COLUMN plan INTEGER NOT NULL DEFAULT 0;"                                 \
    "ALTER TABLE jobs ADD COLUMN queued INTEGER NOT NULL DEFAULT 0;"                               \
    "ALTER TABLE jobs ADD COLUMN rate_bytes INTEGER NOT NULL DEFAULT 0;"                           \
    "ALTER TABLE jobs ADD COLUMN sample_bytes INTEGER NOT NULL DEFAULT 0;"                         \
    "ALTER TABLE jobs ADD COLUMN max_impact_us INTEGER NOT NULL DEFAULT 0;"                        \
    "ALTER TABLE jobs ADD COLUMN sample_ms INTEGER NOT NULL DEFAULT 0;"                            \
    "ALTER TABLE jobs ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;"                                \
    "ALTER TABLE jobs ADD COLUMN bytes_left INTEGER NOT NULL DEFAULT 0;"                           \
    "ALTER TABLE jobs ADD COLUMN records_left INTEGER NOT NULL DEFAULT 0;"                         \
    "ALTER TABLE jobs ADD COLUMN rate INTEGER NOT NULL DEFAULT 0;"                                 \
    "ALTER TABLE jobs ADD COLUMN indirections INTEGER NOT NULL DEFAULT 0;"                         \
    "ALTER TABLE jobs ADD COLUMN hot_records INTEGER NOT NULL DEFAULT 0;"                          \
    "ALTER TABLE jobs ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;"                              \
    "ALTER TABLE jobs ADD COLUMN source_p99_us INTEGER NOT NULL DEFAULT 0;"                        \
    "ALTER TABLE jobs ADD COLUMN target_p99_us INTEGER NOT NULL DEFAULT 0;"                        \
    "CREATE TABLE plans(id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, state INTEGER NOT NULL,"    \
    " server INTEGER NOT NULL REFERENCES servers(position), ending INTEGER NOT NULL,"              \
    " paused INTEGER NOT NULL, moves INTEGER NOT NULL, moves_done INTEGER NOT NULL,"               \
    " map_version INTEGER NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"     \
    " finished_ms INTEGER NOT NULL, error TEXT NOT NULL);"                                         \
    "UPDATE meta SET value = 3 WHERE key = 'schema';"

/* And schema 4. */
#define SCHEMA_4                                                                                   \
    "ALTER TABLE jobs ADD COLUMN pull_leads INTEGER NOT NULL DEFAULT 0;"                           \
    "UPDATE meta SET value = 4 WHERE key = 'schema';"

static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO meta VALUES('schema', 2);"
    "CREATE TABLE cluster(one INTEGER PRIMARY KEY CHECK(one = 1), cluster INTEGER NOT NULL,"
    " hash_seed INTEGER NOT NULL, map_version INTEGER NOT NULL, next_job INTEGER NOT NULL);"
    "INSERT INTO cluster VALUES(1, 0, 0, 0, 0);"
    "CREATE TABLE servers(position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " address TEXT NOT NULL, view INTEGER NOT NULL, incarnation INTEGER NOT NULL,"
    " lost INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE slots(slot INTEGER PRIMARY KEY, server INTEGER REFERENCES servers(position),"
    " since INTEGER NOT NULL DEFAULT 0);"
    "WITH RECURSIVE every(slot) AS (VALUES(0) UNION ALL SELECT slot + 1 FROM every"
    " WHERE slot < 16383) INSERT INTO slots SELECT slot, NULL, 0 FROM every;"
    "CREATE TABLE jobs(id INTEGER PRIMARY KEY, state INTEGER NOT NULL, source INTEGER NOT NULL"
    " REFERENCES servers(position), target INTEGER NOT NULL REFERENCES servers(position),"
    " slots TEXT NOT NULL, commit_version INTEGER NOT NULL, bytes_moved INTEGER NOT NULL,"
    " records_moved INTEGER NOT NULL, chunks_done INTEGER NOT NULL, chunks INTEGER NOT NULL,"
    " pulls INTEGER NOT NULL, pause_ns INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    " updated_ms INTEGER NOT NULL, transferred_ms INTEGER NOT NULL, finished_ms INTEGER NOT NULL,"
    " phase TEXT NOT NULL, error TEXT NOT NULL, since INTEGER NOT NULL DEFAULT 0,"
    " paused INTEGER NOT NULL DEFAULT 0);" SCHEMA_3 SCHEMA_4;

/* From the schema of the index to the next one. A tenure whose beginning nobody has noted begins at
 * the owner's view, which is the latest that it can be: servers of that time kept nothing that they
 * could recover and that a later beginning would drop. */
static const char *const upgrade[GW_FACT_STORE_SCHEMA] = {
    [1] = "ALTER TABLE slots ADD COLUMN since INTEGER NOT NULL DEFAULT 0;"
          "UPDATE slots SET since = (SELECT view FROM servers WHERE position = server)"
          " WHERE server IS NOT NULL;"
          "ALTER TABLE servers ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE jobs ADD COLUMN since INTEGER NOT NULL DEFAULT 0;"
          "ALTER TABLE jobs ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;"
          "UPDATE jobs SET since = 1 WHERE commit_version <> 0;"
          "UPDATE meta SET value = 2 WHERE key = 'schema';",
    [2] = SCHEMA_3,
    [3] = SCHEMA_4,
};
static_assert(GW_FACT_STORE_SCHEMA == 4, "the schema's text says 4");
static_assert(GW_SLOTS == 16384, "the schema's text says 16383");

struct gw_fact_store {
    sqlite3 *db;
    char *path;
    char *slots_text; /* SLOTS_TEXT_MAX */
    char *needs_text; /* NEEDS_TEXT_MAX */
    sqlite3_stmt *statement[STATEMENTS];
};

/* SQLite's result as ours, with a sentence. */
static enum gw_status failure(struct gw_fact_store *store, const char *doing, char *error,
                              size_t error_bytes)
{
    int code = store->db ? sqlite3_errcode(store->db) : SQLITE_NOMEM;
    const char *why = store->db ? sqlite3_errmsg(store->db) : "out of memory";
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        snprintf(error, error_bytes, "store %s is locked: another coordinator holds it",
                 store->path);
        return GW_E_BUSY;
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        snprintf(error, error_bytes, "store %s is damaged or no database: cannot %s: %s",
                 store->path, doing, why);
        return GW_E_CORRUPT;
    case SQLITE_NOMEM:
        snprintf(error, error_bytes, "store %s: cannot %s: %s", store->path, doing, why);
        return GW_E_NOMEM;
    default:
        snprintf(error, error_bytes, "store %s: cannot %s: %s", store->path, doing, why);
        return GW_E_IO;
    }
}

static bool run(struct gw_fact_store *store, const char *sql)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

/* The first column of the first row as a number; -1 when it cannot be had. */
static int64_t ask(struct gw_fact_store *store, const char *sql)
{
    sqlite3_stmt *statement;
    int64_t answer = -1;
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return -1;
    if (sqlite3_step(statement) == SQLITE_ROW)
        answer = sqlite3_column_int64(statement, 0);
    if (sqlite3_finalize(statement) != SQLITE_OK)
        return -1;
    return answer;
}

/* Takes the lock, and makes an empty file ours or looks whether it is. */
static enum gw_status adopt(struct gw_fact_store *store, char *error, size_t error_bytes)
{
    if (!run(store, "PRAGMA locking_mode=EXCLUSIVE") || !run(store, "PRAGMA journal_mode=WAL") ||
        !run(store, "PRAGMA synchronous=FULL") || !run(store, "PRAGMA foreign_keys=ON") ||
        !run(store, "BEGIN EXCLUSIVE"))
        return failure(store, "take it", error, error_bytes);
    int64_t tables = ask(store, "SELECT count(*) FROM sqlite_master");
    if (tables < 0)
        return failure(store, "read it", error, error_bytes);
    if (tables == 0) {
        char mark[64];
        snprintf(mark, sizeof mark, "PRAGMA application_id=%d", APPLICATION_ID);
        if (!run(store, mark) || !run(store, schema) || !run(store, "COMMIT"))
            return failure(store, "make its tables", error, error_bytes);
        return GW_OK;
    }
    if (ask(store, "PRAGMA application_id") != APPLICATION_ID) {
        snprintf(error, error_bytes, "store %s is a database of another program", store->path);
        return GW_E_CORRUPT;
    }
    if (ask(store, "SELECT count(*) FROM pragma_quick_check WHERE quick_check <> 'ok'") != 0) {
        snprintf(error, error_bytes, "store %s is damaged: PRAGMA quick_check finds faults",
                 store->path);
        return GW_E_CORRUPT;
    }
    int64_t version = ask(store, "SELECT value FROM meta WHERE key='schema'");
    if (version < 1 || version > GW_FACT_STORE_SCHEMA) {
        snprintf(error, error_bytes,
                 "store %s has schema version %" PRId64 ", this coordinator knows only %d",
                 store->path, version, GW_FACT_STORE_SCHEMA);
        return GW_E_VERSION;
    }
    for (; version < GW_FACT_STORE_SCHEMA; version++)
        if (!run(store, upgrade[version]))
            return failure(store, "bring its tables up to date", error, error_bytes);
    if (!run(store, "COMMIT"))
        return failure(store, "take it", error, error_bytes);
    return GW_OK;
}

enum gw_status gw_fact_store_open(const char *url, struct gw_fact_store **out, char *error,
                                  size_t error_bytes)
{
    if (strncmp(url, "sqlite:", 7) != 0 || !url[7]) {
        snprintf(error, error_bytes, "a store is sqlite:PATH, not \"%s\"", url);
        return GW_E_INVALID;
    }
    enum gw_status st = GW_E_NOMEM;
    struct gw_fact_store *store = calloc(1, sizeof *store);
    if (!store)
        goto fail_store;
    store->path = strdup(url + 7);
    store->slots_text = malloc(SLOTS_TEXT_MAX);
    store->needs_text = malloc(NEEDS_TEXT_MAX);
    if (!store->path || !store->slots_text || !store->needs_text)
        goto fail_open;
    if (sqlite3_open_v2(store->path, &store->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK) {
        st = failure(store, "open it", error, error_bytes);
        goto fail_reported;
    }
    if (sqlite3_db_readonly(store->db, "main") == 1) { /* SQLite falls back silently */
        snprintf(error, error_bytes, "store %s cannot be written: it is read-only", store->path);
        st = GW_E_IO;
        goto fail_reported;
    }
    st = adopt(store, error, error_bytes);
    if (st != GW_OK)
        goto fail_reported;
    for (int i = 0; i < STATEMENTS; i++)
        if (sqlite3_prepare_v3(store->db, statement_text[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &store->statement[i], NULL) != SQLITE_OK) {
            st = failure(store, "read its tables", error, error_bytes);
            goto fail_reported;
        }
    *out = store;
    return GW_OK;

fail_open:
    snprintf(error, error_bytes, "out of memory");
fail_reported:
    gw_fact_store_close(store);
    return st;
fail_store:
    snprintf(error, error_bytes, "out of memory");
    return st;
}

void gw_fact_store_close(struct gw_fact_store *store)
{
    if (!store)
        return;
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(store->statement[i]);
    sqlite3_close(store->db);
    free(store->needs_text);
    free(store->slots_text);
    free(store->path);
    free(store);
}

/* --- saving ------------------------------------------------------------------------------------
 */

static void bind(sqlite3_stmt *statement, int at, uint64_t word) /* rule 3 */
{
    /* Cannot fail: the positions are those of the texts above. */
    int rc = sqlite3_bind_int64(statement, at, (sqlite3_int64)word);
    GW_ASSERT(rc == SQLITE_OK);
}

static void bind_text(sqlite3_stmt *statement, int at, const char *text)
{
    int rc = sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
    GW_ASSERT(rc == SQLITE_OK);
}

static bool step(struct gw_fact_store *store, enum statement which)
{
    sqlite3_stmt *statement = store->statement[which];
    bool done = sqlite3_step(statement) == SQLITE_DONE;
    return sqlite3_reset(statement) == SQLITE_OK && done;
}

static void bind_job(struct gw_fact_store *store, sqlite3_stmt *s, const struct gw_job_record *job)
{
    gw_slots_format(&job->slots, store->slots_text, SLOTS_TEXT_MAX);
    bind(s, 1, job->id);
    bind(s, 2, job->state);
    bind(s, 3, job->from);
    bind(s, 4, job->to);
    bind_text(s, 5, store->slots_text);
    bind(s, 6, job->commit_version);
    bind(s, 7, job->bytes_moved);
    bind(s, 8, job->records_moved);
    bind(s, 9, job->chunks_done);
    bind(s, 10, job->chunks);
    bind(s, 11, job->pulls);
    bind(s, 12, job->pause_ns);
    bind(s, 13, job->created_ms);
    bind(s, 14, job->updated_ms);
    bind(s, 15, job->transferred_ms);
    bind(s, 16, job->finished_ms);
    bind_text(s, 17, job->phase);
    bind_text(s, 18, job->error);
    bind(s, 19, job->since);
    bind(s, 20, job->paused);
    bind(s, 21, job->plan);
    bind(s, 22, job->queued);
    bind(s, 23, job->options.rate_bytes);
    bind(s, 24, job->options.sample_bytes);
    bind(s, 25, job->options.max_impact_us);
    bind(s, 26, job->options.sample_ms);
    bind(s, 27, job->options.flags);
    bind(s, 28, job->bytes_left);
    bind(s, 29, job->records_left);
    bind(s, 30, job->rate);
    bind(s, 31, job->indirections);
    bind(s, 32, job->hot_records);
    bind(s, 33, job->retries);
    bind(s, 34, job->source_p99_us);
    bind(s, 35, job->target_p99_us);
    bind(s, 36, job->pull_leads);
}

static void bind_plan(sqlite3_stmt *s, const struct gw_plan_record *plan)
{
    bind(s, 1, plan->id);
    bind(s, 2, plan->kind);
    bind(s, 3, plan->state);
    bind(s, 4, plan->server);
    bind(s, 5, plan->ending);
    bind(s, 6, plan->paused);
    bind(s, 7, plan->moves);
    bind(s, 8, plan->moves_done);
    bind(s, 9, plan->map_version);
    bind(s, 10, plan->created_ms);
    bind(s, 11, plan->updated_ms);
    bind(s, 12, plan->finished_ms);
    bind_text(s, 13, plan->error);
}

/* "all,", then "LOG:LOWEST," for each, in hex. */
static void needs_format(const struct gw_server_record *record, char *room)
{
    size_t at = (size_t)snprintf(room, NEEDS_TEXT_MAX, "%s", record->needs_all ? "all," : "");
    for (uint32_t i = 0; i < record->needs; i++)
        at += (size_t)snprintf(room + at, NEEDS_TEXT_MAX - at, "%" PRIx64 ":%" PRIx64 ",",
                               record->need[i].log_id, record->need[i].lowest);
}

static bool needs_parse(const char *text, struct gw_server_record *record)
{
    if (strncmp(text, "all,", 4) == 0) {
        record->needs_all = true;
        text += 4;
    }
    while (*text) {
        char *end;
        if (record->needs == GW_HEARTBEAT_NEEDS_MAX)
            return false;
        struct gw_need *need = &record->need[record->needs++];
        need->log_id = strtoull(text, &end, 16);
        if (end == text || *end != ':' || !need->log_id)
            return false;
        text = end + 1;
        need->lowest = strtoull(text, &end, 16);
        if (end == text || *end != ',')
            return false;
        text = end + 1;
    }
    return true;
}

static bool save_owner(struct gw_fact_store *store, const struct gw_fact *fact)
{
    sqlite3_stmt *s = store->statement[SAVE_OWNER];
    uint16_t first, last;
    for (uint32_t at = 0; gw_slots_next_run(&fact->owner.slots, &at, &first, &last);) {
        bind(s, 1, first);
        bind(s, 2, last);
        bind(s, 3, fact->owner.server);
        bind(s, 4, fact->owner.since);
        if (!step(store, SAVE_OWNER))
            return false;
    }
    return true;
}

/* False: SQLite has failed. *rows: how many the fact has changed; 1 unless `was` is not so. */
static bool save_fact(struct gw_fact_store *store, const struct gw_fact *fact, int *rows)
{
    enum statement which = DELETE_JOB;
    switch (fact->kind) {
    case GW_FACT_CLUSTER: {
        which = SAVE_CLUSTER;
        sqlite3_stmt *s = store->statement[which];
        bind(s, 1, fact->cluster.version_was);
        bind(s, 2, fact->cluster.version);
        bind(s, 3, fact->cluster.cluster);
        bind(s, 4, fact->cluster.hash_seed);
        bind(s, 5, fact->cluster.next_job);
        break;
    }
    case GW_FACT_SERVER: {
        which = SAVE_SERVER;
        sqlite3_stmt *s = store->statement[which];
        bind(s, 1, fact->server.index);
        bind_text(s, 2, fact->server.is.id);
        bind_text(s, 3, fact->server.is.address);
        bind(s, 4, fact->server.is.view);
        bind(s, 5, fact->server.is.incarnation);
        bind(s, 6, fact->server.record.lost);
        bind(s, 7, fact->server.record.removed);
        bind(s, 8, fact->server.record.drained);
        bind(s, 9, fact->server.record.log_id);
        needs_format(&fact->server.record, store->needs_text);
        bind_text(s, 10, store->needs_text);
        break;
    }
    case GW_FACT_OWNER:
        *rows = 1;
        return save_owner(store, fact);
    case GW_FACT_JOB:
        which = fact->job.was ? UPDATE_JOB : INSERT_JOB;
        bind_job(store, store->statement[which], &fact->job.is);
        if (fact->job.was)
            bind(store->statement[which], 37, fact->job.was);
        break;
    case GW_FACT_PLAN:
        which = fact->plan.was ? UPDATE_PLAN : INSERT_PLAN;
        bind_plan(store->statement[which], &fact->plan.is);
        if (fact->plan.was)
            bind(store->statement[which], 14, fact->plan.was);
        break;
    case GW_FACT_PLAN_GONE:
        which = DELETE_PLAN;
        bind(store->statement[which], 1, fact->plan_gone);
        break;
    case GW_FACT_JOB_GONE:
        bind(store->statement[which], 1, fact->job_gone);
        break;
    }
    if (!step(store, which))
        return false;
    *rows = sqlite3_changes(store->db);
    return true;
}

enum gw_status gw_fact_store_save(struct gw_fact_store *store, const struct gw_fact *facts,
                                  uint32_t n, char *error, size_t error_bytes)
{
    if (n == 0)
        return GW_OK;
    enum gw_status st;
    if (!run(store, "BEGIN IMMEDIATE"))
        return failure(store, "begin a transaction", error, error_bytes);
    for (uint32_t i = 0; i < n; i++) {
        int rows;
        if (!save_fact(store, &facts[i], &rows)) {
            st = failure(store, "write a fact", error, error_bytes);
            goto fail;
        }
        if (rows != 1) {
            snprintf(error, error_bytes,
                     "store %s is not as the coordinator left it (fact %" PRIu32 " of %" PRIu32
                     ", kind %d): somebody else has written to it",
                     store->path, i + 1, n, (int)facts[i].kind);
            st = GW_MISMATCH;
            goto fail;
        }
    }
    if (run(store, "COMMIT"))
        return GW_OK;
    st = failure(store, "commit", error, error_bytes);
fail:
    if (!sqlite3_get_autocommit(store->db)) /* some failures have rolled it back already */
        (void)run(store, "ROLLBACK");       /* if this fails, too, the file's recovery does it */
    return st;
}

/* --- loading -----------------------------------------------------------------------------------
 */

static uint64_t word(sqlite3_stmt *s, int column) /* rule 3 */
{
    return (uint64_t)sqlite3_column_int64(s, column);
}

static bool text_into(sqlite3_stmt *s, int column, char *room, size_t room_bytes)
{
    const char *text = (const char *)sqlite3_column_text(s, column);
    if (!text || strlen(text) >= room_bytes)
        return false;
    memset(room, 0, room_bytes);
    memcpy(room, text, strlen(text));
    return true;
}

/* One row as a fact. False: no coordinator has written that. */
typedef bool (*row_cb)(sqlite3_stmt *s, struct gw_fact *fact);

static bool row_cluster(sqlite3_stmt *s, struct gw_fact *fact)
{
    fact->kind = GW_FACT_CLUSTER;
    fact->cluster.version = word(s, 0);
    fact->cluster.cluster = word(s, 1);
    fact->cluster.hash_seed = word(s, 2);
    fact->cluster.next_job = word(s, 3);
    return true;
}

static bool row_server(sqlite3_stmt *s, struct gw_fact *fact)
{
    fact->kind = GW_FACT_SERVER;
    fact->server.index = (uint32_t)word(s, 0);
    fact->server.is.view = word(s, 3);
    fact->server.is.incarnation = word(s, 4);
    struct gw_server_record *record = &fact->server.record;
    record->lost = word(s, 5) != 0;
    record->removed = word(s, 6) != 0;
    record->drained = word(s, 7) != 0;
    record->log_id = word(s, 8);
    const char *needs = (const char *)sqlite3_column_text(s, 9);
    if (!needs || !needs_parse(needs, record))
        return false;
    return text_into(s, 1, fact->server.is.id, sizeof fact->server.is.id) &&
           text_into(s, 2, fact->server.is.address, sizeof fact->server.is.address);
}

static bool row_owner(sqlite3_stmt *s, struct gw_fact *fact)
{
    fact->kind = GW_FACT_OWNER;
    fact->owner.server = (uint32_t)word(s, 2);
    fact->owner.since = word(s, 3);
    if (word(s, 0) > word(s, 1) || word(s, 1) >= GW_SLOTS)
        return false;
    gw_slots_add_range(&fact->owner.slots, (uint16_t)word(s, 0), (uint16_t)word(s, 1));
    return true;
}

static bool row_job(sqlite3_stmt *s, struct gw_fact *fact)
{
    struct gw_job_record *job = &fact->job.is;
    fact->kind = GW_FACT_JOB;
    job->id = word(s, 0);
    job->state = (enum gw_job_state)word(s, 1);
    job->from = (uint32_t)word(s, 2);
    job->to = (uint32_t)word(s, 3);
    const char *slots = (const char *)sqlite3_column_text(s, 4);
    if (!slots || gw_slots_parse(slots, &job->slots, NULL, 0) != GW_OK)
        return false;
    job->commit_version = word(s, 5);
    job->bytes_moved = word(s, 6);
    job->records_moved = word(s, 7);
    job->chunks_done = word(s, 8);
    job->chunks = word(s, 9);
    job->pulls = word(s, 10);
    job->pause_ns = word(s, 11);
    job->created_ms = word(s, 12);
    job->updated_ms = word(s, 13);
    job->transferred_ms = word(s, 14);
    job->finished_ms = word(s, 15);
    job->since = word(s, 18);
    job->paused = word(s, 19) != 0;
    job->plan = word(s, 20);
    job->queued = word(s, 21) != 0;
    job->options.rate_bytes = word(s, 22);
    job->options.sample_bytes = word(s, 23);
    job->options.max_impact_us = (uint32_t)word(s, 24);
    job->options.sample_ms = (uint32_t)word(s, 25);
    job->options.flags = (uint8_t)word(s, 26);
    job->bytes_left = word(s, 27);
    job->records_left = word(s, 28);
    job->rate = word(s, 29);
    job->indirections = word(s, 30);
    job->hot_records = word(s, 31);
    job->retries = word(s, 32);
    job->source_p99_us = word(s, 33);
    job->target_p99_us = word(s, 34);
    job->pull_leads = word(s, 35);
    return text_into(s, 16, job->phase, sizeof job->phase) &&
           text_into(s, 17, job->error, sizeof job->error);
}

static bool row_plan(sqlite3_stmt *s, struct gw_fact *fact)
{
    struct gw_plan_record *plan = &fact->plan.is;
    fact->kind = GW_FACT_PLAN;
    plan->id = word(s, 0);
    plan->kind = (enum gw_plan_kind)word(s, 1);
    plan->state = (enum gw_job_state)word(s, 2);
    plan->server = (uint32_t)word(s, 3);
    plan->ending = (enum gw_job_state)word(s, 4);
    plan->paused = word(s, 5) != 0;
    plan->moves = (uint32_t)word(s, 6);
    plan->moves_done = (uint32_t)word(s, 7);
    plan->map_version = word(s, 8);
    plan->created_ms = word(s, 9);
    plan->updated_ms = word(s, 10);
    plan->finished_ms = word(s, 11);
    return text_into(s, 12, plan->error, sizeof plan->error);
}

/* Runs of equal owners and tenures: consecutive slots differ from their rank among those of that
 * owner and tenure by a constant. */
static const struct {
    const char *table, *query;
    row_cb row;
} tables[] = {
    {"cluster", "SELECT map_version, cluster, hash_seed, next_job FROM cluster WHERE cluster <> 0",
     row_cluster},
    {"servers",
     "SELECT position, id, address, view, incarnation, lost, removed, drained, log_id, needs FROM "
     "servers ORDER BY position",
     row_server},
    {"slots",
     "SELECT min(slot), max(slot), server, since FROM (SELECT slot, server, since, slot - "
     "row_number() OVER (PARTITION BY server, since ORDER BY slot) AS run FROM slots WHERE server "
     "IS NOT NULL) GROUP BY server, since, run ORDER BY 1",
     row_owner},
    {"plans", "SELECT " PLAN_COLUMNS " FROM plans ORDER BY id", row_plan},
    {"jobs", "SELECT " JOB_COLUMNS " FROM jobs ORDER BY id", row_job},
};

enum gw_status gw_fact_store_load(struct gw_fact_store *store, gw_fact_cb each, void *ctx,
                                  char *error, size_t error_bytes)
{
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        sqlite3_stmt *s;
        if (sqlite3_prepare_v2(store->db, tables[t].query, -1, &s, NULL) != SQLITE_OK)
            return failure(store, "read its tables", error, error_bytes);
        enum gw_status st = GW_OK;
        int rc;
        while (st == GW_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
            struct gw_fact fact;
            memset(&fact, 0, sizeof fact);
            st = tables[t].row(s, &fact) ? each(ctx, &fact) : GW_E_CORRUPT;
        }
        if (st == GW_OK && rc != SQLITE_DONE)
            st = failure(store, "read its tables", error, error_bytes);
        else if (st != GW_OK)
            snprintf(error, error_bytes, "store %s: table %s holds what cannot be: %s", store->path,
                     tables[t].table, gw_status_text(st));
        sqlite3_finalize(s);
        if (st != GW_OK)
            return st;
    }
    return GW_OK;
}

static enum gw_status apply(void *ctx, const struct gw_fact *fact)
{
    return gw_coordinator_apply(ctx, fact);
}

enum gw_status gw_fact_store_start(struct gw_fact_store *store, uint64_t new_cluster,
                                   uint64_t new_hash_seed, struct gw_coordinator **out, char *error,
                                   size_t error_bytes)
{
    struct gw_coordinator *c;
    enum gw_status st = gw_coordinator_create(&c);
    if (st != GW_OK) {
        snprintf(error, error_bytes, "out of memory");
        return st;
    }
    st = gw_fact_store_load(store, apply, c, error, error_bytes);
    if (st != GW_OK)
        goto fail;
    char why[256] = "out of memory";
    st = gw_coordinator_start(c, new_cluster, new_hash_seed, why, sizeof why);
    if (st != GW_OK) {
        snprintf(error, error_bytes, "store %s: %s", store->path, why);
        goto fail;
    }
    *out = c;
    return GW_OK;
fail:
    gw_coordinator_destroy(c);
    return st;
}
