/* Goal: what scripts rely on: the verbs of `godwit`, their output, exit codes and JSON.
 * How: the real programs on loopback; nothing of the code under test is called. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/harness.h"

TestSuite(cli, .timeout = 120);

static void expect_out(struct gw_spawn *spawn, const char *out, const char *const *words)
{
    struct harness_run run = harness_expect(spawn, 0, NULL, words);
    cr_assert_str_eq(run.out, out, "godwit %s: stdout is '%s'", words[0], run.out);
    harness_run_free(&run);
}
#define EXPECT_OUT(spawn, out, ...) expect_out(spawn, out, (const char *[]){__VA_ARGS__, NULL})

/* Exactly one JSON document on stdout; the caller owns it. */
static json_t *parse(const struct harness_run *run)
{
    json_error_t error;
    json_t *document = json_loads(run->out, 0, &error); /* 0: nothing may follow it */
    cr_assert(document, "no JSON document: %s in '%s'", error.text, run->out);
    return document;
}

static const char *error_status(const json_t *document)
{
    const json_t *error = json_object_get(document, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    cr_assert(message && message[0], "an error without a message");
    const char *status = json_string_value(json_object_get(error, "status"));
    return status ? status : "";
}

static void expect_json_error(struct gw_spawn *spawn, int code, const char *status,
                              const char *const *words)
{
    struct harness_run run = harness_expect(spawn, code, NULL, words);
    json_t *document = parse(&run);
    cr_assert_str_eq(error_status(document), status, "godwit %s %s: %s", words[1],
                     words[2] ? words[2] : "", run.out);
    json_decref(document);
    harness_run_free(&run);
}
#define EXPECT_JSON_ERROR(spawn, code, status, ...)                                                \
    expect_json_error(spawn, code, status, (const char *[]){"--json", __VA_ARGS__, NULL})

Test(cli, values_are_set_read_counted_and_deleted)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    HARNESS_CHECK(&spawn, 0, "set", "greeting", "hello world");
    EXPECT_OUT(&spawn, "hello world\n", "get", "greeting");
    EXPECT_OUT(&spawn, "1\n", "incr", "visits");
    EXPECT_OUT(&spawn, "-4\n", "incr", "visits", "-5");
    HARNESS_CHECK(&spawn, 0, "set", "visits", "9223372036854775806");
    EXPECT_OUT(&spawn, "9223372036854775807\n", "incr", "visits");
    HARNESS_CHECK(&spawn, 5, "incr", "visits");   /* would overflow */
    HARNESS_CHECK(&spawn, 5, "incr", "greeting"); /* no counter */
    HARNESS_CHECK(&spawn, 0, "set", "--bytes", "number", "42");
    EXPECT_OUT(&spawn, "42\n", "get", "number");
    HARNESS_CHECK(&spawn, 5, "incr", "number"); /* bytes, although they look like a counter */
    HARNESS_CHECK(&spawn, 0, "set", "--", "--dashes", "--bytes");
    EXPECT_OUT(&spawn, "--bytes\n", "get", "--", "--dashes");
    HARNESS_CHECK(&spawn, 0, "del", "greeting");
    HARNESS_CHECK(&spawn, 1, "get", "greeting");
    HARNESS_CHECK(&spawn, 1, "del", "greeting");
    harness_stop(&spawn);
}

