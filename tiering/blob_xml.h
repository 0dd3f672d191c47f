/* blob_xml.h - the two answers of an object store that are XML: a page of a list, and an error.
 *
 * The bytes come from outside: everything is bounded, and what is not understood is refused. Taken
 * are elements (nested up to 8 deep, closed in order), text with the five entities and numbered
 * characters, comments, one declaration; not taken: DOCTYPE, CDATA, other instructions. Pure; any
 * thread. Layer: tiering, internal. */
#ifndef GW_TIERING_BLOB_XML_H
#define GW_TIERING_BLOB_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"

#define GWI_XML_DEPTH_MAX  8u
#define GWI_XML_NAME_MAX   64u
#define GWI_XML_TEXT_BYTES 2048u /* of one element, decoded; longer: GW_E_CORRUPT where wanted */

struct gwi_xml_page {
    bool truncated;
    char token[GWI_XML_TEXT_BYTES]; /* NextContinuationToken; "": none */
};

/* For each object in the page's order; `key` until it returns. Not GW_OK: ends the page, which
 * gives it. */
typedef enum gw_status (*gwi_xml_object_cb)(void *ctx, const char *key, uint64_t size);

/* A ListBucketResult, complete: IsTruncated once, each Contents with one Key and one Size.
 * GW_E_CORRUPT: it is none. */
GW_MUST_USE enum gw_status gwi_xml_list(const char *xml, size_t n, gwi_xml_object_cb fn, void *ctx,
                                        struct gwi_xml_page *page);
/* Code and message of an Error, as far as they are there: "" else. What is not printable ASCII
 * becomes a question mark. */
void gwi_xml_error(const char *xml, size_t n, char code[64], char message[128]);
#endif
