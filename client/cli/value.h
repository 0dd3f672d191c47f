/* value.h - how keys and values are written as text: by get and set, in TSV and in JSON.
 * Layer: client/cli. */
#ifndef GW_CLIENT_CLI_VALUE_H
#define GW_CLIENT_CLI_VALUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Is this what a counter is printed as: a decimal 64-bit integer without '+' or leading zeros? */
bool gw_value_is_counter(const char *text, size_t bytes, int64_t *number);
/* "500ms", "10s", "5m", "2h", "7d"; a number alone is seconds. False: anything else, 0, or more
 * than a thousand years. */
bool gw_value_is_duration(const char *text, uint64_t *ms);
/* The bytes, escaped as in TSV, as a JSON string: JSON is UTF-8, keys are any bytes. NULL: no
 * memory. */
json_t *gw_value_json_text(const void *bytes, size_t n);
#endif
