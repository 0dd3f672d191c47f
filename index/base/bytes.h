/* bytes.h - little-endian loads and stores at any alignment, and a bounds-checked reader/writer
 * for what comes from outside. The reader never reads behind `end`: a failed read sets `bad`,
 * returns zero and stays bad, so that a decoder checks once, at its end. Layer: base. */
#ifndef GW_INDEX_BASE_BYTES_H
#define GW_INDEX_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Godwit stores and sends little-endian words in place: big-endian machines are not supported"
#endif

static inline uint16_t gw_load16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint32_t gw_load32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t gw_load64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void gw_store16(void *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}
static inline void gw_store32(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}
static inline void gw_store64(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

struct gw_reader {
    const uint8_t *at, *end;
    bool bad;
};

static inline struct gw_reader gw_reader_of(const void *bytes, size_t n)
{
    return (struct gw_reader){bytes, (const uint8_t *)bytes + n, false};
}
static inline size_t gw_reader_left(const struct gw_reader *r)
{
    return (size_t)(r->end - r->at);
}
/* The next n bytes, or NULL (and bad) when fewer are left. */
static inline const uint8_t *gw_read_bytes(struct gw_reader *r, size_t n)
{
    if (r->bad || gw_reader_left(r) < n) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->at;
    r->at += n;
    return p;
}
static inline uint8_t gw_read8(struct gw_reader *r)
{
    const uint8_t *p = gw_read_bytes(r, 1);
    return p ? *p : 0;
}
static inline uint16_t gw_read16(struct gw_reader *r)
{
    const uint8_t *p = gw_read_bytes(r, 2);
    return p ? gw_load16(p) : 0;
}
static inline uint32_t gw_read32(struct gw_reader *r)
{
    const uint8_t *p = gw_read_bytes(r, 4);
    return p ? gw_load32(p) : 0;
}
static inline uint64_t gw_read64(struct gw_reader *r)
{
    const uint8_t *p = gw_read_bytes(r, 8);
    return p ? gw_load64(p) : 0;
}

/* The writer never writes behind `end`; `bad` then says that the room did not suffice. */
struct gw_writer {
    uint8_t *start, *at, *end;
    bool bad;
};

static inline struct gw_writer gw_writer_of(void *room, size_t n)
{
    return (struct gw_writer){room, room, (uint8_t *)room + n, false};
}
static inline size_t gw_writer_used(const struct gw_writer *w)
{
    return (size_t)(w->at - w->start);
}
static inline size_t gw_writer_left(const struct gw_writer *w)
{
    return (size_t)(w->end - w->at);
}
static inline uint8_t *gw_write_room(struct gw_writer *w, size_t n)
{
    if (w->bad || gw_writer_left(w) < n) {
        w->bad = true;
        return NULL;
    }
    uint8_t *p = w->at;
    w->at += n;
    return p;
}
static inline void gw_write_bytes(struct gw_writer *w, const void *src, size_t n)
{
    uint8_t *p = gw_write_room(w, n);
    if (p && n)
        memcpy(p, src, n);
}
static inline void gw_write8(struct gw_writer *w, uint8_t v)
{
    gw_write_bytes(w, &v, 1);
}
static inline void gw_write16(struct gw_writer *w, uint16_t v)
{
    gw_write_bytes(w, &v, 2);
}
static inline void gw_write32(struct gw_writer *w, uint32_t v)
{
    gw_write_bytes(w, &v, 4);
}
static inline void gw_write64(struct gw_writer *w, uint64_t v)
{
    gw_write_bytes(w, &v, 8);
}
#endif
