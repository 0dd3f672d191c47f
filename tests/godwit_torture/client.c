/* client.c - see client.h.
 *
 * Sessions whose answers mean durable (all of a commit server, DURABLE ones of a memory server; of
 * a server of mode none all, as it is never killed) work on the families that are checked by every
 * answer. Sessions that are answered before (APPLIED) have a family of counters, of which the end
 * alone is checked, and only what was acknowledged and then synchronised counts as acknowledged. */
#include "tests/godwit_torture/client.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/clock.h"

#define BURST_MAX   24u
#define PATIENCE_MS (TORTURE_DEADLINE_MS + 10000u)
#define POLL_MS     20
#define FILL_WINDOW 256u

struct torture_flight {
    struct torture_client *client;
    struct torture_flight *next;
    size_t op;
    enum torture_family family;
    uint64_t from_ms;         /* wall clock */
    struct torture_life life; /* expiring keys, writes */
};

static uint64_t wall_ms(void)
{
    return gw_clock_wall_ms(gw_clock_system());
}

static struct torture_expiring *expiring_of(struct torture_client *c, uint32_t key)
{
    return &c->expiring[key - c->run->keys.first[TORTURE_EXPIRING]];
}

/* Every fourth client only reads; the others share the expiring keys. */
static bool owns(const struct torture_client *c, uint32_t key)
{
    return !c->reader && key % c->run->options.clients == c->id;
}

/* ---- answers -------------------------------------------------------------------------------- */

static enum torture_outcome outcome_of(enum gw_status st)
{
    switch (st) {
    case GW_OK:
        return TORTURE_OK;
    case GW_NOT_FOUND:
        return TORTURE_NOT_FOUND;
    case GW_EXISTS:
        return TORTURE_EXISTS;
    case GW_MISMATCH:
        return TORTURE_MISMATCH;
    case GW_E_FULL:
    case GW_E_NOMEM:
    case GW_E_TIMEOUT:
    case GW_E_UNREACHABLE:
    case GW_E_CANCELLED:
    case GW_E_LIMIT:
        return TORTURE_NOT_DONE;
    default:
        return TORTURE_IN_DOUBT; /* GW_IN_DOUBT, GW_E_IO */
    }
}

static bool is_expected(enum torture_verb verb, enum gw_status st)
{
    switch (st) {
    case GW_OK:
    case GW_IN_DOUBT:
    case GW_E_IO:
        return true;
    case GW_NOT_FOUND:
        return verb == TORTURE_GET || verb == TORTURE_DELETE || verb == TORTURE_CAS ||
               verb == TORTURE_GET_DELETE;
    case GW_EXISTS:
        return verb == TORTURE_INSERT;
    case GW_MISMATCH:
        return verb == TORTURE_CAS;
    default:
        return outcome_of(st) == TORTURE_NOT_DONE;
    }
}

/* What lies between: a value of several pieces was once each shorter one. */
static void write_down_way(struct torture_client *c, uint32_t key, const uint8_t *value,
                           const struct torture_value *seen)
{
    uint64_t state = 0;
    size_t at = 0;
    for (size_t i = 0; i + 1 < seen->pieces; i++) {
        struct torture_value piece;
        char why[8];
        uint32_t length;
        memcpy(&length, value + at + 4, sizeof length);
        if (!torture_value_read(value + at, length, key, &piece, why, sizeof why))
            return;
        state = torture_state_append(state, piece.last);
        at += length;
        size_t index;
        struct torture_op *op = torture_log_add(&c->log, &index);
        *op = (struct torture_op){.key = key,
                                  .result = state,
                                  .verb = TORTURE_SEEN,
                                  .outcome = TORTURE_NOT_DONE,
                                  .response_ns = TORTURE_NEVER};
    }
}

