/* Goal: every line reaches exactly one taker per repetition, whole, whatever the block borders.
 * How: a pipe is fed pieces that do not end where lines end; takers add up what they get. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/lines.h"

TestSuite(lines, .timeout = 60);

struct taker {
    struct gw_lines *lines;
    pthread_t thread;
    uint64_t lines_seen, sum, torn, line_numbers;
};

/* Lines are "<number>:<number>": a torn one has two different numbers, or none. */
static void *take_all(void *ctx)
{
    struct taker *taker = ctx;
    const struct gw_block *block;
    while (gw_lines_take(taker->lines, true, &block) == GW_OK) {
        const char *at = block->bytes, *end = at + block->len;
        for (uint64_t line = block->first_line; at < end; line++) {
            const char *newline = memchr(at, '\n', (size_t)(end - at));
            size_t len = (size_t)((newline ? newline : end) - at);
            char text[64];
            unsigned long long a, b;
            snprintf(text, sizeof text, "%.*s", (int)len, at);
            if (sscanf(text, "%llu:%llu", &a, &b) != 2 || a != b)
                taker->torn++;
            else
                taker->sum += a;
            taker->lines_seen++;
            taker->line_numbers += line;
            at += len + 1;
        }
        gw_lines_give_back(taker->lines, block);
    }
    return NULL;
}

struct feeder {
    int fd;
    uint64_t lines;
    bool end_in_newline;
};

static void *feed(void *ctx)
{
    struct feeder *feeder = ctx;
    char *text = malloc(feeder->lines * 24), *at = text;
    for (uint64_t i = 1; i <= feeder->lines; i++)
        at += sprintf(at, "%llu:%llu\n", (unsigned long long)i, (unsigned long long)i);
    if (!feeder->end_in_newline)
        at--;
    for (const char *from = text; from < at;) {
        size_t piece = 77777;
        if (piece > (size_t)(at - from))
            piece = (size_t)(at - from);
        ssize_t n = write(feeder->fd, from, piece);
        if (n <= 0)
            break;
        from += n;
    }
    close(feeder->fd);
    free(text);
    return NULL;
}

static void check(uint64_t lines, uint64_t repeat, bool end_in_newline)
{
    enum { TAKERS = 3 };
    int ends[2];
    struct taker takers[TAKERS] = {0};
    pthread_t thread;
    cr_assert_eq(pipe(ends), 0);
    struct feeder feeder = {ends[1], lines, end_in_newline};
    struct gw_lines *input;
    cr_assert_eq(gw_lines_create(ends[0], repeat, 4, &input), GW_OK);
    pthread_create(&thread, NULL, feed, &feeder);
    for (int i = 0; i < TAKERS; i++) {
        takers[i].lines = input;
        pthread_create(&takers[i].thread, NULL, take_all, &takers[i]);
    }
    cr_expect_eq(gw_lines_read(input), GW_OK);
    struct taker all = {0};
    for (int i = 0; i < TAKERS; i++) {
        pthread_join(takers[i].thread, NULL);
        all.lines_seen += takers[i].lines_seen;
        all.sum += takers[i].sum;
        all.torn += takers[i].torn;
        all.line_numbers += takers[i].line_numbers;
    }
    pthread_join(thread, NULL);
    cr_expect_eq(all.torn, 0);
    cr_expect_eq(all.lines_seen, lines * repeat);
    cr_expect_eq(all.sum, lines * (lines + 1) / 2 * repeat);
    if (end_in_newline || repeat == 1)
        cr_expect_eq(all.line_numbers, lines * repeat * (lines * repeat + 1) / 2);
    close(ends[0]);
    gw_lines_destroy(input);
}

Test(lines, every_line_is_taken_once)
{
    check(300000, 1, true);
    check(300000, 1, false);
    check(1, 1, false);
    check(0, 1, true);
}

Test(lines, a_repetition_gives_every_line_again)
{
    check(100000, 5, true);
    check(100000, 3, false);
    check(0, 3, true);
}

Test(lines, a_line_longer_than_a_block_is_told_with_its_number)
{
    struct gw_lines *input;
    FILE *file = tmpfile();
    cr_assert(file);
    fputs("a\nb\n", file);
    for (uint32_t i = 0; i < 2 * GW_BLOCK_BYTES; i++)
        fputc('x', file);
    fflush(file);
    lseek(fileno(file), 0, SEEK_SET);
    cr_assert_eq(gw_lines_create(fileno(file), 1, 4, &input), GW_OK);
    cr_expect_eq(gw_lines_read(input), GW_E_TOO_LARGE);
    cr_expect_eq(gw_lines_bad_line(input), 3);
    gw_lines_destroy(input);
    fclose(file);
}

static void *stop_soon(void *ctx)
{
    usleep(50000);
    gw_lines_stop(ctx);
    return NULL;
}

Test(lines, a_stop_ends_a_reader_whose_input_is_silent)
{
    int ends[2];
    struct gw_lines *input;
    pthread_t thread;
    const struct gw_block *block;
    cr_assert_eq(pipe(ends), 0); /* its writing end stays open and silent */
    cr_assert_eq(gw_lines_create(ends[0], 1, 4, &input), GW_OK);
    pthread_create(&thread, NULL, stop_soon, input);
    cr_expect_eq(gw_lines_read(input), GW_E_CANCELLED);
    cr_expect_eq(gw_lines_take(input, true, &block), GW_END);
    pthread_join(thread, NULL);
    gw_lines_destroy(input);
    close(ends[0]);
    close(ends[1]);
}
