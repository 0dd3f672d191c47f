/* assert.h - assertions that stay on in release builds.
 * They state what the code believes of itself; bytes from outside are checked and answered, never
 * asserted. Thread rule: any. Layer: index/base. */
#ifndef GW_INDEX_BASE_ASSERT_H
#define GW_INDEX_BASE_ASSERT_H

#define GW_LIKELY(x)     __builtin_expect(!!(x), 1)
#define GW_UNLIKELY(x)   __builtin_expect(!!(x), 0)
#define GW_IMPLIES(a, b) (!(a) || (b))
#define GW_BIT(n)        (1u << (n))
#define GW_CACHE_LINE    64

/* Prints file, line and the condition to stderr and aborts. */
_Noreturn void gw_assert_failed(const char *file, int line, const char *condition);

#define GW_ASSERT(c)                                                                               \
    do {                                                                                           \
        if (GW_UNLIKELY(!(c)))                                                                     \
            gw_assert_failed(__FILE__, __LINE__, #c);                                              \
    } while (0)

/* Walks of whole structures: debug and sanitizer builds only (-DGW_DCHECKS=1). */
#if defined(GW_DCHECKS) && GW_DCHECKS
#define GW_DCHECK(c) GW_ASSERT(c)
#else
#define GW_DCHECK(c) ((void)sizeof(c))
#endif
#endif