Test(cli, json_is_one_document_for_results_and_errors)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "--json", "incr", "n", "7");
    json_t *document = parse(&run);
    cr_expect_eq(json_integer_value(json_object_get(document, "value")), 7);
    json_decref(document);
    harness_run_free(&run);

    run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "n", "--json");
    document = parse(&run);
    cr_expect_str_eq(json_string_value(json_object_get(document, "kind")), "counter");
    json_decref(document);
    harness_run_free(&run);

    run = HARNESS_EXPECT(&spawn, 0, "a\nb\n\na", "--json", "count");
    document = parse(&run);
    cr_expect_eq(json_integer_value(json_object_get(document, "events")), 3);
    cr_expect_eq(json_integer_value(json_object_get(document, "in_doubt")), 0);
    json_decref(document);
    harness_run_free(&run);

    run = HARNESS_EXPECT(&spawn, 0, NULL, "--json", "export");
    document = parse(&run);
    cr_expect_eq(json_array_size(json_object_get(document, "entries")), 3);
    cr_expect_eq(json_integer_value(json_object_get(document, "count")), 3);
    json_decref(document);
    harness_run_free(&run);

    EXPECT_JSON_ERROR(&spawn, 1, "not_found", "get", "nothing");
    EXPECT_JSON_ERROR(&spawn, 1, "not_found", "del", "nothing");
    EXPECT_JSON_ERROR(&spawn, 2, "usage", "get");
    EXPECT_JSON_ERROR(&spawn, 2, "usage", "no-such-verb");
    EXPECT_JSON_ERROR(&spawn, 2, "usage", "incr", "n", "much");
    EXPECT_JSON_ERROR(&spawn, 2, "usage", "count", "--threads", "0");
    EXPECT_JSON_ERROR(&spawn, 2, "usage", "migrate", "--slots", "5-16384", "--from", "A", "--to",
                      "B");
    EXPECT_JSON_ERROR(&spawn, 2, "usage", "migrate", "--slots", "5", "--from", "A");
    HARNESS_CHECK(&spawn, 0, "set", "text", "abc");
    EXPECT_JSON_ERROR(&spawn, 5, "wrong_type", "incr", "text");
    EXPECT_JSON_ERROR(&spawn, 5, "not_found", "migrate", "--slots", "5", "--from", "A", "--to",
                      "Z");
    EXPECT_JSON_ERROR(&spawn, 5, "not_found", "scale-out", "--to", "Z");
    EXPECT_JSON_ERROR(&spawn, 5, "not_found", "job", "show", "77");
    EXPECT_JSON_ERROR(&spawn, 5, "not_found", "job", "cancel", "77");
    EXPECT_JSON_ERROR(&spawn, 5, "not_found", "job", "watch", "77");
    harness_stop(&spawn);
}

Test(cli, usage_errors_name_the_flag_and_its_limit)
{
    static const struct {
        const char *words[8];
        const char *named[2];
    } cases[] = {
        {{"count", "--threads", "65"}, {"--threads", "64"}},
        {{"count", "--repeat", "x"}, {"--repeat", "1"}},
        {{"count", "--no-such"}, {"--no-such", ""}},
        {{"migrate", "--slots", "0-16384", "--from", "A", "--to", "B"}, {"--slots", "16383"}},
        {{"migrate", "--slots", "9-3", "--from", "A", "--to", "B"}, {"--slots", "9-3"}},
        {{"migrate", "--from", "A", "--to", "B"}, {"--slots", "missing"}},
        {{"scale-out"}, {"--to", "missing"}},
        {{"scale-out", "--to", "B", "--timeout", "5"}, {"--timeout", "--wait"}},
        {{"job", "watch", "0"}, {"ID", "1 or more"}},
        {{"job", "watch", "1", "--timeout", "0"}, {"--timeout", "1"}},
        {{"job"}, {"list", "cancel"}},
        {{"get", ""}, {"K", "65535"}},
        {{"-c", "nowhere", "status"}, {"-c", "HOST:PORT"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct harness_run run = harness_run_program("godwit", cases[i].words, NULL, 0);
        cr_expect_eq(run.code, 2, "%s: exit code %d", cases[i].words[0], run.code);
        cr_expect_str_eq(run.out, "");
        for (int j = 0; j < 2; j++)
            cr_expect(strstr(run.err, cases[i].named[j]), "%s: '%s' is not in: %s",
                      cases[i].words[0], cases[i].named[j], run.err);
        harness_run_free(&run);
    }
}

Test(cli, every_verb_has_help)
{
    static const char *const verbs[][2] = {
        {"status"},       {"migrate"},       {"scale-out"}, {"job", "list"}, {"job", "show"},
        {"job", "watch"}, {"job", "cancel"}, {"get"},       {"set"},         {"del"},
        {"incr"},         {"expire"},        {"persist"},   {"ttl"},         {"append"},
        {"prepend"},      {"getset"},        {"getdel"},    {"count"},       {"export"},
        {"load"},         {"demo"},          {"drain"},     {"rebalance"},   {"split"},
        {"remove"},
    };
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        const char *words[] = {verbs[i][0], verbs[i][1] ? verbs[i][1] : "--help", "--help", NULL};
        struct harness_run run = harness_run_program("godwit", words, NULL, 0);
        cr_expect_eq(run.code, 0);
        cr_expect(strncmp(run.out, "usage: godwit", 13) == 0, "%s: %s", verbs[i][0], run.out);
        harness_run_free(&run);
    }
}

Test(cli, what_cannot_be_reached_is_exit_code_3)
{
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", harness_free_port());
    const char *verbs[][6] = {{"-c", address, "status"},
                              {"-c", address, "get", "k"},
                              {"-c", address, "count"},
                              {"-c", address, "export"},
                              {"-c", address, "--json", "job", "list"}};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        struct harness_run run = harness_run_program("godwit", verbs[i], "x\n", 2);
        cr_expect_eq(run.code, 3, "%s: exit code %d: %s", verbs[i][2], run.code, run.err);
        if (i == 4) {
            json_t *document = parse(&run);
            cr_expect_str_eq(error_status(document), "e_unreachable");
            json_decref(document);
        }
        harness_run_free(&run);
    }
}

