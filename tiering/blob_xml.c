/* A strict scanner for the little XML that an object store answers with. */
#include "tiering/blob_xml.h"

#include <string.h>

struct name {
    const char *at;
    size_t bytes;
};

/* One closed element without elements in it, or one closed around others. */
struct element {
    struct name name, parent; /* parent.bytes 0: it is the root */
    uint32_t depth;           /* of the root: 1 */
    bool leaf;
    bool long_text; /* text was cut */
    const char *text;
    size_t text_bytes;
};

struct scanner {
    const char *at, *end;
    struct name open[GWI_XML_DEPTH_MAX];
    uint32_t depth;
    bool root_seen, leaf; /* leaf: nothing was closed in the innermost open one */
    bool long_text;
    char text[GWI_XML_TEXT_BYTES];
    size_t text_bytes;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == ':';
}

static bool same(struct name name, const char *text)
{
    return name.bytes == strlen(text) && memcmp(name.at, text, name.bytes) == 0;
}

static bool starts(const struct scanner *s, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(s->end - s->at) >= n && memcmp(s->at, text, n) == 0;
}

static bool skip_to(struct scanner *s, const char *text)
{
    size_t n = strlen(text);
    const char *found = memmem(s->at, (size_t)(s->end - s->at), text, n);
    if (!found)
        return false;
    s->at = found + n;
    return true;
}

static void skip_spaces(struct scanner *s)
{
    while (s->at < s->end && is_space(*s->at))
        s->at++;
}

static bool take_name(struct scanner *s, struct name *out)
{
    out->at = s->at;
    while (s->at < s->end && is_name(*s->at))
        s->at++;
    out->bytes = (size_t)(s->at - out->at);
    return out->bytes > 0 && out->bytes <= GWI_XML_NAME_MAX;
}

static void add_byte(struct scanner *s, char c)
{
    if (s->text_bytes + 1 < sizeof s->text)
        s->text[s->text_bytes++] = c;
    else
        s->long_text = true;
}