/* Takes the value of an answer into op->result. */
static void take_value(struct torture_client *c, struct torture_flight *flight,
                       const struct gw_result *result)
{
    struct torture_op *op = torture_log_at(&c->log, flight->op);
    uint64_t now = op->response_ns;
    char why[200], name[TORTURE_KEY_BYTES];
    struct torture_value value;
    torture_key_write(&c->run->keys, op->key, name);
    bool counter = flight->family == TORTURE_COUNTERS || flight->family == TORTURE_PROMISES;
    if (result->kind == GW_VALUE_FORGOTTEN && op->verb != TORTURE_GET) {
        op->result = TORTURE_UNKNOWN;
    } else if (result->kind == GW_VALUE_NONE && op->verb == TORTURE_GET_SET) {
        op->result = 0;
    } else if ((result->kind == GW_VALUE_COUNTER) != counter || result->kind == GW_VALUE_NONE) {
        torture_violation(c->run, op->key, now, "%s: a value of another type (%d)", name,
                          (int)result->kind);
        op->outcome = TORTURE_NOT_DONE;
    } else if (counter) {
        op->result = (uint64_t)result->number;
    } else if (!torture_value_read(result->value, result->value_bytes, op->key, &value, why,
                                   sizeof why)) {
        torture_violation(c->run, op->key, now, "%s: a torn value: %s", name, why);
        op->outcome = TORTURE_NOT_DONE;
    } else {
        op->result = value.state;
        if (value.pieces > 1)
            write_down_way(c, op->key, result->value, &value);
        if (flight->family != TORTURE_EXPIRING)
            return;
        bool right = owns(c, op->key)
                         ? torture_expiring_saw(expiring_of(c, op->key), &value, flight->from_ms,
                                                wall_ms(), why, sizeof why)
                         : !torture_expired_seen(&value, flight->from_ms, why, sizeof why);
        if (!right)
            torture_violation(c->run, op->key, now, "%s: %s", name, why);
        if (result->expiry_ms != value.expiry_ms)
            torture_violation(c->run, op->key, now,
                              "%s: it was written to end at %" PRIu64 " and ends at %" PRIu64, name,
                              value.expiry_ms, result->expiry_ms);
    }
}

static void answered_expiring(struct torture_client *c, struct torture_flight *flight)
{
    struct torture_op *op = torture_log_at(&c->log, flight->op);
    struct torture_expiring *key = expiring_of(c, op->key);
    char why[200], name[TORTURE_KEY_BYTES];
    if (!owns(c, op->key))
        return;
    key->busy = false;
    bool doubt = torture_doubtful(op);
    if (op->verb != TORTURE_GET && op->outcome != TORTURE_NOT_DONE)
        torture_expiring_wrote(key, flight->life, doubt);
    /* A delete that finds nothing has seen that nothing is there. */
    bool looked = op->outcome == TORTURE_NOT_FOUND && op->verb == TORTURE_GET;
    if (looked && !torture_expiring_saw(key, NULL, flight->from_ms, wall_ms(), why, sizeof why)) {
        torture_key_write(&c->run->keys, op->key, name);
        torture_violation(c->run, op->key, op->response_ns, "%s: %s", name, why);
    }
}

static void on_answer(void *ctx, const struct gw_result *result)
{
    struct torture_flight *flight = ctx;
    struct torture_client *c = flight->client;
    struct torture_op *op = torture_log_at(&c->log, flight->op);
    op->outcome = (uint8_t)outcome_of(result->status);
    op->version = result->version;
    if (torture_answered(op))
        op->response_ns = torture_now_ns(c->run);
    else if (op->outcome == TORTURE_IN_DOUBT)
        atomic_fetch_add_explicit(&c->run->in_doubt, 1, memory_order_relaxed);
    else
        atomic_fetch_add_explicit(&c->run->not_done, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&c->run->operations, 1, memory_order_relaxed);
    if (!is_expected((enum torture_verb)op->verb, result->status)) {
        char name[TORTURE_KEY_BYTES], words[400];
        torture_key_write(&c->run->keys, op->key, name);
        torture_op_describe(op, name, false, words, sizeof words);
        torture_violation(c->run, op->key, torture_now_ns(c->run), "an answer of '%s' to %s",
                          gw_status_text(result->status), words);
    }
    bool gives =
        op->verb == TORTURE_GET || op->verb == TORTURE_GET_SET || op->verb == TORTURE_GET_DELETE;
    if (op->outcome == TORTURE_OK && gives)
        take_value(c, flight, result);
    else if (op->outcome == TORTURE_OK && op->verb == TORTURE_ADD)
        op->result = (uint64_t)result->number;
    op = torture_log_at(&c->log, flight->op);
    if (flight->family == TORTURE_EXPIRING)
        answered_expiring(c, flight);
    if (flight->family == TORTURE_REGISTERS && op->outcome == TORTURE_OK) {
        uint64_t state = op->verb == TORTURE_GET ? op->result : op->argument;
        if (op->verb == TORTURE_GET || op->verb == TORTURE_SET)
            c->known[op->key - c->run->keys.first[TORTURE_REGISTERS]] =
                (struct torture_known){state, op->version};
    }
    flight->next = c->spare;
    c->spare = flight;
}