Test(cli, status_tells_a_server_that_is_down)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 2);
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "--json", "status");
    json_t *document = parse(&run);
    cr_expect_eq(json_array_size(json_object_get(document, "servers")), 2);
    json_decref(document);
    harness_run_free(&run);
    cr_assert_eq(gw_process_stop(&spawn.servers[0].process, SIGKILL, 5000), 128 + SIGKILL);
    /* The coordinator notices by the connection's end; it may take it a moment. */
    for (int i = 0; i < 100; i++) {
        run = HARNESS_CLI(&spawn, NULL, "status");
        if (run.code == 4)
            break;
        harness_run_free(&run);
        harness_sleep_ms(100);
    }
    cr_expect_eq(run.code, 4);
    cr_expect(strstr(run.out, "down"));
    harness_run_free(&run);
    harness_stop(&spawn);
}

Test(cli, a_job_that_waits_times_out_and_can_be_cancelled)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 2);
    HARNESS_CHECK(&spawn, 5, "migrate", "--slots", "0-99", "--from", "B", "--to",
                  "A"); /* not B's */
    HARNESS_CHECK(&spawn, 5, "migrate", "--slots", "0-99", "--from", "A", "--to", "A");
    kill(spawn.servers[1].process.pid, SIGSTOP); /* B cannot make ready: the job stays created */
    struct harness_run run = HARNESS_EXPECT(&spawn, 7, NULL, "migrate", "--slots", "0-99", "--from",
                                            "A", "--to", "B", "--wait", "--timeout", "1");
    char id[32];
    snprintf(id, sizeof id, "%.*s", (int)strcspn(run.out, "\n"), run.out);
    cr_assert(atoi(id) >= 1, "no job id on stdout: '%s'", run.out);
    harness_run_free(&run);
    HARNESS_CHECK(&spawn, 5, "migrate", "--slots", "50-60", "--from", "A", "--to",
                  "B"); /* in a job */
    EXPECT_JSON_ERROR(&spawn, 7, "e_timeout", "job", "watch", id, "--timeout", "1");
    HARNESS_CHECK(&spawn, 0, "job", "cancel", id);
    kill(spawn.servers[1].process.pid, SIGCONT);
    HARNESS_CHECK(&spawn, 6, "job", "watch", id);
    EXPECT_JSON_ERROR(&spawn, 6, "job_failed", "job", "watch", id);
    run = HARNESS_EXPECT(&spawn, 0, NULL, "job", "show", id);
    cr_expect(strstr(run.out, "cancelled"), "%s", run.out);
    harness_run_free(&run);
    HARNESS_CHECK(&spawn, 0, "migrate", "--slots", "0-99", "--from", "A", "--to", "B", "--wait",
                  "--timeout", "30");
    run = HARNESS_EXPECT(&spawn, 0, NULL, "job", "list");
    cr_expect(strstr(run.out, "cancelled") && strstr(run.out, "done"), "%s", run.out);
    harness_run_free(&run);
    HARNESS_CHECK(&spawn, 5, "job", "cancel", "2"); /* done */
    harness_stop(&spawn);
}

