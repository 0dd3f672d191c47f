/* text.h - what flags and addresses look like: sizes ("64MiB"), numbers, host:port. Any thread.
 * Layer: base. */
#ifndef GW_INDEX_BASE_TEXT_H
#define GW_INDEX_BASE_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"

/* "123", "64KiB", "64MiB", "2GiB", "1TiB" (also KB, MB, GB = powers of 1000, and K, M, G = powers
 * of 1024). GW_E_INVALID on anything else or beyond 2^62; *out is then unchanged. */
GW_MUST_USE enum gw_status gw_parse_size(const char *text, uint64_t *out);
/* A decimal number within [min, max]; GW_E_INVALID otherwise. */
GW_MUST_USE enum gw_status gw_parse_u64(const char *text, uint64_t min, uint64_t max,
                                        uint64_t *out);
GW_MUST_USE enum gw_status gw_parse_i64(const char *text, int64_t *out);
/* Splits "HOST:PORT" ("[::1]:7400" too) into host (without brackets) and port 0..65535. */
GW_MUST_USE enum gw_status gw_parse_address(const char *text, char *host, size_t host_bytes,
                                            uint16_t *port);
/* "1.5 GiB" for people. */
void gw_format_size(uint64_t bytes, char *room, size_t room_bytes);
/* Escapes n bytes for one TSV field: \t \n \r \\ and \xHH for what is not printable ASCII (bytes >=
 * 0x80 stay when they form valid UTF-8). Returns the length it needs without the final zero; writes
 * at most room. */
size_t gw_escape(const void *bytes, size_t n, char *room, size_t room_bytes);
/* The inverse; in place allowed. Returns the bytes written, or SIZE_MAX on a bad escape. */
size_t gw_unescape(const char *text, size_t n, uint8_t *room);
#endif
