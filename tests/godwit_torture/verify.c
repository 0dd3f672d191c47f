/* verify.c - see verify.h. */
#include "tests/godwit_torture/verify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/godwit_torture/counting.h"
#include "tests/godwit_torture/linear.h"

#define STEPS_MAX   3000000u /* of one key's search: about a second */
#define SHOWN_MAX   20u
#define SHOWN_OPS   40u
#define READ_WINDOW 256u
#define SCAN_NS     UINT64_C(15000000000) /* cold records are scanned slowly */
#define AROUND_NS   UINT64_C(3000000000)

bool torture_read_all(struct torture_client *reader)
{
    bool durable = reader->run->options.durability != TORTURE_MODE_NONE;
    uint32_t keys = reader->run->keys.first[TORTURE_FAMILIES];
    if (!torture_client_open(reader, durable ? GW_ACKNOWLEDGE_DURABLE : GW_ACKNOWLEDGE_SERVER))
        return false;
    size_t first = reader->log.count;
    bool good = true;
    for (uint32_t key = 0; key < keys && good; key++) {
        torture_client_get(reader, key);
        if (gw_in_flight(reader->session) >= READ_WINDOW)
            good = torture_client_wait(reader, READ_WINDOW / 2);
    }
    uint64_t found = 0;
    good = torture_client_close(reader) && good;
    for (size_t i = first; i < reader->log.count; i++)
        found += torture_log_at(&reader->log, i)->outcome == TORTURE_OK &&
                 torture_log_at(&reader->log, i)->verb == TORTURE_GET;
    torture_event(reader->run, "%" PRIu64 " keys are there", found);
    return good;
}

/* The last answers of the reader's log, by key. */
static const struct torture_op **last_answers(const struct torture_client *reader)
{
    uint32_t keys = reader->run->keys.first[TORTURE_FAMILIES];
    const struct torture_op **last = calloc(keys, sizeof(*last));
    for (size_t i = 0; last && i < reader->log.count; i++) {
        const struct torture_op *op = torture_log_at(&reader->log, i);
        if (op->verb == TORTURE_GET)
            last[op->key] = op;
    }
    return last;
}

/* ---- the scan ------------------------------------------------------------------------------- */

struct scan {
    struct torture_run *run;
    const struct torture_op **last;
    uint8_t *seen;
    uint64_t twice, end_ns;
};

static bool scanned(void *ctx, const struct gw_scan_item *item)
{
    struct scan *scan = ctx;
    struct torture_run *run = scan->run;
    uint32_t key = torture_key_read(&run->keys, item->key, item->key_bytes);
    uint64_t now = torture_now_ns(run);
    struct torture_value value;
    char why[200];
    if (key == UINT32_MAX) {
        torture_violation(run, TORTURE_NO_KEY, now, "the scan found a key that nobody wrote: %.*s",
                          (int)(item->key_bytes < 60 ? item->key_bytes : 60),
                          (const char *)item->key);
        return true;
    }
    /* Twice is once too often, but no harm: a bucket whose cold records are being read, or that is
     * split, is begun again (gw_store_walk). */
    scan->twice += scan->seen[key];
    scan->seen[key] = 1;
    if (now >= scan->end_ns)
        return false; /* what comes behind it is left unchecked */
    const struct torture_op *last = scan->last[key];
    if (torture_family_of(&run->keys, key) == TORTURE_EXPIRING || !last || !torture_answered(last))
        return true;
    uint64_t state = (uint64_t)item->number;
    if (item->kind == GW_VALUE_BYTES) {
        if (!torture_value_read(item->value, item->value_bytes, key, &value, why, sizeof why)) {
            torture_violation(run, key, now, "the scan found a torn value of %.*s: %s",
                              (int)item->key_bytes, (const char *)item->key, why);
            return true;
        }
        state = value.state;
    }
    if (last->outcome != TORTURE_OK || last->result != state)
        torture_violation(run, key, now,
                          "the scan found %.*s as %" PRIx64 ", a get said %s %" PRIx64,
                          (int)item->key_bytes, (const char *)item->key, state,
                          last->outcome == TORTURE_OK ? "" : "that it is not there", last->result);
    return true;
}