/* ---- operations ----------------------------------------------------------------------------- */

static struct torture_flight *take_flight(struct torture_client *c, uint32_t key,
                                          enum torture_verb verb)
{
    struct torture_flight *flight = c->spare;
    if (flight)
        c->spare = flight->next;
    else
        flight = malloc(sizeof *flight);
    GW_ASSERT(flight);
    *flight = (struct torture_flight){.client = c,
                                      .from_ms = wall_ms(),
                                      .family = torture_family_of(&c->run->keys, key)};
    struct torture_op *op = torture_log_add(&c->log, &flight->op);
    *op = (struct torture_op){.invoke_ns = torture_now_ns(c->run),
                              .response_ns = TORTURE_NEVER,
                              .key = key,
                              .session = c->session_number,
                              .serial = ++c->session_serial,
                              .verb = (uint8_t)verb,
                              .client = c->id};
    return flight;
}

/* What the call itself said: anything but GW_OK means that nothing was done. */
static void issued(struct torture_client *c, struct torture_flight *flight, enum gw_status st)
{
    if (st == GW_OK)
        return;
    torture_log_at(&c->log, flight->op)->outcome = TORTURE_NOT_DONE;
    if (flight->family == TORTURE_EXPIRING && owns(c, torture_log_at(&c->log, flight->op)->key))
        expiring_of(c, torture_log_at(&c->log, flight->op)->key)->busy = false;
    if (st != GW_WOULD_BLOCK)
        torture_violation(c->run, TORTURE_NO_KEY, torture_now_ns(c->run),
                          "an operation was not taken: %s", gw_status_text(st));
    flight->next = c->spare;
    c->spare = flight;
}

void torture_client_get(struct torture_client *c, uint32_t key)
{
    char name[TORTURE_KEY_BYTES];
    size_t len = torture_key_write(&c->run->keys, key, name);
    struct torture_flight *flight = take_flight(c, key, TORTURE_GET);
    issued(c, flight, gw_get(c->session, name, len, on_answer, flight));
}

static void add(struct torture_client *c, uint32_t key)
{
    char name[TORTURE_KEY_BYTES];
    size_t len = torture_key_write(&c->run->keys, key, name);
    struct torture_flight *flight = take_flight(c, key, TORTURE_ADD);
    torture_log_at(&c->log, flight->op)->argument = 1;
    issued(c, flight, gw_add(c->session, name, len, 1, 0, on_answer, flight));
}

/* A new piece in c->room; its id. */
static uint64_t new_piece(struct torture_client *c, uint32_t key, size_t bytes, uint64_t expiry_ms)
{
    uint64_t id = ((uint64_t)c->id + 1) << 40 | ++c->writes;
    torture_piece_write(c->room, bytes, key, id, expiry_ms);
    return id;
}

static void write_bytes(struct torture_client *c, uint32_t key, enum torture_verb verb,
                        size_t bytes)
{
    char name[TORTURE_KEY_BYTES];
    size_t len = torture_key_write(&c->run->keys, key, name);
    struct gw_session *s = c->session;
    const struct torture_known *known = NULL;
    if (verb == TORTURE_CAS)
        known = &c->known[key - c->run->keys.first[TORTURE_REGISTERS]];
    if (known && known->state == 0)
        verb = TORTURE_GET;
    if (verb == TORTURE_GET) {
        torture_client_get(c, key);
        return;
    }
    uint64_t id = new_piece(c, key, bytes, 0);
    struct torture_flight *flight = take_flight(c, key, verb);
    struct torture_op *op = torture_log_at(&c->log, flight->op);
    op->argument = verb == TORTURE_APPEND ? id : torture_state_append(0, id);
    enum gw_status st = GW_E_INVALID;
    switch (verb) {
    case TORTURE_SET:
        st = gw_set(s, name, len, c->room, bytes, on_answer, flight);
        break;
    case TORTURE_APPEND:
        st = gw_append(s, name, len, c->room, bytes, 0, on_answer, flight);
        break;
    case TORTURE_DELETE:
        st = gw_delete(s, name, len, on_answer, flight);
        break;
    case TORTURE_INSERT:
        st = gw_insert(s, name, len, c->room, bytes, on_answer, flight);
        break;
    case TORTURE_CAS:
        op->expected = known->state;
        st = gw_cas(s, name, len, known->version, c->room, bytes, on_answer, flight);
        break;
    case TORTURE_GET_SET:
        st = gw_get_set(s, name, len, c->room, bytes, on_answer, flight);
        break;
    case TORTURE_GET_DELETE:
        st = gw_get_delete(s, name, len, on_answer, flight);
        break;
    default:
        break;
    }
    issued(c, flight, st);
}

