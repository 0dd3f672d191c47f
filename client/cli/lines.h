/* lines.h - an input of lines, read in blocks by one thread and worked on by several, without a
 * copy of any line. A block holds whole lines; the last one of the input may lack its line end.
 * Memory: at most blocks_max blocks of GW_BLOCK_BYTES, or the whole input when it is to be given
 * out more than once. Layer: client/cli. */
#ifndef GW_CLIENT_CLI_LINES_H
#define GW_CLIENT_CLI_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"

#define GW_BLOCK_BYTES (256u << 10)

struct gw_lines;

struct gw_block {
    const char *bytes;
    size_t len;
    uint64_t first_line; /* number of its first line, from 1; repetitions count on from there */
};

/* Borrows fd. GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_lines_create(int fd, uint64_t repeat, uint32_t blocks_max,
                                           struct gw_lines **out);
void gw_lines_destroy(struct gw_lines *lines); /* requires: nobody is inside; NULL is ignored */

/* Reads the input to its end, waiting while the queue is full: the reading thread's whole life.
 * GW_E_TOO_LARGE: a line is longer than a block; GW_E_IO: errno says it; GW_E_NOMEM;
 * GW_E_CANCELLED: stopped. Takers get GW_END in each case. */
GW_MUST_USE enum gw_status gw_lines_read(struct gw_lines *lines);
uint64_t gw_lines_bad_line(const struct gw_lines *lines); /* after GW_E_TOO_LARGE: its number */

/* The next block. GW_END: there are no more; GW_RETRY: none now (only if not `wait`). */
GW_MUST_USE enum gw_status gw_lines_take(struct gw_lines *lines, bool wait,
                                         const struct gw_block **out);
void gw_lines_give_back(struct gw_lines *lines, const struct gw_block *block);
void gw_lines_stop(struct gw_lines *lines); /* from any thread: ends reader and takers soon */
#endif
