/* text.c - numbers, sizes, addresses and escaped bytes as people and scripts write them.
 * Nothing here depends on the locale, accepts leading blanks or stops at what it cannot read: a
 * text is right from its first byte to its last or it is refused. */
#include "index/base/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SIZE_LIMIT ((uint64_t)1 << 62)

/* Reads the digits at *text into *out; false if there are none or they are beyond 64 bits. */
static bool read_digits(const char **text, uint64_t *out)
{
    const char *p = *text;
    uint64_t value = 0;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            return false;
    }
    *text = p;
    *out = value;
    return true;
}

enum gw_status gw_parse_size(const char *text, uint64_t *out)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {
        {"", 1},
        {"B", 1},
        {"K", (uint64_t)1 << 10},
        {"KiB", (uint64_t)1 << 10},
        {"KB", 1000},
        {"M", (uint64_t)1 << 20},
        {"MiB", (uint64_t)1 << 20},
        {"MB", 1000000},
        {"G", (uint64_t)1 << 30},
        {"GiB", (uint64_t)1 << 30},
        {"GB", 1000000000},
        {"T", (uint64_t)1 << 40},
        {"TiB", (uint64_t)1 << 40},
        {"TB", 1000000000000},
    };
    uint64_t value;
    if (!read_digits(&text, &value))
        return GW_E_INVALID;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(text, units[i].name) != 0)
            continue;
        if (value > SIZE_LIMIT / units[i].bytes)
            return GW_E_INVALID;
        *out = value * units[i].bytes;
        return GW_OK;
    }
    return GW_E_INVALID;
}

enum gw_status gw_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t value;
    if (!read_digits(&text, &value) || *text != '\0' || value < min || value > max)
        return GW_E_INVALID;
    *out = value;
    return GW_OK;
}

enum gw_status gw_parse_i64(const char *text, int64_t *out)
{
    bool negative = *text == '-';
    if (*text == '-' || *text == '+')
        text++;
    uint64_t value;
    if (!read_digits(&text, &value) || *text != '\0')
        return GW_E_INVALID;
    if (value > (uint64_t)INT64_MAX + negative)
        return GW_E_INVALID;
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return GW_OK;
}

enum gw_status gw_parse_address(const char *text, char *host, size_t host_bytes, uint16_t *port)
{
    const char *start = text, *end, *colon;
    if (*text == '[') { /* an IPv6 address holds colons itself */
        start++;
        end = strchr(start, ']');
        if (!end || end[1] != ':')
            return GW_E_INVALID;
        colon = end + 1;
    } else {
        end = colon = strchr(text, ':');
        if (!colon || strpbrk(text, "[]"))
            return GW_E_INVALID;
    }
    size_t len = (size_t)(end - start);
    if (len == 0 || len >= host_bytes)
        return GW_E_INVALID;
    for (size_t i = 0; i < len; i++)
        if (start[i] <= ' ' || start[i] > '~' || start[i] == '[' || start[i] == '/')
            return GW_E_INVALID;
    uint64_t number;
    if (gw_parse_u64(colon + 1, 0, UINT16_MAX, &number) != GW_OK)
        return GW_E_INVALID;
    memcpy(host, start, len);
    host[len] = '\0';
    *port = (uint16_t)number;
    return GW_OK;
}

void gw_format_size(uint64_t bytes, char *room, size_t room_bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    uint32_t unit = 0;
    /* Below 1023.95: what "%.1f" would round up to 1024.0 belongs to the next unit. */
    double value = (double)bytes;
    while (value >= (unit ? 1023.95 : 1024.0)) {
        value /= 1024;
        unit++;
    }
    uint64_t tenths = (uint64_t)(value * 10 + 0.5);
    if (tenths % 10 == 0)
        snprintf(room, room_bytes, "%llu %s", (unsigned long long)(tenths / 10), units[unit]);
    else
        snprintf(room, room_bytes, "%llu.%llu %s", (unsigned long long)(tenths / 10),
                 (unsigned long long)(tenths % 10), units[unit]);
}

/* The length of the valid UTF-8 sequence of two to four bytes at p, or 0: no overlong forms, no
 * surrogates, nothing beyond U+10FFFF (Unicode 15, table 3-7). */
static size_t utf8_sequence(const uint8_t *p, size_t n)
{
    uint8_t least = 0x80, most = 0xbf; /* of the second byte */
    size_t len;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        len = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        len = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        len = 4;
    else
        return 0;
    if (p[0] == 0xe0)
        least = 0xa0;
    else if (p[0] == 0xed)
        most = 0x9f;
    else if (p[0] == 0xf0)
        least = 0x90;
    else if (p[0] == 0xf4)
        most = 0x8f;
    if (n < len || p[1] < least || p[1] > most)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    return len;
}

size_t gw_escape(const void *bytes, size_t n, char *room, size_t room_bytes)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = bytes;
    size_t need = 0, written = 0;
    bool fits = true;
    for (size_t i = 0; i < n;) {
        char code[4];
        const char *piece = code;
        size_t len = 2, taken = 1;
        code[0] = '\\';
        if (p[i] == '\t') {
            code[1] = 't';
        } else if (p[i] == '\n') {
            code[1] = 'n';
        } else if (p[i] == '\r') {
            code[1] = 'r';
        } else if (p[i] == '\\') {
            code[1] = '\\';
        } else if (p[i] >= ' ' && p[i] <= '~') {
            piece = (const char *)p + i;
            len = 1;
        } else if ((taken = utf8_sequence(p + i, n - i)) != 0) {
            piece = (const char *)p + i;
            len = taken;
        } else {
            taken = 1;
            code[1] = 'x';
            code[2] = hex[p[i] >> 4];
            code[3] = hex[p[i] & 15];
            len = 4;
        }
        /* What is written is whole escapes with a zero behind them, also when it is cut. */
        if (fits && need + len < room_bytes) {
            memcpy(room + need, piece, len);
            written = need + len;
        } else {
            fits = false;
        }
        need += len;
        i += taken;
    }
    if (room_bytes)
        room[written] = '\0';
    return need;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

size_t gw_unescape(const char *text, size_t n, uint8_t *room)
{
    size_t written = 0; /* never ahead of i, so room may be text */
    for (size_t i = 0; i < n;) {
        if (text[i] != '\\') {
            room[written++] = (uint8_t)text[i++];
            continue;
        }
        if (i + 1 >= n)
            return SIZE_MAX;
        switch (text[i + 1]) {
        case 't':
            room[written++] = '\t';
            break;
        case 'n':
            room[written++] = '\n';
            break;
        case 'r':
            room[written++] = '\r';
            break;
        case '\\':
            room[written++] = '\\';
            break;
        case 'x': {
            if (i + 3 >= n)
                return SIZE_MAX;
            int high = hex_digit(text[i + 2]), low = hex_digit(text[i + 3]);
            if (high < 0 || low < 0)
                return SIZE_MAX;
            room[written++] = (uint8_t)(high << 4 | low);
            i += 2;
            break;
        }
        default:
            return SIZE_MAX;
        }
        i += 2;
    }
    return written;
}