static void on_expiring(struct torture_client *c, uint32_t key)
{
    char name[TORTURE_KEY_BYTES];
    size_t len = torture_key_write(&c->run->keys, key, name);
    if (!owns(c, key)) {
        torture_client_get(c, key);
        return;
    }
    struct torture_expiring *mine = expiring_of(c, key);
    if (mine->busy)
        return;
    mine->busy = true;
    uint64_t kind = gw_rand_below(&c->rand, 10), expiry = 0;
    if (kind < 5) {
        torture_client_get(c, key);
        return;
    }
    if (kind < 8) /* soon, within the run, or not in it */
        expiry = wall_ms() + (kind == 5   ? gw_rand_below(&c->rand, 1500) + 1
                              : kind == 6 ? 2000 + gw_rand_below(&c->rand, 20000)
                                          : 86400000);
    size_t bytes = TORTURE_PIECE_HEAD + (size_t)gw_rand_below(&c->rand, 300);
    uint64_t id = kind < 9 ? new_piece(c, key, bytes, expiry) : 0;
    struct torture_flight *flight = take_flight(c, key, id ? TORTURE_SET : TORTURE_DELETE);
    torture_log_at(&c->log, flight->op)->argument = torture_state_append(0, id);
    flight->life = (struct torture_life){id, expiry};
    issued(c, flight,
           !id      ? gw_delete(c->session, name, len, on_answer, flight)
           : expiry ? gw_set_until(c->session, name, len, c->room, bytes, expiry, on_answer, flight)
                    : gw_set(c->session, name, len, c->room, bytes, on_answer, flight));
}

static uint32_t pick(struct torture_client *c, enum torture_family f, uint32_t hot)
{
    const struct torture_keys *keys = &c->run->keys;
    uint32_t count = keys->first[f + 1] - keys->first[f];
    if (hot && gw_rand_below(&c->rand, 2))
        count = hot;
    return keys->first[f] + (uint32_t)gw_rand_below(&c->rand, count);
}

static void one(struct torture_client *c)
{
    static const uint8_t registers[] = {TORTURE_GET,       TORTURE_GET,    TORTURE_GET,
                                        TORTURE_SET,       TORTURE_SET,    TORTURE_CAS,
                                        TORTURE_CAS,       TORTURE_CAS,    TORTURE_INSERT,
                                        TORTURE_INSERT,    TORTURE_DELETE, TORTURE_GET_SET,
                                        TORTURE_GET_DELETE};
    static const uint8_t values[] = {TORTURE_GET,    TORTURE_GET,   TORTURE_GET, TORTURE_SET,
                                     TORTURE_SET,    TORTURE_SET,   TORTURE_SET, TORTURE_APPEND,
                                     TORTURE_APPEND, TORTURE_DELETE};
    uint64_t what = gw_rand_below(&c->rand, 100);
    uint64_t size = gw_rand_below(&c->rand, 10);
    size_t bytes = TORTURE_PIECE_HEAD;
    if (what < 35) {
        uint32_t key = pick(c, TORTURE_COUNTERS, 8);
        if (c->reader || gw_rand_below(&c->rand, 8) == 0)
            torture_client_get(c, key);
        else
            add(c, key);
    } else if (what < 65) {
        uint32_t key = pick(c, TORTURE_REGISTERS, 6);
        uint64_t verb = registers[gw_rand_below(&c->rand, sizeof registers)];
        bytes += (size_t)gw_rand_below(&c->rand, size < 5 ? 9 : 120);
        write_bytes(c, key, c->reader ? TORTURE_GET : (enum torture_verb)verb, bytes);
    } else if (what < 88) {
        uint32_t count =
            c->run->keys.first[TORTURE_VALUES + 1] - c->run->keys.first[TORTURE_VALUES];
        /* With a shared tier some are hot, and most of the others far away. */
        uint32_t key = pick(c, TORTURE_VALUES, c->run->options.blob ? count / 32 : 0);
        uint64_t verb = values[gw_rand_below(&c->rand, sizeof values)];
        bytes += (size_t)gw_rand_below(&c->rand, size < 3 ? 300 : size < 8 ? 4096 : 12288);
        write_bytes(c, key, c->reader ? TORTURE_GET : (enum torture_verb)verb, bytes);
    } else {
        on_expiring(c, pick(c, TORTURE_EXPIRING, 0));
    }
}