Test(cli, scale_out_gives_an_even_share)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    for (int i = 1; i < 4; i++) {
        char id[2] = {(char)('A' + i), '\0'};
        cr_assert(gw_spawn_server(&spawn, id), "%s", spawn.error);
        HARNESS_CHECK(&spawn, 0, "scale-out", "--to", id, "--wait", "--timeout", "30");
    }
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "--json", "status");
    json_t *document = parse(&run), *server;
    size_t i;
    json_int_t total = 0;
    json_array_foreach(json_object_get(document, "servers"), i, server)
    {
        json_int_t slots = json_integer_value(json_object_get(server, "slots"));
        cr_expect(slots >= 4094 && slots <= 4098, "server %zu has %lld slots", i, (long long)slots);
        total += slots;
    }
    cr_expect_eq(total, 16384);
    json_decref(document);
    harness_run_free(&run);
    harness_stop(&spawn);
}

/* Sorted lines, so that two exports can be compared. */
static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void expect_lines(const char *out, const char *const *expected, size_t count)
{
    char *copy = strdup(out), *lines[64], *rest = copy;
    size_t n = 0;
    for (char *line; (line = strsep(&rest, "\n")) && rest;) {
        cr_assert(n < 64);
        lines[n++] = line;
    }
    qsort(lines, n, sizeof lines[0], by_text);
    cr_assert_eq(n, count, "%zu lines, expected %zu:\n%s", n, count, out);
    for (size_t i = 0; i < n; i++)
        cr_expect_str_eq(lines[i], expected[i]);
    free(copy);
}

Test(cli, load_gives_back_what_export_wrote)
{
    static const char input[] = "plain\tvalue\n"
                                "count\\ter\t-17\n"
                                "looks\t\\x34\\x32\n"
                                "empty\t\n"
                                "zeros\t007\n"
                                "bin\\x00key\\\\\ta\\x00\\xffb\\tc\\nd\n"
                                "\xc3\xbc\t\xe2\x82\xac\n";
    static const char *const expected[] = {
        "bin\\x00key\\\\\ta\\x00\\xffb\\tc\\nd",
        "count\\ter\t-17",
        "empty\t",
        "looks\t\\x342", /* bytes, kept apart from the counter 42 */
        "plain\tvalue",
        "zeros\t007",
        "\xc3\xbc\t\xe2\x82\xac",
    };
    struct gw_spawn spawn;
    harness_start(&spawn, 2);
    HARNESS_CHECK(&spawn, 0, "scale-out", "--to", "B", "--wait", "--timeout", "30");
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, input, "load");
    harness_run_free(&run);
    run = HARNESS_EXPECT(&spawn, 0, NULL, "export");
    expect_lines(run.out, expected, 7);
    char *exported = run.out;
    run.out = NULL;
    harness_run_free(&run);
    HARNESS_CHECK(&spawn, 5, "incr", "looks");
    EXPECT_OUT(&spawn, "-16\n", "incr", "count\ter");

    /* Into another, empty cluster. */
    struct gw_spawn other;
    harness_start(&other, 1);
    run = HARNESS_EXPECT(&other, 0, exported, "load");
    harness_run_free(&run);
    run = HARNESS_EXPECT(&other, 0, NULL, "export");
    expect_lines(run.out, expected, 7);
    harness_run_free(&run);
    run = HARNESS_EXPECT(&other, 0, "count\t5\n", "load", "--bytes");
    harness_run_free(&run);
    HARNESS_CHECK(&other, 5, "incr", "count");
    free(exported);
    harness_stop(&other);
    harness_stop(&spawn);
}

