/* Goal: `godwit-bench migrate` records a real move: its document has the promised shape, what it
 * says adds up, and its pictures are pictures. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/process.h"
#include "tests/cluster/harness.h"

TestSuite(bench_migrate, .timeout = 120);

static double number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    cr_assert(json_is_number(value), "%s is no number", name);
    return json_number_value(value);
}

/* Sum of a column's rows that lie whole before or behind a moment; every row is a number. */
static double sum(const json_t *rows, const char *column, double from_ms, double to_ms)
{
    const json_t *t = json_object_get(rows, "t_ms"), *values = json_object_get(rows, column);
    cr_assert(json_is_array(values), "no column %s", column);
    cr_assert_eq(json_array_size(values), json_array_size(t), "%s", column);
    double all = 0;
    for (size_t i = 0; i < json_array_size(t); i++) {
        double at = json_number_value(json_array_get(t, i));
        cr_assert(json_is_number(json_array_get(values, i)), "%s", column);
        if (at >= from_ms && at + 100 <= to_ms)
            all += json_number_value(json_array_get(values, i));
    }
    return all;
}

static void expect_picture(const char *directory, const char *name)
{
    static const unsigned char magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    unsigned char head[8] = {0};
    char path[300];
    struct stat st = {0};
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "r");
    cr_assert(file, "%s is not there", path);
    cr_expect_eq(fread(head, 1, sizeof head, file), sizeof head);
    fclose(file);
    cr_expect_arr_eq(head, magic, sizeof magic, "%s is no PNG", path);
    cr_expect_eq(stat(path, &st), 0);
    cr_expect_gt(st.st_size, 5000, "%s: nothing is drawn", path);
}

static void expect_in_order(const json_t *marks)
{
    static const char *const names[] = {"asked", "committed", "first_served", "done", "ended"};
    double before = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        double at = number(marks, names[i]);
        cr_expect_geq(at + 1, before, "%s at %.3f ms, before it %.3f", names[i], at, before);
        before = at; /* the coordinator writes down whole ms */
    }
    cr_expect_geq(number(marks, "last_chunk"), number(marks, "committed"));
    cr_expect_leq(number(marks, "last_chunk"), number(marks, "done"));
}

static void expect_what_it_says_adds_up(const json_t *run)
{
    const json_t *rows = json_object_get(run, "rows"), *marks = json_object_get(run, "marks_ms");
    const json_t *client = json_object_get(run, "client"), *job = json_object_get(run, "job");
    const json_t *wires = json_object_get(run, "wire_samples");
    double committed = number(marks, "committed"), done = number(marks, "done");
    cr_expect_eq(sum(rows, "target", 0, committed), 0, "served by the target before it owned");
    cr_expect_gt(sum(rows, "source", 0, committed), 0);
    cr_expect_gt(sum(rows, "target", done, INFINITY), 0);
    cr_expect_eq(sum(rows, "other", 0, INFINITY), 0, "there is no third server");
    double all = sum(rows, "source", 0, INFINITY) + sum(rows, "target", 0, INFINITY);
    double operations = number(client, "operations");
    /* The last row is not a whole one and is left out. */
    cr_expect(all <= operations && all > operations * 0.8, "%.0f of %.0f operations are in rows",
              all, operations);
    cr_expect_eq(number(client, "errors"), 0);
    cr_expect_eq(number(client, "wrong"), 0);
    /* The kernel and the job count the same bytes, each in its own way. */
    size_t looks = json_array_size(wires);
    if (looks) { /* not every kernel tells */
        const json_t *last = json_array_get(wires, looks - 1);
        double wire = number(last, "bulk") + number(last, "pulled");
        double moved = number(job, "bytes_moved");
        cr_expect(wire > moved * 0.5 && wire < moved * 1.5 + 100000, "wire %.0f, job %.0f", wire,
                  moved);
    }
}

