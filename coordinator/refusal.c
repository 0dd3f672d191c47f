/* refusal.c - see refusal.h. */
#include "coordinator/refusal.h"

#include <stdarg.h>
#include <stdio.h>

enum gw_status gwi_refusal(enum gw_status status, char *text, size_t text_bytes, const char *format,
                           ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(text, text_bytes, format, args);
    va_end(args);
    return status;
}
