/* memory.c - large mappings, in huge pages where the system gives some. */
#include "index/base/memory.h"

#include <stdint.h>
#include <sys/mman.h>

#include "index/base/assert.h"

#define HUGE_PAGE ((size_t)2 << 20)

/* 0 when rounding up would overflow. */
static size_t rounded(size_t bytes)
{
    return bytes > SIZE_MAX - 2 * HUGE_PAGE ? 0 : (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
}

static void *map(size_t bytes, int flags)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* A plain mapping is aligned to 4 KiB only: map one huge page more and give back both ends. */
static void *map_aligned(size_t bytes)
{
    uint8_t *p = map(bytes + HUGE_PAGE, MAP_NORESERVE);
    if (!p)
        return NULL;
    size_t before = -(uintptr_t)p & (HUGE_PAGE - 1);
    size_t after = HUGE_PAGE - before;
    if (before)
        munmap(p, before);
    if (after)
        munmap(p + before + bytes, after);
    return p + before;
}

enum gw_status gw_memory_map(size_t bytes, void **out, enum gw_memory_kind *kind)
{
    size_t size = rounded(bytes ? bytes : 1);
    if (size == 0)
        return GW_E_NOMEM;

    /* No MAP_NORESERVE here: without a reservation the pool could run dry later, and then the
     * first touch of a page is a SIGBUS. */
    enum gw_memory_kind got = GW_MEMORY_HUGETLB;
    void *p = map(size, MAP_HUGETLB | (21 << MAP_HUGE_SHIFT));
    if (!p) {
        p = map_aligned(size);
        if (!p)
            return GW_E_NOMEM;
        got = madvise(p, size, MADV_HUGEPAGE) == 0 ? GW_MEMORY_ADVISED : GW_MEMORY_PLAIN;
    }
    *out = p;
    if (kind)
        *kind = got;
    return GW_OK;
}

/* Puts pages of the system's pool under [base, base + bytes), which is mapped and untouched. False:
 * they are as before; *lost: the space was given up and another mapping has taken it since. */
static bool put_hugetlb(void *base, size_t bytes, bool *lost)
{
    const int huge = MAP_HUGETLB | (21 << MAP_HUGE_SHIFT);
    *lost = false;
    /* A MAP_FIXED that fails may leave a hole for other threads' mappings to fall into. So ask
     * first whether the pool has as many, then make the hole, and fill it without force. */
    void *probe = map(bytes, huge);
    if (!probe)
        return false;
    munmap(probe, bytes);
    munmap(base, bytes);
    for (int i = 0; i < 2; i++) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
        void *p = mmap(base, bytes, PROT_READ | PROT_WRITE, flags | (i == 0 ? huge : MAP_NORESERVE),
                       -1, 0);
        if (p == base)
            return i == 0;
        if (p != MAP_FAILED)
            munmap(p, bytes); /* a kernel that takes the flag for a hint */
    }
    *lost = true;
    return false;
}

enum gw_status gw_memory_reserve(size_t bytes, size_t huge_bytes, void **out,
                                 enum gw_memory_kind *kind)
{
    GW_ASSERT(huge_bytes % HUGE_PAGE == 0 && huge_bytes <= bytes);
    size_t size = rounded(bytes ? bytes : 1);
    uint8_t *p = size ? map_aligned(size) : NULL;
    if (!p)
        return GW_E_NOMEM;
    enum gw_memory_kind got = GW_MEMORY_PLAIN;
    if (huge_bytes) {
        bool lost;
        if (put_hugetlb(p, huge_bytes, &lost)) {
            got = GW_MEMORY_HUGETLB;
        } else if (lost) {
            if (size > huge_bytes)
                munmap(p + huge_bytes, size - huge_bytes);
            return GW_E_NOMEM;
        } else if (madvise(p, huge_bytes, MADV_HUGEPAGE) == 0) {
            got = GW_MEMORY_ADVISED;
        }
    }
    /* Where the system gives huge pages unasked, a line would take 2 MiB. A failure costs memory,
     * nothing else. */
    if (size > huge_bytes)
        (void)madvise(p + huge_bytes, size - huge_bytes, MADV_NOHUGEPAGE);
    *out = p;
    if (kind)
        *kind = got;
    return GW_OK;
}

void gw_memory_populate(void *base, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    /* To the end of a small page: what is behind it may belong to nobody yet. */
    if (madvise(base, (bytes + 4095) & ~(size_t)4095, MADV_POPULATE_WRITE) == 0)
        return;
#endif
    /* Before Linux 5.14: one write a small page; nobody else writes there yet. */
    volatile char *page = base;
    for (size_t at = 0; at < bytes; at += 4096)
        page[at] = page[at];
}

enum gw_status gw_memory_release(void *base, size_t bytes)
{
    return madvise(base, bytes, MADV_DONTNEED) == 0 ? GW_OK : GW_E_UNSUPPORTED;
}

void gw_memory_prepare(void *base, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    (void)madvise(base, bytes, MADV_POPULATE_WRITE);
#else
    (void)base, (void)bytes;
#endif
}

void gw_memory_unmap(void *base, size_t bytes)
{
    if (!base)
        return;
    int rc = munmap(base, rounded(bytes ? bytes : 1));
    GW_ASSERT(rc == 0);
}

const char *gw_memory_kind_name(enum gw_memory_kind kind)
{
    switch (kind) {
    case GW_MEMORY_PLAIN:
        return "plain";
    case GW_MEMORY_ADVISED:
        return "advised";
    case GW_MEMORY_HUGETLB:
        return "hugetlb";
    }
    return "unknown";
}
