/* progress.h - a bar on stderr, if that is a terminal; nothing at all otherwise. Layer: client/cli.
 */
#ifndef GW_CLIENT_CLI_PROGRESS_H
#define GW_CLIENT_CLI_PROGRESS_H

#include <stdbool.h>

struct gw_progress {
    bool terminal, shown;
};

void gw_progress_init(struct gw_progress *progress);
/* Draws over the line. fraction 0..1, below 0: not known, words only. */
void gw_progress_show(struct gw_progress *progress, double fraction, const char *words);
void gw_progress_clear(struct gw_progress *progress); /* takes the line away */
#endif