/* ---- sessions ------------------------------------------------------------------------------- */

bool torture_client_open(struct torture_client *c, enum gw_acknowledge acknowledge)
{
    struct gw_session_options options;
    gw_session_options_default(&options);
    options.deadline_ms = TORTURE_DEADLINE_MS;
    options.operations_max = 1024;
    options.acknowledge = acknowledge;
    enum gw_status st = gw_session_open(c->cluster, &options, &c->session);
    if (st != GW_OK) {
        torture_violation(c->run, TORTURE_NO_KEY, torture_now_ns(c->run),
                          "a session cannot be opened: %s", gw_status_text(st));
        return false;
    }
    c->acknowledge = acknowledge;
    c->session_number = (uint32_t)atomic_fetch_add(&c->run->sessions, 1) + 1;
    c->session_serial = 0;
    return true;
}

bool torture_client_wait(struct torture_client *c, size_t most)
{
    uint64_t end = torture_now_ns(c->run) + PATIENCE_MS * UINT64_C(1000000);
    /* What waits for a checkpoint asks for it; else everything of a memory server would wait for
     * its next one. */
    bool hurry = c->acknowledge == GW_ACKNOWLEDGE_DURABLE &&
                 c->run->options.durability == TORTURE_MODE_MEMORY;
    enum gw_status asked = GW_OK;
    while (gw_in_flight(c->session) > most) {
        if (hurry)
            asked = gw_session_sync(c->session, 0); /* what it says comes by callback */
        (void)asked;
        (void)gw_poll(c->session, POLL_MS);
        if (torture_now_ns(c->run) >= end) {
            torture_violation(c->run, TORTURE_NO_KEY, torture_now_ns(c->run),
                              "client %u, session %u: %zu operations have no answer after %u ms, "
                              "though their deadline is %u ms",
                              c->id, c->session_number, gw_in_flight(c->session), PATIENCE_MS,
                              TORTURE_DEADLINE_MS);
            return false;
        }
    }
    return true;
}

bool torture_client_close(struct torture_client *c)
{
    bool good = torture_client_wait(c, 0);
    gw_session_close(c->session);
    c->session = NULL;
    return good;
}

bool torture_client_fill(struct torture_client *c)
{
    const struct torture_keys *keys = &c->run->keys;
    bool good = torture_client_open(c, GW_ACKNOWLEDGE_SERVER);
    if (!good)
        return false;
    for (uint32_t key = keys->first[TORTURE_VALUES]; good && key < keys->first[TORTURE_VALUES + 1];
         key++) {
        if (key % 16 == 11)
            continue; /* and some are asked for that nobody wrote */
        size_t bytes = TORTURE_PIECE_HEAD + (size_t)gw_rand_below(&c->rand, 6000);
        write_bytes(c, key, TORTURE_SET, bytes);
        /* Not taken, for too many bytes are on their way: once more. */
        while (good && torture_log_at(&c->log, c->log.count - 1)->outcome == TORTURE_NOT_DONE) {
            good = torture_client_wait(c, gw_in_flight(c->session) / 2);
            write_bytes(c, key, TORTURE_SET, bytes);
        }
        if (good && gw_in_flight(c->session) >= FILL_WINDOW)
            good = torture_client_wait(c, FILL_WINDOW / 2);
    }
    return torture_client_close(c) && good;
}

