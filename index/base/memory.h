/* memory.h - large anonymous mappings in huge pages: MAP_HUGETLB if the system has free ones, else
 * madvise(MADV_HUGEPAGE), else plain. Sizes are rounded up to 2 MiB. Any thread. Layer: base. */
#ifndef GW_INDEX_BASE_MEMORY_H
#define GW_INDEX_BASE_MEMORY_H

#include <stddef.h>

#include "index/base/status.h"

enum gw_memory_kind { GW_MEMORY_PLAIN, GW_MEMORY_ADVISED, GW_MEMORY_HUGETLB };

/* Zeroed, 2 MiB aligned. GW_E_NOMEM: *out is not written. kind may be NULL. */
GW_MUST_USE enum gw_status gw_memory_map(size_t bytes, void **out, enum gw_memory_kind *kind);
/* Zeroed address space, 2 MiB aligned, which takes memory only where it is touched: for what may
 * become much longer than it is. The first huge_bytes (0 or a multiple of 2 MiB) are in huge pages
 * if the system gives some, *kind says; the rest is in small ones. GW_E_NOMEM: *out is not written.
 */
GW_MUST_USE enum gw_status gw_memory_reserve(size_t bytes, size_t huge_bytes, void **out,
                                             enum gw_memory_kind *kind);
/* Touches all of a fresh mapping, so that no later access waits for the system to find and clear a
 * page (measured: a store that was filled for the first time under load stood still for 300 ms). */
void gw_memory_populate(void *base, size_t bytes);
/* Gives the memory of a part of a mapping back to the system; it reads as zeros and gets memory
 * again when it is touched. Not every kind of page can be split: GW_E_UNSUPPORTED, nothing changed.
 */
GW_MUST_USE enum gw_status gw_memory_release(void *base, size_t bytes);
/* Asks for that memory ahead of the touch; changes nothing in it, and may have no effect. */
void gw_memory_prepare(void *base, size_t bytes);
/* The same bytes as given to map or reserve; or piece by piece from the start, each a multiple of
 * 2 MiB, and the rest at last. NULL is ignored. */
void gw_memory_unmap(void *base, size_t bytes);
const char *gw_memory_kind_name(enum gw_memory_kind kind);
#endif