Test(bench_migrate, a_move_under_load_becomes_a_document_and_pictures)
{
    char directory[] = "/tmp/godwit-bench-XXXXXX";
    cr_assert(mkdtemp(directory));
    const char *words[] = {"migrate", "--keys",   "20000", "--part",  "50%",    "--warm-up",
                           "0",       "--before", "1",     "--after", "1",      "--threads",
                           "2",       "--batch",  "32",    "--depth", "4",      "--timeout",
                           "40",      "--verify", "--out", directory, "--json", NULL};
    struct harness_run run = harness_run_program("godwit-bench", words, NULL, 0);
    cr_assert_eq(run.code, 0, "exit code %d: %s", run.code, run.err);
    json_t *document = json_loads(run.out, 0, NULL);
    cr_assert(json_is_object(document), "no JSON: %s", run.out);
    cr_expect_eq(number(json_object_get(document, "settings"), "keys"), 20000);
    cr_expect_float_eq(number(json_object_get(document, "settings"), "part"), 0.5, 1e-9);

    const json_t *one = json_array_get(json_object_get(document, "runs"), 0);
    cr_assert(json_is_object(one));
    cr_expect_str_eq(json_string_value(json_object_get(one, "variant")), "all on");
    cr_expect_str_eq(json_string_value(json_object_get(json_object_get(one, "job"), "state")),
                     "done");
    expect_in_order(json_object_get(one, "marks_ms"));
    expect_what_it_says_adds_up(one);
    const json_t *verified = json_object_get(one, "verified");
    cr_expect_float_eq(number(verified, "keys"), 10000, 500, "half of the slots: half of the keys");
    cr_expect_eq(number(verified, "missing") + number(verified, "wrong"), 0);
    cr_expect_geq(json_array_size(json_object_get(one, "checks")), 6);
    const json_t *summary =
        json_object_get(json_object_get(json_object_get(document, "summary"), "variants"),
                        "all on");
    cr_expect_gt(number(json_object_get(summary, "complete_ms"), "median"), 0);

    const json_t *pictures = json_object_get(document, "pictures");
    cr_expect_eq(json_array_size(pictures), 3, "is gnuplot there? %s", run.err);
    for (size_t i = 0; i < json_array_size(pictures); i++)
        expect_picture(directory, json_string_value(json_array_get(pictures, i)));
    json_decref(document);
    harness_run_free(&run);
    gw_process_remove_tree(directory);
}

Test(bench_migrate, flags_that_make_no_sense_are_refused)
{
    static const char *const cases[][3] = {{"--part", "0", "--part"},
                                           {"--part", "101%", "--part"},
                                           {"--value-size", "11", "--value-size"},
                                           {"--workload", "d", "--workload"},
                                           {"--ablate", "luck", "--ablate"},
                                           {"--blob", "dir", "--disk"},
                                           {"--servers", "4", "2 to 3"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *words[] = {"migrate", cases[i][0], cases[i][1], NULL};
        struct harness_run run = harness_run_program("godwit-bench", words, NULL, 0);
        cr_expect_eq(run.code, 2, "%s %s: exit code %d", cases[i][0], cases[i][1], run.code);
        cr_expect(strstr(run.err, cases[i][2]), "'%s' is not in: %s", cases[i][2], run.err);
        harness_run_free(&run);
    }
}

Test(bench_migrate, loopback_measures_this_machine)
{
    const char *words[] = {"loopback", "--seconds", "1", "--frame", "32KiB", "--json", NULL};
    struct harness_run run = harness_run_program("godwit-bench", words, NULL, 0);
    cr_assert_eq(run.code, 0, "%s", run.err);
    json_t *document = json_loads(run.out, 0, NULL);
    cr_expect_gt(number(document, "mb_per_second"), 10);
    cr_expect_eq(number(document, "frame_bytes"), 32768);
    json_decref(document);
    harness_run_free(&run);
}
