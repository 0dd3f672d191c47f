/* value.c - see value.h. */
#include "client/cli/value.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/text.h"

#define NUMBER_BYTES_MAX 20u /* "-9223372036854775808" */

bool gw_value_is_counter(const char *text, size_t bytes, int64_t *number)
{
    char copy[NUMBER_BYTES_MAX + 1], again[NUMBER_BYTES_MAX + 1];
    int64_t value;
    if (bytes == 0 || bytes > NUMBER_BYTES_MAX || memchr(text, '\0', bytes))
        return false;
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    if (gw_parse_i64(copy, &value) != GW_OK)
        return false;
    snprintf(again, sizeof again, "%" PRId64, value);
    if (strcmp(copy, again) != 0) /* "007", "+7", "-0": as bytes they come back as they were */
        return false;
    *number = value;
    return true;
}

bool gw_value_is_duration(const char *text, uint64_t *ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    const uint64_t most_ms = UINT64_C(1000) * 366 * 86400000;
    size_t digits = strspn(text, "0123456789");
    char number[NUMBER_BYTES_MAX + 1];
    if (digits == 0 || digits > NUMBER_BYTES_MAX)
        return false;
    memcpy(number, text, digits);
    number[digits] = '\0';
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        uint64_t n;
        if (strcmp(text + digits, units[i].name) != 0)
            continue;
        if (gw_parse_u64(number, 1, most_ms / units[i].ms, &n) != GW_OK)
            return false;
        *ms = n * units[i].ms;
        return true;
    }
    return false;
}

json_t *gw_value_json_text(const void *bytes, size_t n)
{
    size_t room_bytes = 4 * n + 1;
    char *room = malloc(room_bytes);
    if (!room)
        return NULL;
    size_t len = gw_escape(bytes, n, room, room_bytes);
    json_t *text = json_stringn(room, len);
    free(room);
    return text;
}