void torture_scan_check(struct torture_client *reader)
{
    struct torture_run *run = reader->run;
    uint32_t keys = run->keys.first[TORTURE_FAMILIES];
    struct scan scan = {run, last_answers(reader), calloc(keys, 1), 0,
                        torture_now_ns(run) + SCAN_NS};
    if (scan.last && scan.seen) {
        enum gw_status st = gw_scan_all(reader->cluster, scanned, &scan);
        if (st != GW_OK && st != GW_END)
            torture_violation(run, TORTURE_NO_KEY, torture_now_ns(run), "the scan failed: %s",
                              gw_status_text(st));
        bool whole = st == GW_OK && torture_now_ns(run) < scan.end_ns;
        if (!whole)
            torture_event(run, "the scan was ended before its end");
        for (uint32_t key = 0; whole && key < keys; key++) {
            const struct torture_op *last = scan.last[key];
            char name[TORTURE_KEY_BYTES];
            if (scan.seen[key] || !last || last->outcome != TORTURE_OK ||
                torture_family_of(&run->keys, key) == TORTURE_EXPIRING)
                continue;
            torture_key_write(&run->keys, key, name);
            torture_violation(run, key, torture_now_ns(run),
                              "the scan did not find %s, which a get had found", name);
        }
    }
    torture_event(run, "the scan gave %" PRIu64 " keys twice", scan.twice);
    free(scan.last);
    free(scan.seen);
}

/* ---- histories ------------------------------------------------------------------------------ */

struct gathered {
    struct torture_op *ops;
    size_t *first; /* by key; one more at the end */
};

static bool gather(const struct torture_run *run, const struct torture_client *clients,
                   size_t count, struct gathered *out)
{
    uint32_t keys = run->keys.first[TORTURE_FAMILIES];
    size_t total = 0;
    *out = (struct gathered){.first = calloc((size_t)keys + 2, sizeof *out->first)};
    for (size_t c = 0; out->first && c < count; c++) {
        total += clients[c].log.count;
        for (size_t i = 0; i < clients[c].log.count; i++)
            out->first[torture_log_at(&clients[c].log, i)->key + 2]++;
    }
    out->ops = calloc(total + 1, sizeof *out->ops);
    if (!out->first || !out->ops) {
        free(out->first);
        free(out->ops);
        return false;
    }
    for (uint32_t key = 0; key < keys; key++)
        out->first[key + 2] += out->first[key + 1];
    for (size_t c = 0; c < count; c++)
        for (size_t i = 0; i < clients[c].log.count; i++) {
            const struct torture_op *op = torture_log_at(&clients[c].log, i);
            out->ops[out->first[op->key + 1]++] = *op;
        }
    return true;
}

static void check_counter(struct torture_run *run, uint32_t key, const struct torture_op *ops,
                          size_t count, const struct torture_op *end)
{
    struct torture_count found;
    char name[TORTURE_KEY_BYTES], words[300];
    bool answers = torture_family_of(&run->keys, key) == TORTURE_COUNTERS;
    torture_key_write(&run->keys, key, name);
    if (!end || !torture_answered(end))
        return; /* said already: it could not be read */
    uint64_t number = end->outcome == TORTURE_OK ? end->result : 0;
    enum torture_miscount wrong = torture_count_check(ops, count, answers, number, &found);
    if (wrong == TORTURE_COUNT_RIGHT)
        return;
    uint64_t at = end->response_ns;
    words[0] = '\0';
    for (int i = 0; i < 2; i++)
        if (found.ops[i] != SIZE_MAX) {
            size_t used = strlen(words);
            at = ops[found.ops[i]].response_ns;
            snprintf(words + used, sizeof words - used, "; ");
            used += 2;
            torture_op_describe(&ops[found.ops[i]], name, true, words + used, sizeof words - used);
        }
    torture_violation(run, key, at,
                      "counter %s: %s: %" PRIu64 " in the end, %" PRIu64 " acknowledged, %" PRIu64
                      " in doubt, at number %" PRIu64 "%s",
                      name, torture_miscount_words(wrong), number, found.acknowledged,
                      found.in_doubt, found.number, words);
}

static bool check_register(struct torture_run *run, uint32_t key, const struct torture_op *ops,
                           size_t count)
{
    struct torture_finding found;
    char name[TORTURE_KEY_BYTES], words[300], states[200] = "";
    enum torture_verdict verdict = torture_linear_check(ops, count, STEPS_MAX, &found);
    if (verdict != TORTURE_IMPOSSIBLE)
        return verdict == TORTURE_EXPLAINED;
    torture_key_write(&run->keys, key, name);
    torture_op_describe(&ops[found.op], name, false, words, sizeof words);
    for (size_t i = 0; i < found.states_count; i++)
        snprintf(states + strlen(states), sizeof states - strlen(states), " [%08" PRIx64 "]",
                 found.states[i] >> 32);
    torture_violation(run, key, ops[found.op].response_ns,
                      "%s: no order explains %s; before it the key can only have been one of%s "
                      "(00000000: absent, ffffffff: something that nobody saw)",
                      name, words, states);
    return true;
}

