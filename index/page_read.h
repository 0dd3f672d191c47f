/* page_read.h - the records of one page of the log, in the order in which they lie there: from its
 * frame while it is in memory, else in pieces from the device.
 *
 * Thread rule: a reader belongs to one thread of the store, and stays where it is until its read
 * has called back. Requires, but for begin: inside the epoch. Layer: index. */
#ifndef GW_INDEX_PAGE_READ_H
#define GW_INDEX_PAGE_READ_H

#include "index/device.h"
#include "index/store_internal.h"

enum gwi_read { GWI_READ_NONE, GWI_READ_UNDER_WAY, GWI_READ_DONE };

/* Zeroed, then gwi_page_begin. */
struct gwi_page_read {
    uint64_t page;    /* its number */
    uint64_t at, end; /* addresses: next record to look at; end of the records, 0: unknown */
    /* The part of the page that was read from the device; `buffer` is owned. */
    uint8_t *buffer;
    uint64_t buffer_bytes;
    _Atomic uint64_t buffer_memory; /* the same, for the statistics */
    uint64_t from, until;           /* addresses that it holds */
    uint64_t asked;                 /* what `until` becomes when the read has come */
    enum gwi_read read;
    enum gw_status read_status;
};

/* A record that was met. */
struct gwi_met {
    struct gw_record *record;
    gw_addr address;
    uint64_t hash;
    uint16_t slot;
};

/* Begins with the page's first record. Requires: no read is under way. */
void gwi_page_begin(struct gwi_page_read *in, const struct gw_log *log, uint64_t page);
/* Begins to read from `at` on: at least `need` bytes, about `piece`, to the page's end at most.
 * GW_PENDING: under way; GW_WOULD_BLOCK, GW_E_NOMEM: not now; else it cannot be read. */
GW_MUST_USE enum gw_status gwi_page_fetch(struct gw_thread *t, struct gwi_page_read *in,
                                          uint64_t at, uint64_t need, uint64_t piece);
/* Takes in a read that is GWI_READ_DONE. GW_OK; else it cannot be read, or is not this page. */
GW_MUST_USE enum gw_status gwi_page_take(struct gw_thread *t, struct gwi_page_read *in);

enum gwi_page_at {
    GWI_AT_RECORD,  /* *met, but for hash and slot, which dead ones do not need; *bytes */
    GWI_AT_NOTHING, /* void or sealed; *bytes */
    GWI_AT_END,
    GWI_AT_MISSING, /* *bytes have to be fetched */
    GWI_AT_BAD
};
/* Looks at what lies at `at`. sealed: records that were sealed are wanted, too. */
enum gwi_page_at gwi_page_parse(struct gw_thread *t, struct gwi_page_read *in, uint64_t at,
                                bool sealed, struct gwi_met *met, uint64_t *bytes);
/* Where what gwi_page_parse says is missing begins: a page is read from its first byte on. */
uint64_t gwi_page_missing(const struct gw_log *log, const struct gwi_page_read *in);
/* Fills in hash and slot, and fetches the key's place in the index. */
void gwi_page_hash(struct gw_thread *t, struct gwi_met *met);
/* Gives the buffer back. Requires: no read is under way. */
void gwi_page_free(struct gwi_page_read *in);
#endif
