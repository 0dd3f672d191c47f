/* verbs_tsv.c - export and load: the whole cluster as lines KEY<TAB>VALUE.
 *
 * A value that is a canonical decimal 64-bit integer is a counter. So that bytes which look like
 * one come back as bytes, `export` escapes their first character, which `load` undoes. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/flags.h"
#include "client/cli/key_set.h"
#include "client/cli/progress.h"
#include "client/cli/value.h"
#include "index/base/text.h"

#define OUTPUT_BYTES (1u << 20)
#define SHOW_EVERY   100000u
#define POLL_MS      10
#define ESCAPED_MAX  4u /* bytes for one */

/* ---- export --------------------------------------------------------------------------------- */

struct export
{
    struct gw_cli *cli;
    struct gw_key_set *seen;
    struct gw_progress progress;
    char *room; /* for one escaped key or value */
    size_t room_bytes;
    enum gw_status failure; /* of our own, not of the scan */
};

static bool reserve(struct export *export, size_t bytes)
{
    size_t need = bytes * ESCAPED_MAX + 1;
    if (need <= export->room_bytes)
        return true;
    char *room = realloc(export->room, need * 2);
    if (!room)
        return false;
    export->room = room;
    export->room_bytes = need * 2;
    return true;
}

static bool write_text(struct export *export, const void *bytes, size_t n)
{
    if (!reserve(export, n))
        return false;
    size_t len = gw_escape(bytes, n, export->room, export->room_bytes);
    fwrite(export->room, 1, len, stdout);
    return true;
}

static bool write_value(struct export *export, const struct gw_scan_item *item)
{
    int64_t number;
    if (item->kind == GW_VALUE_COUNTER) {
        printf("%" PRId64, item->number);
        return true;
    }
    const uint8_t *bytes = item->value;
    size_t n = item->value_bytes;
    if (gw_value_is_counter(item->value, n, &number)) {
        printf("\\x%02x", bytes[0]);
        bytes++;
        n--;
    }
    return write_text(export, bytes, n);
}

static bool write_line(struct export *export, const struct gw_scan_item *item)
{
    if (!write_text(export, item->key, item->key_bytes))
        return false;
    putchar_unlocked('\t');
    if (!write_value(export, item))
        return false;
    putchar_unlocked('\n');
    return true;
}

