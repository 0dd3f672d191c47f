/* manifest.c - see manifest.h. */
#include "server/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/checksum.h"

#define PATH_BYTES  1600
#define CHUNK_BYTES ((size_t)1 << 20)

void gwi_manifest_fini(struct gwi_manifest *m)
{
    free(m->file);
    free(m->slots);
    *m = (struct gwi_manifest){0};
}

static json_t *to_json(const struct gwi_manifest *m)
{
    char store[24], cluster[24], seed[24];
    json_t *files = json_array();
    for (uint32_t i = 0; files && i < m->files; i++)
        json_array_append_new(files, json_pack("{s:s, s:I, s:I}", "name", m->file[i].name, "bytes",
                                               (json_int_t)m->file[i].bytes, "crc32c",
                                               (json_int_t)m->file[i].crc));
    snprintf(store, sizeof store, "%016llx", (unsigned long long)m->store_id);
    snprintf(cluster, sizeof cluster, "%016llx", (unsigned long long)m->cluster);
    snprintf(seed, sizeof seed, "%016llx", (unsigned long long)m->hash_seed);
    return json_pack("{s:i, s:s, s:s, s:I, s:I, s:s, s:s, s:I, s:s, s:o}", "format",
                     (int)GWI_MANIFEST_FORMAT, "server", m->server, "store", store, "checkpoint",
                     (json_int_t)m->checkpoint, "created_ms", (json_int_t)m->created_ms, "cluster",
                     cluster, "hash_seed", seed, "map_version", (json_int_t)m->map_version, "slots",
                     m->slots ? m->slots : "", "files", files);
}

static bool write_all(int fd, const char *text, size_t bytes)
{
    while (bytes > 0) {
        ssize_t n = write(fd, text, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        bytes -= (size_t)n;
    }
    return true;
}

enum gw_status gwi_manifest_write(const char *dir, const struct gwi_manifest *m)
{
    char path[PATH_BYTES], beside[PATH_BYTES + 8];
    json_t *root = to_json(m);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (!text)
        return GW_E_NOMEM;
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    snprintf(beside, sizeof beside, "%s.new", path);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write_all(fd, text, strlen(text)) && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    free(text);
    if (good && rename(beside, path) != 0) {
        error = errno;
        good = false;
    }
    int at = good ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (at >= 0) {
        good = fsync(at) == 0;
        close(at);
    }
    return good ? GW_OK : error == ENOSPC ? GW_E_FULL : GW_E_IO;
}

enum gw_status gwi_manifest_read(const char *dir, struct gwi_manifest *out)
{
    char path[PATH_BYTES];
    json_error_t error;
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    if (access(path, F_OK) != 0)
        return GW_NOT_FOUND;
    json_t *root = json_load_file(path, 0, &error), *files = json_object_get(root, "files"), *one;
    const char *server = json_string_value(json_object_get(root, "server"));
    const char *store = json_string_value(json_object_get(root, "store"));
    const char *cluster = json_string_value(json_object_get(root, "cluster"));
    const char *seed = json_string_value(json_object_get(root, "hash_seed"));
    const char *slots = json_string_value(json_object_get(root, "slots"));
    size_t count = json_array_size(files), i;
    *out = (struct gwi_manifest){0};
    enum gw_status st = GW_E_CORRUPT;
    if (!server || !store || !cluster || !seed || !slots || strlen(server) >= sizeof out->server ||
        json_integer_value(json_object_get(root, "format")) != GWI_MANIFEST_FORMAT ||
        count > UINT32_MAX)
        goto end;
    snprintf(out->server, sizeof out->server, "%s", server);
    out->store_id = strtoull(store, NULL, 16);
    out->checkpoint = (uint64_t)json_integer_value(json_object_get(root, "checkpoint"));
    out->created_ms = (uint64_t)json_integer_value(json_object_get(root, "created_ms"));
    out->cluster = strtoull(cluster, NULL, 16);
    out->hash_seed = strtoull(seed, NULL, 16);
    out->map_version = (uint64_t)json_integer_value(json_object_get(root, "map_version"));
    out->slots = strdup(slots);
    out->file = calloc(count ? count : 1, sizeof *out->file);
    st = out->file && out->slots ? GW_OK : GW_E_NOMEM;
    json_array_foreach(files, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name"));
        /* Names that lead out of the directory are not ours. */
        if (st != GW_OK || !name || !name[0] || name[0] == '/' || strstr(name, "..") ||
            strlen(name) >= sizeof out->file[i].name) {
            st = st == GW_OK ? GW_E_CORRUPT : st;
            break;
        }
        snprintf(out->file[i].name, sizeof out->file[i].name, "%s", name);
        out->file[i].bytes = (uint64_t)json_integer_value(json_object_get(one, "bytes"));
        out->file[i].crc = (uint32_t)json_integer_value(json_object_get(one, "crc32c"));
        out->files++;
    }
end:
    json_decref(root);
    if (st != GW_OK)
        gwi_manifest_fini(out);
    return st;
}

/* "" or what is wrong. */
static const char *check_file(const char *dir, const struct gwi_manifest_file *f, uint8_t *room)
{
    char path[PATH_BYTES];
    struct stat about;
    snprintf(path, sizeof path, "%s/%s", dir, f->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return "missing, or cannot be opened";
    const char *wrong = "";
    uint32_t crc = 0;
    if (fstat(fd, &about) != 0 || (uint64_t)about.st_size != f->bytes)
        wrong = "not as long as the manifest says";
    for (uint64_t at = 0; wrong[0] == 0 && at < f->bytes;) {
        ssize_t n = read(fd, room, CHUNK_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            wrong = "cannot be read to its end";
            break;
        }
        crc = gw_crc32c(crc, room, (size_t)n);
        at += (uint64_t)n;
    }
    close(fd);
    if (wrong[0] == 0 && crc != f->crc)
        wrong = "its checksum differs from the manifest's";
    return wrong;
}

bool gwi_manifest_check(const char *dir, gwi_manifest_cb fn, void *ctx)
{
    struct gwi_manifest m;
    enum gw_status st = gwi_manifest_read(dir, &m);
    if (st == GW_NOT_FOUND)
        return false;
    fn(ctx, "manifest.json", 0, st == GW_OK ? "" : "damaged, or of another version");
    uint8_t *room = st == GW_OK ? malloc(CHUNK_BYTES) : NULL;
    for (uint32_t i = 0; room && i < m.files; i++)
        fn(ctx, m.file[i].name, m.file[i].bytes, check_file(dir, &m.file[i], room));
    free(room);
    if (st == GW_OK)
        gwi_manifest_fini(&m);
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

bool gwi_manifest_parts(const char *dir, struct gwi_manifest_list *out)
{
    DIR *d = opendir(dir);
    out->count = 0;
    for (struct dirent *e; d && out->count < GWI_MANIFEST_PARTS_MAX && (e = readdir(d));) {
        char path[PATH_BYTES];
        if (e->d_name[0] == '.' || strlen(e->d_name) >= sizeof out->name[0])
            continue;
        snprintf(path, sizeof path, "%s/%s/manifest.json", dir, e->d_name);
        if (access(path, F_OK) == 0)
            strcpy(out->name[out->count++], e->d_name); /* its length was looked at */
    }
    if (d)
        closedir(d);
    qsort(out->name, out->count, sizeof out->name[0], by_name);
    return out->count != 0;
}