struct torture_checked torture_histories_check(struct torture_run *run,
                                               struct torture_client *clients, size_t count)
{
    struct torture_checked checked = {0};
    struct gathered all;
    const struct torture_op **last = last_answers(&clients[count - 1]);
    if (!last || !gather(run, clients, count, &all)) {
        torture_violation(run, TORTURE_NO_KEY, torture_now_ns(run),
                          "there is no memory to check the histories");
        free(last);
        return checked;
    }
    for (uint32_t key = 0; key < run->keys.first[TORTURE_FAMILIES]; key++) {
        const struct torture_op *ops = all.ops + all.first[key];
        size_t n = all.first[key + 1] - all.first[key];
        checked.keys++;
        checked.operations += n;
        switch (torture_family_of(&run->keys, key)) {
        case TORTURE_COUNTERS:
        case TORTURE_PROMISES:
            check_counter(run, key, ops, n, last[key]);
            break;
        case TORTURE_REGISTERS:
        case TORTURE_VALUES:
            checked.undecided += !check_register(run, key, ops, n);
            break;
        default:
            break; /* expiring keys were checked when they were answered */
        }
    }
    free(all.ops);
    free(all.first);
    free(last);
    return checked;
}

/* ---- printing ------------------------------------------------------------------------------- */

static int by_invocation(const void *a, const void *b)
{
    const struct torture_op *x = a, *y = b;
    return x->invoke_ns < y->invoke_ns ? -1 : x->invoke_ns > y->invoke_ns;
}

static void print_around(const struct torture_run *run, const struct gathered *all,
                         const struct torture_violation *v)
{
    struct torture_op *ops = all->ops + all->first[v->key];
    size_t n = all->first[v->key + 1] - all->first[v->key], at = 0, shown = 0;
    char name[TORTURE_KEY_BYTES], words[400];
    enum torture_family f = torture_family_of(&run->keys, v->key);
    size_t len = torture_key_write(&run->keys, v->key, name);
    uint16_t slot = gw_slot_of(name, len);
    name[40] = '\0';
    qsort(ops, n, sizeof *ops, by_invocation);
    while (at < n && ops[at].invoke_ns <= v->at_ns)
        at++;
    printf("    %s, slot %u: its operations until then\n", name, slot);
    size_t from = at;
    while (from > 0 && shown < SHOWN_OPS) {
        from--;
        shown += ops[from].verb != TORTURE_SEEN && ops[from].outcome != TORTURE_NOT_DONE;
    }
    for (size_t i = from; i < n && i < at + 5; i++) {
        if (ops[i].verb == TORTURE_SEEN || ops[i].outcome == TORTURE_NOT_DONE)
            continue;
        torture_op_describe(&ops[i], "", f == TORTURE_COUNTERS || f == TORTURE_PROMISES, words,
                            sizeof words);
        printf("      %s\n", words);
    }
}

void torture_violations_print(struct torture_run *run, struct torture_client *clients, size_t count)
{
    struct gathered all;
    if (run->violations_count == 0 || !gather(run, clients, count, &all))
        return;
    for (size_t i = 0; i < run->violations_count && i < SHOWN_MAX; i++) {
        const struct torture_violation *v = &run->violations[i];
        printf("\nviolation %zu of %zu, at %.6f s: %s\n", i + 1, run->violations_count,
               (double)v->at_ns / 1e9, v->text);
        if (v->key != TORTURE_NO_KEY)
            print_around(run, &all, v);
        printf("    what happened around it\n");
        torture_events_print(run, v->at_ns > AROUND_NS ? v->at_ns - AROUND_NS : 0,
                             v->at_ns + AROUND_NS / 3, stdout);
    }
    free(all.ops);
    free(all.first);
}

bool torture_history_write(const struct torture_run *run, const struct torture_client *clients,
                           size_t count, const char *path)
{
    FILE *out = fopen(path, "we");
    char name[TORTURE_KEY_BYTES], words[600];
    if (!out)
        return false;
    for (size_t c = 0; c < count; c++)
        for (size_t i = 0; i < clients[c].log.count; i++) {
            const struct torture_op *op = torture_log_at(&clients[c].log, i);
            enum torture_family f = torture_family_of(&run->keys, op->key);
            torture_key_write(&run->keys, op->key, name);
            torture_op_describe(op, name, f == TORTURE_COUNTERS || f == TORTURE_PROMISES, words,
                                sizeof words);
            fprintf(out, "%s\n", words);
        }
    for (size_t i = 0; i < run->events_count; i++)
        fprintf(out, "%.6f event: %s\n", (double)run->events[i].at_ns / 1e9, run->events[i].text);
    return fclose(out) == 0;
}
