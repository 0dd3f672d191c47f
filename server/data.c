/* data.c - lock and identity of a data directory; see data.h.
 *
 * Rules: 1. The lock comes first, and ends with the process however it ends. 2. store.json is
 * written beside itself and renamed, so that it is always whole; it is in place before anything
 * else is written that carries the store's id. 3. A directory that we do not understand is left as
 * it is. */
#define _GNU_SOURCE
#include "server/data.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "index/base/checksum.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "index/base/rand.h"

#define PROGRAM        "godwit-server"
#define FILE_BYTES_MAX 65536

static enum gw_status said(enum gw_status st, const struct gwi_options *o, const char *what)
{
    fprintf(stderr, PROGRAM ": --data %s: %s: %s\n", o->data, what, strerror(errno));
    return st;
}

/* One process a directory: the lock says which. */
static enum gw_status take_lock(const struct gwi_options *o, int *out)
{
    char path[1100], pid[32] = "";
    if (mkdir(o->data, 0700) != 0 && errno != EEXIST)
        return said(GW_E_IO, o, "cannot be made");
    snprintf(path, sizeof path, "%s/lock", o->data);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return said(GW_E_IO, o,
                    errno == ENOTDIR
                        ? "is no directory; give one that is, or that can be made"
                        : "not writable by this user; change its owner or give another");
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
        fprintf(stderr,
                PROGRAM ": --data %s: in use by process %.*s; stop it first, or give another "
                        "directory\n",
                o->data, n > 0 ? (int)strcspn(pid, "\n") : 1, n > 0 ? pid : "?");
        close(fd);
        return GW_E_BUSY;
    }
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n) {
        enum gw_status st = said(GW_E_IO, o, "cannot write the lock");
        close(fd);
        return st;
    }
    *out = fd;
    return GW_OK;
}

/* ---- identity -------------------------------------------------------------------------------- */

/* *text: the file, owned by the caller; NULL when there is none. */
static enum gw_status read_identity(const struct gwi_options *o, const char *path, char **text)
{
    *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? GW_OK : said(GW_E_IO, o, "cannot open store.json");
    char *room = malloc(FILE_BYTES_MAX + 1);
    ssize_t n = room ? read(fd, room, FILE_BYTES_MAX) : -1;
    close(fd);
    if (n < 0) {
        free(room);
        return said(GW_E_IO, o, "cannot read store.json");
    }
    room[n] = 0;
    *text = room;
    return GW_OK;
}

uint32_t gwi_data_identity_crc(const struct json_t *root)
{
    static const char *const fields[] = {"format",     "program",          "server",
                                         "store",      "incarnation",      "checkpoint",
                                         "created_ms", "logs_incarnation", "logs"};
    uint32_t crc = 0;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        char *text = json_dumps(json_object_get(root, fields[i]), JSON_ENCODE_ANY);
        if (text) /* a field that is missing leaves its name */
            crc = gw_crc32c(crc, text, strlen(text));
        crc = gw_crc32c(crc, fields[i], strlen(fields[i]));
        free(text);
    }
    /* Not there in directories that never had a shared tier. */
    const char *blob = json_string_value(json_object_get(root, "blob"));
    return blob ? gw_crc32c(crc, blob, strlen(blob)) : crc;
}

/* Written beside and renamed: whoever reads finds the old one or the new one. */
static enum gw_status write_identity(const struct gwi_options *o, const char *path,
                                     const struct gwi_data *data)
{
    char beside[1200], id[24];
    snprintf(beside, sizeof beside, "%s.new", path);
    snprintf(id, sizeof id, "%016" PRIx64, data->store_id);
    json_t *root =
        json_pack("{s:i, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "format", (int)GWI_DATA_FORMAT,
                  "program", PROGRAM, "server", o->id, "store", id, "incarnation",
                  (json_int_t)data->incarnation, "checkpoint", (json_int_t)data->checkpoint,
                  "created_ms", (json_int_t)data->created_ms, "logs_incarnation",
                  (json_int_t)data->logs_incarnation, "logs", (json_int_t)data->logs_count);
    if (root && data->blob_url[0])
        json_object_set_new(root, "blob", json_string(data->blob_url));
    if (root)
        json_object_set_new(root, "crc", json_integer(gwi_data_identity_crc(root)));
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text)
        return GW_E_NOMEM;
    size_t bytes = strlen(text);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    enum gw_status st = fd >= 0 ? GW_OK : said(GW_E_IO, o, "cannot write store.json");
    if (st == GW_OK && (write(fd, text, bytes) != (ssize_t)bytes || fsync(fd) != 0))
        st = said(errno == ENOSPC ? GW_E_FULL : GW_E_IO, o,
                  "cannot write store.json; make room or give another directory");
    if (fd >= 0)
        close(fd);
    free(text);
    if (st == GW_OK && rename(beside, path) != 0)
        st = said(GW_E_IO, o, "cannot write store.json");
    int dir = st == GW_OK ? open(o->data, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (dir >= 0) {
        (void)fsync(dir); /* a file system that cannot: the name is as durable as it gets */
        close(dir);
    }
    return st;
}

