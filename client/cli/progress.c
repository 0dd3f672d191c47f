/* progress.c - see progress.h. */
#include "client/cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 30

void gw_progress_init(struct gw_progress *progress)
{
    progress->terminal = isatty(STDERR_FILENO);
    progress->shown = false;
}

void gw_progress_show(struct gw_progress *progress, double fraction, const char *words)
{
    if (!progress->terminal)
        return;
    progress->shown = true;
    if (fraction < 0) {
        fprintf(stderr, "\r\033[K%s", words);
        return;
    }
    char bar[BAR_WIDTH + 1];
    int full = (int)((fraction > 1 ? 1 : fraction) * BAR_WIDTH);
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', (size_t)full);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r\033[K[%s] %3.0f %%  %s", bar, (fraction > 1 ? 1 : fraction) * 100, words);
}

void gw_progress_clear(struct gw_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}
