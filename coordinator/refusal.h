/* refusal.h - what the coordinator does not do, in words. Any thread. Layer: coordinator. */
#ifndef GW_COORDINATOR_REFUSAL_H
#define GW_COORDINATOR_REFUSAL_H

#include <stddef.h>

#include "index/base/status.h"

/* Writes the sentence into text, cut off at text_bytes; returns status, for the caller to pass on.
 */
enum gw_status gwi_refusal(enum gw_status status, char *text, size_t text_bytes, const char *format,
                           ...) __attribute__((format(printf, 4, 5)));
#endif
