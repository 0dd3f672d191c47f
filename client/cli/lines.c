/* lines.c - see lines.h. A queue of blocks under one lock: a block is some 30,000 lines, so the
 * lock is taken some hundred times a second. */
#include "client/cli/lines.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_LOOK_MS 100

struct block {
    struct gw_block shown; /* first: takers hold a pointer to it */
    struct block *next; /* in the queue, or in the list of what is kept for the next repetition */
    char room[];
};

struct gw_lines {
    int fd;
    uint64_t repeat;
    uint32_t blocks_max;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct block *head, **tail;
    uint32_t queued, given_out;
    bool ended, stopped;
    /* the reading thread's own */
    struct block *kept, **kept_tail;
    uint64_t line, bad_line;
};

enum gw_status gw_lines_create(int fd, uint64_t repeat, uint32_t blocks_max, struct gw_lines **out)
{
    struct gw_lines *lines = calloc(1, sizeof *lines);
    if (!lines)
        return GW_E_NOMEM;
    lines->fd = fd;
    lines->repeat = repeat;
    lines->blocks_max = blocks_max;
    lines->tail = &lines->head;
    lines->kept_tail = &lines->kept;
    lines->line = 1;
    pthread_mutex_init(&lines->lock, NULL);
    pthread_cond_init(&lines->changed, NULL);
    *out = lines;
    return GW_OK;
}

static void free_list(struct block *block)
{
    while (block) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
}

void gw_lines_destroy(struct gw_lines *lines)
{
    if (!lines)
        return;
    free_list(lines->head);
    free_list(lines->kept);
    pthread_cond_destroy(&lines->changed);
    pthread_mutex_destroy(&lines->lock);
    free(lines);
}

/* ---- the reading thread --------------------------------------------------------------------- */

static uint64_t count_lines(const char *bytes, size_t n)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += bytes[i] == '\n';
    return lines;
}

/* Queues a block (taken), once there is room. */
static enum gw_status push(struct gw_lines *lines, struct block *block)
{
    pthread_mutex_lock(&lines->lock);
    while (lines->queued + lines->given_out >= lines->blocks_max && !lines->stopped)
        pthread_cond_wait(&lines->changed, &lines->lock);
    bool refused = lines->stopped;
    if (!refused) {
        block->next = NULL;
        *lines->tail = block;
        lines->tail = &block->next;
        lines->queued++;
        pthread_cond_broadcast(&lines->changed);
    }
    pthread_mutex_unlock(&lines->lock);
    if (refused)
        free(block);
    return refused ? GW_E_CANCELLED : GW_OK;
}

/* A queue entry of its own for bytes that are kept. */
static enum gw_status push_again(struct gw_lines *lines, const struct block *kept)
{
    struct block *again = malloc(sizeof *again);
    if (!again)
        return GW_E_NOMEM;
    again->shown = kept->shown;
    again->shown.first_line = lines->line;
    lines->line += count_lines(kept->shown.bytes, kept->shown.len);
    return push(lines, again);
}

static enum gw_status hand_over(struct gw_lines *lines, struct block *block, size_t len)
{
    block->shown = (struct gw_block){block->room, len, lines->line};
    if (lines->repeat > 1) {
        block->next = NULL;
        *lines->kept_tail = block;
        lines->kept_tail = &block->next;
        return push_again(lines, block);
    }
    lines->line += count_lines(block->room, len);
    return push(lines, block);
}

/* Is there something to be read, or will there be within timeout_ms? */
static bool readable(int fd, int timeout_ms)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    return poll(&wanted, 1, timeout_ms) == 1;
}

static bool stopped(struct gw_lines *lines)
{
    pthread_mutex_lock(&lines->lock);
    bool yes = lines->stopped;
    pthread_mutex_unlock(&lines->lock);
    return yes;
}

/* Reads until the block holds whole lines worth to be worked on. *len and *whole: bytes in it, and
 * those up to the last line end. *end: the input has ended. */