static enum gw_status check_identity(const struct gwi_options *o, const char *text,
                                     struct gwi_data *data)
{
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    const char *server = json_string_value(json_object_get(root, "server"));
    const char *store = json_string_value(json_object_get(root, "store"));
    const char *program = json_string_value(json_object_get(root, "program"));
    json_int_t format = json_integer_value(json_object_get(root, "format"));
    json_int_t incarnation = json_integer_value(json_object_get(root, "incarnation"));
    json_int_t checkpoint = json_integer_value(json_object_get(root, "checkpoint"));
    json_int_t logs = json_integer_value(json_object_get(root, "logs"));
    json_int_t logs_of = json_integer_value(json_object_get(root, "logs_incarnation"));
    data->created_ms = json_integer_value(json_object_get(root, "created_ms"));
    enum gw_status st = GW_OK;
    char *end = NULL;
    if (!root || !program || strcmp(program, PROGRAM) != 0 || format <= 0) {
        fprintf(stderr,
                PROGRAM ": --data %s: store.json is damaged or not ours (%s); restore it, or give "
                        "another directory\n",
                o->data, root ? "it does not say that " PROGRAM " wrote it" : error.text);
        st = GW_E_CORRUPT;
    } else if (format != GWI_DATA_FORMAT) {
        fprintf(stderr,
                PROGRAM
                ": --data %s: written in format %lld, this version reads %u; use the version "
                "that wrote it, or another directory\n",
                o->data, (long long)format, GWI_DATA_FORMAT);
        st = GW_E_VERSION;
    } else if (!server || !store || strlen(store) != 16 ||
               (data->store_id = strtoull(store, &end, 16)) == 0 || *end || incarnation <= 0 ||
               incarnation >= UINT32_MAX || checkpoint < 0 || logs < 0 || logs > GWI_THREADS_MAX ||
               logs_of < 0 || logs_of > incarnation) {
        fprintf(stderr,
                PROGRAM ": --data %s: store.json is damaged (a field is missing or none); restore "
                        "it, or give another directory\n",
                o->data);
        st = GW_E_CORRUPT;
    } else if (strcmp(server, o->id) != 0) {
        fprintf(stderr,
                PROGRAM ": --data %s: belongs to server %s, not to --id %s; start it with that id, "
                        "or give another directory\n",
                o->data, server, o->id);
        st = GW_E_REFUSED;
    } else if (json_integer_value(json_object_get(root, "crc")) != gwi_data_identity_crc(root)) {
        fprintf(stderr,
                PROGRAM ": --data %s: store.json is damaged: its checksum differs; restore it, or "
                        "give another directory\n",
                o->data);
        st = GW_E_CORRUPT;
    }
    data->incarnation = (uint32_t)incarnation + 1;
    data->checkpoint = (uint64_t)checkpoint;
    data->logs_count = (uint32_t)logs;
    data->logs_incarnation = (uint32_t)logs_of;
    const char *blob = json_string_value(json_object_get(root, "blob"));
    if (st == GW_OK && blob)
        snprintf(data->blob_url, sizeof data->blob_url, "%s", blob);
    json_decref(root);
    return st;
}

/* Whoever has used a shared tier cannot be read without it: what was dropped from the disk, and
 * what its indirections lead to, lies there. */