static bool write_entry(struct export *export, const struct gw_scan_item *item)
{
    bool counter = item->kind == GW_VALUE_COUNTER;
    json_t *entry =
        json_pack("{s:o, s:s, s:o}", "key", gw_value_json_text(item->key, item->key_bytes), "kind",
                  counter ? "counter" : "bytes", "value",
                  counter ? json_integer(item->number)
                          : gw_value_json_text(item->value, item->value_bytes));
    if (!entry)
        return false;
    if (item->expiry_ms)
        json_object_set_new(entry, "expiry_ms", json_integer((json_int_t)item->expiry_ms));
    if (gw_key_set_count(export->seen) > 1)
        fputs(",\n", stdout);
    json_dumpf(entry, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(entry);
    return true;
}

static bool exported(void *ctx, const struct gw_scan_item *item)
{
    struct export *export = ctx;
    enum gw_status st = gw_key_set_add(export->seen, item->key, item->key_bytes);
    if (st == GW_EXISTS) /* a slot moved under the scan */
        return true;
    if (st == GW_OK && !(export->cli->json ? write_entry(export, item) : write_line(export, item)))
        st = GW_E_NOMEM;
    if (st == GW_OK && ferror(stdout))
        st = GW_E_IO;
    export->failure = st;
    uint64_t count = gw_key_set_count(export->seen);
    if (count % SHOW_EVERY == 0) {
        char words[64];
        snprintf(words, sizeof words, "%" PRIu64 " keys", count);
        gw_progress_show(&export->progress, -1, words);
    }
    return st == GW_OK;
}

/* The rest of the document that began with {"entries":[ */
static enum gw_exit end_document(struct export *export, enum gw_status st)
{
    printf("],\n\"count\":%" PRIu64, gw_key_set_count(export->seen));
    if (st != GW_OK)
        printf(",\n\"error\":{\"status\":\"%s\",\"message\":\"export: %s\"}", gw_status_name(st),
               gw_status_text(st));
    fputs("}\n", stdout);
    enum gw_exit flushed = gw_cli_flush(export->cli);
    return st != GW_OK ? gw_cli_exit_of(st) : flushed;
}

enum gw_exit gwi_cli_export(struct gw_cli *cli, int argc, char **argv)
{
    struct export export = {.cli = cli};
    enum gw_exit code = gw_flags_parse_counted(cli, NULL, &argc, argv, 0, 0);
    if (code == GW_EXIT_OK)
        code = gw_cli_cluster(cli);
    if (code != GW_EXIT_OK)
        return code;
    if (gw_key_set_create(&export.seen) != GW_OK)
        return gw_cli_fail_status(cli, GW_E_NOMEM, "export");
    setvbuf(stdout, NULL, _IOFBF, OUTPUT_BYTES);
    gw_progress_init(&export.progress);
    if (cli->json)
        fputs("{\"entries\":[\n", stdout);
    enum gw_status st = gw_scan_all(cli->cluster, exported, &export);
    if (st == GW_END)
        st = export.failure;
    gw_progress_clear(&export.progress);
    if (cli->json) {
        code = end_document(&export, st);
    } else {
        code = gw_cli_flush(cli);
        if (st != GW_OK && st != GW_E_IO)
            code = gw_cli_fail_status(cli, st, "export stopped after %" PRIu64 " keys",
                                      gw_key_set_count(export.seen));
    }
    gw_key_set_destroy(export.seen);
    free(export.room);
    return code;
}

/* ---- load ----------------------------------------------------------------------------------- */

struct load {
    struct gw_cli *cli;
    bool bytes_only;
    uint64_t lines, stored, in_doubt;
    enum gw_status failure; /* the first that an answer brought */
    const char *wrong;      /* what is wrong with the line */
};

static void stored(void *ctx, const struct gw_result *result)
{
    struct load *load = ctx;
    if (result->status == GW_OK)
        load->stored++;
    else if (result->status == GW_IN_DOUBT)
        load->in_doubt++;
    else if (load->failure == GW_OK)
        load->failure = result->status;
}

/* Issues one line (without its end; it is unescaped in place). GW_E_INVALID: load->wrong says why.
 */
static enum gw_status load_line(struct load *load, char *line, size_t len)
{
    char *tab = memchr(line, '\t', len);
    if (!tab) {
        load->wrong = "has no tab";
        return GW_E_INVALID;
    }
    char *value = tab + 1;
    size_t value_text = len - (size_t)(value - line);
    int64_t number = 0;
    bool counter = !load->bytes_only && gw_value_is_counter(value, value_text, &number);
    size_t key_bytes = gw_unescape(line, (size_t)(tab - line), (uint8_t *)line);
    size_t value_bytes = gw_unescape(value, value_text, (uint8_t *)value);
    if (key_bytes == SIZE_MAX || value_bytes == SIZE_MAX) {
        load->wrong = "has an escape other than \\t \\n \\r \\\\ \\xHH";
        return GW_E_INVALID;
    }
    if (key_bytes == 0 || key_bytes > UINT16_MAX) {
        load->wrong = "has a key that is not 1 to 65,535 bytes long";
        return GW_E_INVALID;
    }
    struct gw_session *session = load->cli->session;
    for (;;) {
        enum gw_status st =
            counter ? gw_set_counter(session, line, key_bytes, number, stored, load)
                    : gw_set(session, line, key_bytes, value, value_bytes, stored, load);
        if (st != GW_WOULD_BLOCK || load->failure != GW_OK)
            return st;
        (void)gw_poll(session, POLL_MS);
    }
}

static enum gw_exit load_said(struct load *load, enum gw_status st)
{
    struct gw_cli *cli = load->cli;
    if (st == GW_E_INVALID && load->wrong)
        return gw_cli_fail(cli, GW_EXIT_FAILED, gw_status_name(st), "line %" PRIu64 " %s",
                           load->lines, load->wrong);
    if (st == GW_E_IO)
        return gw_cli_fail(cli, GW_EXIT_FAILED, gw_status_name(st), "cannot read the input: %s",
                           strerror(errno));
    if (st == GW_OK)
        st = load->failure;
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "load stopped at line %" PRIu64, load->lines);
    if (load->in_doubt)
        return gw_cli_fail(cli, GW_EXIT_FAILED, gw_status_name(GW_IN_DOUBT),
                           "%" PRIu64 " keys are in doubt: they may or may not be set",
                           load->in_doubt);
    if (cli->json)
        return gw_cli_print(cli, json_pack("{s:I}", "keys", (json_int_t)load->stored));
    fprintf(stderr, "%" PRIu64 " keys set\n", load->stored);
    return GW_EXIT_OK;
}

enum gw_exit gwi_cli_load(struct gw_cli *cli, int argc, char **argv)
{
    struct load load = {.cli = cli};
    const struct gw_flag flags[] = {{"--bytes", GW_FLAG_SWITCH, &load.bytes_only, 0, 0}, {0}};
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 0, 0);
    if (code == GW_EXIT_OK)
        code = gw_cli_session(cli);
    if (code != GW_EXIT_OK)
        return code;
    char *line = NULL;
    size_t line_bytes = 0;
    enum gw_status st = GW_OK;
    errno = 0;
    while (st == GW_OK && load.failure == GW_OK) {
        ssize_t len = getline(&line, &line_bytes, stdin);
        if (len < 0) {
            st = feof(stdin) ? GW_OK : GW_E_IO;
            break;
        }
        load.lines++;
        if (line[len - 1] == '\n')
            len--;
        if (len > 0)
            st = load_line(&load, line, (size_t)len);
    }
    int read_errno = errno;
    enum gw_status drained = gw_drain(cli->session, -1);
    if (st == GW_OK && drained != GW_OK)
        st = drained;
    errno = read_errno;
    free(line);
    return load_said(&load, st);
}