static void add_utf8(struct scanner *s, uint32_t c)
{
    if (c < 0x80) {
        add_byte(s, (char)c);
    } else if (c < 0x800) {
        add_byte(s, (char)(0xc0 | c >> 6));
        add_byte(s, (char)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        add_byte(s, (char)(0xe0 | c >> 12));
        add_byte(s, (char)(0x80 | (c >> 6 & 63)));
        add_byte(s, (char)(0x80 | (c & 63)));
    } else {
        add_byte(s, (char)(0xf0 | c >> 18));
        add_byte(s, (char)(0x80 | (c >> 12 & 63)));
        add_byte(s, (char)(0x80 | (c >> 6 & 63)));
        add_byte(s, (char)(0x80 | (c & 63)));
    }
}

/* "&...;" */
static bool take_entity(struct scanner *s)
{
    static const struct {
        const char *text;
        char c;
    } entities[] = {
        {"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < sizeof entities / sizeof *entities; i++) {
        if (starts(s, entities[i].text)) {
            s->at += strlen(entities[i].text);
            add_byte(s, entities[i].c);
            return true;
        }
    }
    if (!starts(s, "&#"))
        return false;
    s->at += 2;
    uint32_t base = 10, c = 0, digits = 0;
    if (s->at < s->end && *s->at == 'x') {
        base = 16;
        s->at++;
    }
    for (; s->at < s->end && *s->at != ';'; s->at++, digits++) {
        char d = *s->at;
        uint32_t v = d >= '0' && d <= '9'   ? (uint32_t)(d - '0')
                     : d >= 'a' && d <= 'f' ? (uint32_t)(d - 'a') + 10
                     : d >= 'A' && d <= 'F' ? (uint32_t)(d - 'A') + 10
                                            : 16;
        if (v >= base || digits >= 8)
            return false;
        c = c * base + v;
        if (c > 0x10ffff)
            return false;
    }
    if (s->at == s->end || digits == 0 || c == 0 || (c >= 0xd800 && c < 0xe000))
        return false;
    s->at++;
    add_utf8(s, c);
    return true;
}

/* Behind the name of an opening tag: attributes, which nobody needs, and its end. */
static bool take_attributes(struct scanner *s, bool *closed)
{
    for (;;) {
        skip_spaces(s);
        if (starts(s, "/>")) {
            s->at += 2;
            *closed = true;
            return true;
        }
        if (starts(s, ">")) {
            s->at++;
            *closed = false;
            return true;
        }
        struct name name;
        if (!take_name(s, &name) || !starts(s, "="))
            return false;
        s->at++;
        if (s->at == s->end || (*s->at != '"' && *s->at != '\''))
            return false;
        const char quote[] = {*s->at++, 0};
        if (!skip_to(s, quote))
            return false;
    }
}

static void close_element(struct scanner *s, struct element *out)
{
    out->depth = s->depth;
    out->name = s->open[s->depth - 1];
    out->parent = s->depth > 1 ? s->open[s->depth - 2] : (struct name){"", 0};
    out->leaf = s->leaf;
    out->long_text = s->long_text;
    s->text[s->text_bytes] = 0;
    out->text = s->text;
    out->text_bytes = s->text_bytes;
    s->depth--;
    s->leaf = false;
}

/* The next element that is closed: GW_OK; GW_END: the document is complete; GW_E_CORRUPT. */
static enum gw_status next(struct scanner *s, struct element *out)
{
    while (s->at < s->end) {
        if (*s->at != '<') {
            if (s->depth == 0) {
                if (!is_space(*s->at))
                    return GW_E_CORRUPT;
                s->at++;
            } else if (*s->at == '&') {
                if (!take_entity(s))
                    return GW_E_CORRUPT;
            } else if (*s->at == 0) {
                return GW_E_CORRUPT;
            } else {
                add_byte(s, *s->at++);
            }
        } else if (starts(s, "<?xml") && !s->root_seen) {
            if (!skip_to(s, "?>"))
                return GW_E_CORRUPT;
        } else if (starts(s, "<!--")) {
            s->at += 4;
            if (!skip_to(s, "-->"))
                return GW_E_CORRUPT;
        } else if (starts(s, "</")) {
            struct name name;
            s->at += 2;
            if (s->depth == 0 || !take_name(s, &name) ||
                name.bytes != s->open[s->depth - 1].bytes ||
                memcmp(name.at, s->open[s->depth - 1].at, name.bytes) != 0)
                return GW_E_CORRUPT;
            skip_spaces(s);
            if (!starts(s, ">"))
                return GW_E_CORRUPT;
            s->at++;
            close_element(s, out);
            return GW_OK;
        } else {
            bool closed;
            s->at++;
            if (s->depth == GWI_XML_DEPTH_MAX || (s->depth == 0 && s->root_seen) ||
                !take_name(s, &s->open[s->depth]) || !take_attributes(s, &closed))
                return GW_E_CORRUPT;
            s->depth++;
            s->root_seen = s->leaf = true;
            s->long_text = false;
            s->text_bytes = 0;
            if (closed) {
                close_element(s, out);
                return GW_OK;
            }
        }
    }
    return s->depth == 0 && s->root_seen ? GW_END : GW_E_CORRUPT;
}

static bool take_size(const struct element *e, uint64_t *out)
{
    uint64_t size = 0;
    if (e->text_bytes == 0 || e->text_bytes > 18)
        return false;
    for (size_t i = 0; i < e->text_bytes; i++) {
        if (e->text[i] < '0' || e->text[i] > '9')
            return false;
        size = size * 10 + (uint64_t)(e->text[i] - '0');
    }
    *out = size;
    return true;
}

enum gw_status gwi_xml_list(const char *xml, size_t n, gwi_xml_object_cb fn, void *ctx,
                            struct gwi_xml_page *page)
{
    struct scanner s = {.at = xml, .end = xml + n};
    struct element e;
    enum gw_status st;
    char key[GWI_XML_TEXT_BYTES] = "";
    uint64_t size = 0;
    bool has_key = false, has_size = false, has_truncated = false, is_list = false;
    page->truncated = false;
    page->token[0] = 0;
    while ((st = next(&s, &e)) == GW_OK) {
        if (e.depth == 1) {
            is_list = same(e.name, "ListBucketResult");
        } else if (e.depth == 3 && same(e.parent, "Contents")) {
            if (same(e.name, "Key")) {
                if (has_key || !e.leaf || e.long_text || e.text_bytes == 0 ||
                    memchr(e.text, 0, e.text_bytes))
                    return GW_E_CORRUPT;
                memcpy(key, e.text, e.text_bytes + 1);
                has_key = true;
            } else if (same(e.name, "Size")) {
                if (has_size || !e.leaf || !take_size(&e, &size))
                    return GW_E_CORRUPT;
                has_size = true;
            }
        } else if (e.depth == 2 && same(e.name, "Contents")) {
            /* Objects of whatever else the root is called never reach anybody. */
            if (!has_key || !has_size || !same(e.parent, "ListBucketResult"))
                return GW_E_CORRUPT;
            if ((st = fn(ctx, key, size)) != GW_OK)
                return st;
            has_key = has_size = false;
        } else if (e.depth == 2 && same(e.name, "IsTruncated")) {
            page->truncated = same((struct name){e.text, e.text_bytes}, "true");
            if (has_truncated || !e.leaf ||
                (!page->truncated && !same((struct name){e.text, e.text_bytes}, "false")))
                return GW_E_CORRUPT;
            has_truncated = true;
        } else if (e.depth == 2 && same(e.name, "NextContinuationToken")) {
            if (page->token[0] || !e.leaf || e.long_text)
                return GW_E_CORRUPT;
            memcpy(page->token, e.text, e.text_bytes + 1);
        }
    }
    return st == GW_END && is_list && has_truncated && !has_key && !has_size ? GW_OK : GW_E_CORRUPT;
}

static void copy_printable(const struct element *e, char *out, size_t room)
{
    size_t n = e->text_bytes < room - 1 ? e->text_bytes : room - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = e->text[i] >= ' ' && e->text[i] < 127 ? e->text[i] : '?';
    out[n] = 0;
}

void gwi_xml_error(const char *xml, size_t n, char code[64], char message[128])
{
    struct scanner s = {.at = xml, .end = xml + n};
    struct element e;
    code[0] = message[0] = 0;
    while (next(&s, &e) == GW_OK) {
        if (e.depth != 2 || !e.leaf || !same(e.parent, "Error"))
            continue;
        if (same(e.name, "Code") && !code[0])
            copy_printable(&e, code, 64);
        else if (same(e.name, "Message") && !message[0])
            copy_printable(&e, message, 128);
    }
}