static enum gw_status check_blob(const struct gwi_options *o, const struct gwi_data *data)
{
    if (data->blob_url[0] && !o->blob_url[0]) {
        fprintf(stderr,
                PROGRAM
                ": --data %s: a part of its records lies in the shared tier %s, and without "
                "it would be missing; give --blob, or another directory\n",
                o->data, data->blob_url);
        return GW_E_REFUSED;
    }
    if (data->blob_url[0] && strcmp(data->blob_url, o->blob_url) != 0)
        gw_warn("blob_url", "before=\"%s\" now=\"%s\" next=look_there_for_all_objects",
                data->blob_url, o->blob_url);
    return GW_OK;
}

static enum gw_status identify(const struct gwi_options *o, struct gwi_data *data)
{
    char path[1100], states[1100], *text;
    struct stat about;
    snprintf(path, sizeof path, "%s/store.json", o->data);
    snprintf(states, sizeof states, "%s/checkpoints", o->data);
    enum gw_status st = read_identity(o, path, &text);
    if (st != GW_OK)
        return st;
    if (text) {
        st = check_identity(o, text, data);
        free(text);
    } else if (stat(data->log_dir, &about) == 0 || stat(states, &about) == 0 ||
               stat(data->commit_dir, &about) == 0) {
        fprintf(stderr,
                PROGRAM ": --data %s: has a log, but no store.json that says whose; restore that "
                        "file, or give another directory\n",
                o->data);
        st = GW_E_REFUSED;
    } else {
        data->store_id = gw_rand_system_seed();
        data->incarnation = 1;
        data->created_ms = (int64_t)gw_clock_wall_ms(gw_clock_system());
    }
    if (st == GW_OK)
        st = check_blob(o, data);
    return st == GW_OK ? write_identity(o, path, data) : st;
}

enum gw_status gwi_data_open(const struct gwi_options *o, struct gwi_data *out)
{
    struct gwi_data data = {.lock_fd = -1};
    snprintf(data.log_dir, sizeof data.log_dir, "%s/log", o->data);
    snprintf(data.commit_dir, sizeof data.commit_dir, "%s/commit", o->data);
    enum gw_status st = take_lock(o, &data.lock_fd);
    if (st == GW_OK)
        st = identify(o, &data);
    if (st != GW_OK) {
        gwi_data_close(&data);
        return st;
    }
    *out = data;
    return GW_OK;
}

enum gw_status gwi_data_note_checkpoint(const struct gwi_options *o, struct gwi_data *data,
                                        uint64_t number)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/store.json", o->data);
    data->checkpoint = number;
    return write_identity(o, path, data);
}

enum gw_status gwi_data_note_logs(const struct gwi_options *o, struct gwi_data *data,
                                  uint32_t count)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/store.json", o->data);
    data->logs_count = count;
    data->logs_incarnation = data->incarnation;
    return write_identity(o, path, data);
}

enum gw_status gwi_data_note_blob(const struct gwi_options *o, struct gwi_data *data)
{
    char path[1100];
    if (strcmp(data->blob_url, o->blob_url) == 0)
        return GW_OK;
    snprintf(path, sizeof path, "%s/store.json", o->data);
    snprintf(data->blob_url, sizeof data->blob_url, "%s", o->blob_url);
    return write_identity(o, path, data);
}

enum gw_status gwi_data_identity_of_copy(const struct gwi_options *o, const struct gwi_data *data,
                                         uint64_t number, const char *path)
{
    struct gwi_data copy = {.store_id = data->store_id,
                            .incarnation = data->incarnation,
                            .created_ms = data->created_ms,
                            .checkpoint = number};
    return write_identity(o, path, &copy);
}

void gwi_data_close(struct gwi_data *data)
{
    if (data->lock_fd >= 0)
        close(data->lock_fd);
    data->lock_fd = -1;
}

enum gw_status gwi_data_free_bytes(const struct gwi_options *o, uint64_t *bytes)
{
    struct statvfs about;
    if (statvfs(o->data, &about) != 0)
        return said(GW_E_IO, o, "the file system does not say how much room it has");
    *bytes = (uint64_t)about.f_bavail * about.f_frsize;
    return GW_OK;
}
