/* assert.c - the end of a program that was wrong about itself. */
#include "index/base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void gw_assert_failed(const char *file, int line, const char *condition)
{
    /* One write, past stdio: its lock may be held by the very thread that fails here. */
    char text[512];
    int n = snprintf(text, sizeof text, "%s:%d: assertion failed: %s\n", file, line, condition);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len >= sizeof text) {
        len = sizeof text - 1;
        text[len - 1] = '\n';
    }
    if (write(STDERR_FILENO, text, len) < 0) {
        /* Nowhere to say it: the core dump has the line. */
    }
    abort();
}