Test(cli, load_names_the_line_that_is_wrong)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    static const char *const inputs[] = {"a\t1\nno tab\n", "a\t1\nb\t\\q\n", "a\t1\n\tvalue\n"};
    for (size_t i = 0; i < 3; i++) {
        struct harness_run run = HARNESS_EXPECT(&spawn, 1, inputs[i], "load");
        cr_expect(strstr(run.err, "line 2"), "%s", run.err);
        harness_run_free(&run);
    }
    harness_stop(&spawn);
}

Test(cli, count_counts_every_line_once)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    enum { LINES = 200000, KEYS = 997 };
    char *input = malloc(LINES * 8), *at = input;
    for (uint32_t i = 0; i < LINES; i++)
        at += sprintf(at, "k%u\n%s", i * 7919u % KEYS, i % 1000 ? "" : "\n");
    struct harness_run run =
        HARNESS_EXPECT(&spawn, 0, input, "count", "--threads", "3", "--repeat", "5");
    cr_expect(strstr(run.out, "events=1000000 "), "%s", run.out);
    cr_expect(strstr(run.out, "in_doubt=0"), "%s", run.out);
    harness_run_free(&run);
    run = HARNESS_EXPECT(&spawn, 0, NULL, "export");
    uint64_t total = 0;
    uint32_t keys = 0;
    for (char *line = run.out; *line; line = strchr(line, '\n') + 1, keys++) {
        uint64_t count = strtoull(strchr(line, '\t') + 1, NULL, 10);
        uint64_t once = LINES / KEYS * 5;
        cr_expect(count == once || count == once + 5, "%.20s", line);
        total += count;
    }
    cr_expect_eq(keys, KEYS);
    cr_expect_eq(total, LINES * 5);
    harness_run_free(&run);
    free(input);
    harness_stop(&spawn);
}

Test(cli, count_names_a_line_that_is_too_long)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    enum { LONG = 65536 };
    static char input[LONG + 100];
    memcpy(input, "a\nb\n", 4);
    memset(input + 4, 'x', LONG);
    memcpy(input + 4 + LONG, "\nc\n", 4);
    struct harness_run run = HARNESS_EXPECT(&spawn, 1, input, "count");
    cr_expect(strstr(run.err, "line 3") && strstr(run.err, "65535"), "%s", run.err);
    harness_run_free(&run);
    /* One byte less is a key like any other. */
    memmove(input + 4, input + 5, LONG + 5);
    run = HARNESS_EXPECT(&spawn, 0, input, "count");
    cr_expect(strstr(run.out, "events=4 "), "%s", run.out);
    harness_run_free(&run);
    harness_stop(&spawn);
}

Test(cli, count_writes_a_timeline)
{
    struct gw_spawn spawn;
    char path[200], line[200];
    harness_start(&spawn, 1);
    snprintf(path, sizeof path, "%s/timeline", spawn.directory);
    struct harness_run run =
        HARNESS_EXPECT(&spawn, 0, "a\nb\n", "count", "--repeat", "400000", "--timeline", path);
    harness_run_free(&run);
    FILE *file = fopen(path, "r");
    cr_assert(file);
    uint64_t events = 0, last_ms = 0;
    uint32_t rows = 0;
    while (fgets(line, sizeof line, file)) {
        unsigned long long ms, n;
        double p50, p99, max;
        if (line[0] == '#')
            continue;
        cr_assert_eq(sscanf(line, "%llu %llu %lf %lf %lf", &ms, &n, &p50, &p99, &max), 5);
        cr_expect(rows == 0 || ms == last_ms + 100);
        cr_expect(p50 <= p99 && p99 <= max * 1.02, "%s", line);
        last_ms = ms;
        events += n;
        rows++;
    }
    fclose(file);
    cr_expect_eq(events, 800000);
    cr_expect_geq(rows, 1);
    harness_stop(&spawn);
}

Test(cli, the_demo_verb_counts_exactly)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    HARNESS_CHECK(&spawn, 5, "demo", "--seconds", "1"); /* one server */
    cr_assert(gw_spawn_server(&spawn, "B"), "%s", spawn.error);
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "demo", "--seconds", "2");
    cr_expect(strstr(run.out, "wrong_counts=0"), "%s", run.out);
    harness_run_free(&run);
    EXPECT_OUT(&spawn, "", "export");
    harness_stop(&spawn);
}
