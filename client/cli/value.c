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