/* A session whose answers promise that they will be durable. */
static void run_promises(struct torture_client *c)
{
    size_t first = c->log.count;
    uint64_t bursts = 1 + gw_rand_below(&c->rand, 60);
    if (!torture_client_open(c, c->run->options.durability == TORTURE_MODE_NONE
                                    ? GW_ACKNOWLEDGE_SERVER
                                    : GW_ACKNOWLEDGE_APPLIED))
        return;
    while (bursts-- > 0 && !atomic_load(&c->run->stop)) {
        for (uint64_t n = 1 + gw_rand_below(&c->rand, BURST_MAX); n > 0; n--)
            add(c, pick(c, TORTURE_PROMISES, 4));
        (void)gw_poll(c->session, 1);
        torture_sleep_ms(gw_rand_below(&c->rand, 10));
        if (gw_in_flight(c->session) > 200 && !torture_client_wait(c, 100))
            break;
    }
    (void)torture_client_wait(c, 0);
    enum gw_status st = GW_OK;
    if (c->acknowledge == GW_ACKNOWLEDGE_APPLIED)
        st = gw_session_sync(c->session, PATIENCE_MS);
    if (st != GW_OK) {
        torture_event(c->run, "client %u, session %u: kept operations end as '%s'", c->id,
                      c->session_number, gw_status_text(st));
        for (size_t i = first; i < c->log.count; i++)
            if (torture_log_at(&c->log, i)->outcome == TORTURE_OK)
                torture_log_at(&c->log, i)->outcome = TORTURE_IN_DOUBT;
    }
    gw_session_close(c->session);
    c->session = NULL;
}

static void run_session(struct torture_client *c)
{
    /* Short ones, long ones; of a commit server both ways of being told. */
    uint64_t bursts = gw_rand_below(&c->rand, 2) ? 1 + gw_rand_below(&c->rand, 8)
                                                 : 20 + gw_rand_below(&c->rand, 1000);
    enum gw_acknowledge acknowledge = GW_ACKNOWLEDGE_SERVER;
    if (c->run->options.durability == TORTURE_MODE_MEMORY ||
        (c->run->options.durability == TORTURE_MODE_COMMIT && gw_rand_below(&c->rand, 2)))
        acknowledge = GW_ACKNOWLEDGE_DURABLE;
    if (!torture_client_open(c, acknowledge))
        return;
    while (bursts-- > 0 && !atomic_load(&c->run->stop)) {
        for (uint64_t n = 1 + gw_rand_below(&c->rand, BURST_MAX); n > 0; n--)
            one(c);
        bool piled = gw_rand_below(&c->rand, 4) == 0; /* go on before all is answered */
        if (!torture_client_wait(c, piled ? 40 : 0))
            break;
        torture_sleep_ms(gw_rand_below(&c->rand, 12));
    }
    if (gw_rand_below(&c->rand, 50) == 0) { /* left in the middle */
        gw_session_close(c->session);
        c->session = NULL;
        return;
    }
    (void)torture_client_close(c);
}

void torture_client_init(struct torture_client *c, struct torture_run *run,
                         struct gw_cluster *cluster, struct torture_expiring *expiring, uint16_t id)
{
    uint32_t registers =
        run->keys.first[TORTURE_REGISTERS + 1] - run->keys.first[TORTURE_REGISTERS];
    memset(c, 0, sizeof *c);
    c->run = run;
    c->cluster = cluster;
    c->expiring = expiring;
    c->id = id;
    c->reader = id % 4 == 3;
    c->known = calloc(registers, sizeof *c->known);
    GW_ASSERT(c->known);
    gw_rand_init(&c->rand, torture_seed(run, "client", id));
}

void torture_client_free(struct torture_client *c)
{
    while (c->spare) {
        struct torture_flight *next = c->spare->next;
        free(c->spare);
        c->spare = next;
    }
    free(c->known);
    torture_log_free(&c->log);
}

void *torture_client_run(void *ctx)
{
    struct torture_client *c = ctx;
    while (!atomic_load(&c->run->stop)) {
        if (!c->reader && gw_rand_below(&c->rand, 6) == 0)
            run_promises(c);
        else
            run_session(c);
    }
    return NULL;
}