static enum gw_status fill(struct gw_lines *lines, struct block *block, size_t *len, size_t *whole,
                           bool *end)
{
    size_t fresh = *len; /* what is carried over holds no line end */
    *whole = 0;
    for (;;) {
        while (!readable(lines->fd, STOP_LOOK_MS)) /* a silent input must not outlive a stop */
            if (stopped(lines))
                return GW_E_CANCELLED;
        ssize_t n = read(lines->fd, block->room + *len, GW_BLOCK_BYTES - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return GW_E_IO;
        *len += (size_t)n;
        *end = n == 0;
        const char *last = memrchr(block->room + fresh, '\n', *len - fresh);
        if (last)
            *whole = (size_t)(last - block->room) + 1;
        fresh = *len;
        if (*end) {
            *whole = *len;
            return GW_OK;
        }
        bool full = *len == GW_BLOCK_BYTES;
        if (full && *whole == 0) {
            lines->bad_line = lines->line;
            return GW_E_TOO_LARGE;
        }
        if (full || (*whole && !readable(lines->fd, 0)))
            return GW_OK;
    }
}

static enum gw_status read_all(struct gw_lines *lines)
{
    struct block *block = malloc(sizeof *block + GW_BLOCK_BYTES);
    size_t len = 0, whole;
    bool end = false;
    if (!block)
        return GW_E_NOMEM;
    while (!end) {
        enum gw_status st = fill(lines, block, &len, &whole, &end);
        struct block *next = NULL;
        if (st == GW_OK && !end) {
            next = malloc(sizeof *next + GW_BLOCK_BYTES);
            if (!next)
                st = GW_E_NOMEM;
        }
        if (st != GW_OK) {
            free(block);
            return st;
        }
        if (next) /* the last line is not complete yet */
            memcpy(next->room, block->room + whole, len - whole);
        len -= whole;
        if (whole)
            st = hand_over(lines, block, whole);
        else
            free(block);
        if (st != GW_OK) {
            free(next);
            return st;
        }
        block = next;
    }
    return GW_OK;
}

enum gw_status gw_lines_read(struct gw_lines *lines)
{
    enum gw_status st = read_all(lines);
    for (uint64_t i = 1; st == GW_OK && i < lines->repeat; i++)
        for (const struct block *kept = lines->kept; st == GW_OK && kept; kept = kept->next)
            st = push_again(lines, kept);
    pthread_mutex_lock(&lines->lock);
    lines->ended = true;
    pthread_cond_broadcast(&lines->changed);
    pthread_mutex_unlock(&lines->lock);
    return st;
}

uint64_t gw_lines_bad_line(const struct gw_lines *lines)
{
    return lines->bad_line;
}

/* ---- takers --------------------------------------------------------------------------------- */

enum gw_status gw_lines_take(struct gw_lines *lines, bool wait, const struct gw_block **out)
{
    enum gw_status st = GW_OK;
    pthread_mutex_lock(&lines->lock);
    while (wait && !lines->head && !lines->ended && !lines->stopped)
        pthread_cond_wait(&lines->changed, &lines->lock);
    if (lines->stopped) {
        st = GW_END;
    } else if (!lines->head) {
        st = lines->ended ? GW_END : GW_RETRY;
    } else {
        struct block *block = lines->head;
        lines->head = block->next;
        if (!lines->head)
            lines->tail = &lines->head;
        lines->queued--;
        lines->given_out++;
        *out = &block->shown;
    }
    pthread_mutex_unlock(&lines->lock);
    return st;
}

void gw_lines_give_back(struct gw_lines *lines, const struct gw_block *shown)
{
    free(
        (void *)(uintptr_t)shown); /* the block's first member; kept bytes are another allocation */
    pthread_mutex_lock(&lines->lock);
    lines->given_out--;
    pthread_cond_broadcast(&lines->changed);
    pthread_mutex_unlock(&lines->lock);
}

void gw_lines_stop(struct gw_lines *lines)
{
    pthread_mutex_lock(&lines->lock);
    lines->stopped = true;
    pthread_cond_broadcast(&lines->changed);
    pthread_mutex_unlock(&lines->lock);
}
