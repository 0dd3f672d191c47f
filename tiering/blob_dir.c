/* An object store in a directory that all servers of a cluster share.
 *
 * An object is a file of its name. Rules:
 *  1. A put writes a file of another name (a dot first, so it is no object's), syncs it, renames
 *     it, and syncs its directory: whatever a crash leaves, a name has all of its bytes or none.
 *  2. Such files that a crash left are removed by a list that comes across them, when nobody has
 *     written to them for an hour.
 *  3. A put is written in steps, between which gets are answered: one file of tens of megabytes
 *     does not stand before a cold read. It is synced as it goes, so that the last sync is short.
 *  4. Names are listed in the order of their bytes, as S3 does: within a directory a sub-directory
 *     sorts as if its name ended in a slash.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "index/base/assert.h"
#include "index/base/clock.h"
#include "index/base/rand.h"
#include "tiering/blob_internal.h"

#define STEP_BYTES   ((size_t)1 << 20)
#define SYNC_BYTES   ((size_t)4 << 20)
#define LEFT_SECONDS 3600
#define TEXT_BYTES   GW_BLOB_TEXT_BYTES
#define PATH_BYTES   (GW_BLOB_NAME_MAX + 64)

struct dir_try {
    struct gwi_blob_try base;
    struct dir_try *next;
    int fd; /* of a put: the file that becomes it; -1 */
    size_t written;
    char temp[PATH_BYTES];
};

struct dir_backend {
    struct gwi_blob_backend base;
    int root;
    int event;
    uint64_t salt, temps; /* names of files that are being written */
    struct dir_try *tries;
};

/* ---- failures ---- */

static enum gwi_blob_outcome failed(const struct dir_backend *dir, const struct gwi_blob_call *call,
                                    const char *what, int code, char text[TEXT_BYTES])
{
    const char *advice = "";
    enum gwi_blob_outcome outcome = GWI_BLOB_PASSING;
    if (code == ENOSPC || code == EDQUOT) {
        outcome = GWI_BLOB_FULL;
        advice = "; the directory of the object store needs room";
    } else if (code == EACCES || code == EPERM || code == EROFS) {
        outcome = GWI_BLOB_REFUSED;
        advice = "; look at its owner, mode and mount";
    } else if (code == ENOTDIR || code == EISDIR || code == ENAMETOOLONG || code == EFBIG) {
        outcome = GWI_BLOB_HOPELESS;
    }
    snprintf(text, TEXT_BYTES, "%.60s: %s of %.40s: %s: %.40s%.50s", dir->base.host,
             gwi_blob_kind_name(call->kind), call->name, what, strerror(code), advice);
    return outcome;
}

/* ---- put ---- */

static int sync_parent(struct dir_backend *dir, const char *path)
{
    char parent[PATH_BYTES];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash)
        *slash = 0;
    int fd = openat(dir->root, slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd), code = errno;
    close(fd);
    errno = code;
    return rc;
}

/* The directories above a name. Each new one is synced into its parent. */
static int make_parents(struct dir_backend *dir, const char *name)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s", name);
    for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdirat(dir->root, path, 0777) == 0) {
            if (sync_parent(dir, path) != 0)
                return -1;
        } else if (errno != EEXIST) {
            return -1;
        }
        *slash = '/';
    }
    return 0;
}

static int open_temp(struct dir_backend *dir, struct dir_try *t)
{
    const char *name = t->base.call->name;
    const char *slash = strrchr(name, '/');
    snprintf(t->temp, sizeof t->temp, "%.*s.%016llx-%llu", slash ? (int)(slash + 1 - name) : 0,
             name, (unsigned long long)dir->salt, (unsigned long long)dir->temps++);
    for (int round = 0; round < 2; round++) {
        t->fd = openat(dir->root, t->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (t->fd >= 0)
            return 0;
        if (errno != ENOENT || round > 0 || make_parents(dir, name) != 0)
            return -1;
    }
    return -1;
}

static void drop_temp(struct dir_backend *dir, struct dir_try *t)
{
    if (t->fd < 0)
        return;
    close(t->fd);
    t->fd = -1;
    (void)unlinkat(dir->root, t->temp, 0); /* else a list removes it one day */
}

/* One step (rule 3); false: there is more. */
static bool put_step(struct dir_backend *dir, struct dir_try *t, struct gwi_blob_result *result,
                     char text[TEXT_BYTES])
{
    const struct gwi_blob_call *call = t->base.call;
    const char *what = "open";
    if (t->fd < 0 && open_temp(dir, t) != 0)
        goto fail;
    what = "write";
    size_t step_end = t->written + STEP_BYTES < call->bytes ? t->written + STEP_BYTES : call->bytes;
    while (t->written < step_end) {
        ssize_t n = write(t->fd, call->data + t->written, step_end - t->written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                errno = EIO;
            goto fail;
        }
        t->written += (size_t)n;
        if (t->written / SYNC_BYTES != (t->written - (size_t)n) / SYNC_BYTES &&
            fdatasync(t->fd) != 0)
            goto fail;
    }
    if (t->written < call->bytes)
        return false;
    what = "sync";
    if (fsync(t->fd) != 0)
        goto fail;
    what = "rename";
    if (renameat(dir->root, t->temp, dir->root, call->name) != 0)
        goto fail;
    close(t->fd);
    t->fd = -1;
    what = "sync of its directory";
    if (sync_parent(dir, call->name) != 0)
        goto fail;
    result->outcome = GWI_BLOB_DONE;
    result->up = t->written;
    return true;

fail:
    result->outcome = failed(dir, call, what, errno, text);
    result->up = t->written;
    drop_temp(dir, t);
    return true;
}

/* ---- get ---- */

static void get(struct dir_backend *dir, const struct gwi_blob_call *call, uint8_t **room,
                struct gwi_blob_result *result, char text[TEXT_BYTES])
{
    const char *what = "open";
    struct stat st;
    int fd = openat(dir->root, call->name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        /* Absent is what the store as a whole says, not a mount that has gone: the root must be
         * the one that was opened, which a descriptor of it is, and it must still have a name. */
        int code = errno;
        if (code == ENOENT && fstat(dir->root, &st) == 0 && st.st_nlink > 0) {
            result->outcome = GWI_BLOB_ABSENT;
            return;
        }
        result->outcome = failed(dir, call, what, code, text);
        return;
    }
    what = "size";
    if (fstat(fd, &st) != 0)
        goto fail;
    if (!S_ISREG(st.st_mode)) {
        errno = EISDIR;
        goto fail;
    }
    uint64_t size = (uint64_t)st.st_size;
    uint64_t left = call->offset < size ? size - call->offset : 0;
    size_t want = call->bytes && call->bytes < left ? call->bytes : (size_t)left;
    what = "memory for it";
    if (want > GWI_BLOB_BODY_MAX) {
        errno = EFBIG;
        goto fail;
    }
    if (!(*room = malloc(want ? want : 1))) {
        errno = ENOMEM;
        goto fail;
    }
    what = "read";
    size_t got = 0;
    while (got < want) {
        ssize_t n = pread(fd, *room + got, want - got, (off_t)(call->offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                errno = EIO; /* it became shorter: somebody else writes here */
            goto fail;
        }
        got += (size_t)n;
    }
    close(fd);
    *result = (struct gwi_blob_result){GWI_BLOB_DONE, *room, got, 0, got, NULL};
    return;

fail:
    result->outcome = failed(dir, call, what, errno, text);
    close(fd);
}

/* ---- delete ---- */

static void delete_(struct dir_backend *dir, const struct gwi_blob_call *call,
                    struct gwi_blob_result *result, char text[TEXT_BYTES])
{
    result->outcome = GWI_BLOB_DONE;
    if (unlinkat(dir->root, call->name, 0) != 0) {
        if (errno != ENOENT)
            result->outcome = failed(dir, call, "unlink", errno, text);
    } else if (sync_parent(dir, call->name) != 0) {
        result->outcome = failed(dir, call, "sync of its directory", errno, text);
    }
}

/* ---- list ---- */

struct names {
    char **names; /* owned; directories end in a slash */
    size_t count, room;
};

static void names_fini(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->names[i]);
    free(names->names);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool names_add(struct names *names, const char *above, const char *name, bool directory)
{
    if (names->count == names->room) {
        size_t room = names->room ? names->room * 2 : 64;
        char **more = realloc(names->names, room * sizeof *more);
        if (!more)
            return false;
        names->names = more;
        names->room = room;
    }
    if (asprintf(&names->names[names->count], "%s%s%s", above, name, directory ? "/" : "") < 0)
        return false;
    names->count++;
    return true;
}

/* Whether any name that begins with `path` can be wanted. */
static bool wanted_below(const struct gwi_blob_call *call, const char *path)
{
    size_t n = strlen(path), prefix = strlen(call->name);
    if (strncmp(path, call->name, n < prefix ? n : prefix) != 0)
        return false;
    /* All below is behind `after`, or `after` lies within. */
    return strcmp(path, call->after) > 0 || strncmp(path, call->after, n) == 0;
}

static void remove_left(int fd, const char *name) /* rule 2 */
{
    struct stat st;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
        st.st_mtime < time(NULL) - LEFT_SECONDS)
        (void)unlinkat(fd, name, 0);
}

static bool is_temp(const char *name)
{
    return name[0] == '.' && strspn(name + 1, "0123456789abcdef") == 16 && name[17] == '-' &&
           name[18] && strspn(name + 18, "0123456789") == strlen(name + 18);
}

/* What a directory has (`above`: its path with a slash, or "") that can be wanted, sorted.
 * 0 or an errno. */
static int read_names(struct dir_backend *dir, const struct gwi_blob_call *call, const char *above,
                      struct names *names)
{
    int fd = openat(dir->root, above[0] ? above : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT && above[0] ? 0 : errno; /* gone meanwhile */
    DIR *stream = fdopendir(fd);
    if (!stream) {
        int code = errno;
        close(fd);
        return code;
    }
    int code = 0;
    struct dirent *entry;
    while (code == 0 && (errno = 0, entry = readdir(stream)) != NULL) {
        char path[GW_BLOB_NAME_MAX + 1];
        struct stat st;
        if (is_temp(entry->d_name))
            remove_left(fd, entry->d_name);
        int n = snprintf(path, sizeof path, "%s%s", above, entry->d_name);
        if (n < 0 || (size_t)n >= sizeof path || !gwi_blob_name_valid(path))
            continue; /* nobody can have put it */
        if (fstatat(fd, entry->d_name, &st, 0) != 0) {
            if (errno != ENOENT)
                code = errno;
            continue;
        }
        if (S_ISDIR(st.st_mode)) {
            if ((size_t)n + 1 >= sizeof path)
                continue;
            memcpy(path + n, "/", 2);
            if (wanted_below(call, path) && !names_add(names, above, entry->d_name, true))
                code = ENOMEM;
        } else if (S_ISREG(st.st_mode) && strcmp(path, call->after) > 0 &&
                   strncmp(path, call->name, strlen(call->name)) == 0 &&
                   !names_add(names, above, entry->d_name, false)) {
            code = ENOMEM;
        }
    }
    if (code == 0)
        code = errno;
    closedir(stream);
    if (code == 0 && names->count > 0)
        qsort(names->names, names->count, sizeof *names->names, by_name);
    return code;
}

/* Recursion ends with the length of a name. 0, or an errno; EOVERFLOW: as many as a call gives. */
static int walk(struct dir_backend *dir, struct gwi_blob_call *call, const char *above)
{
    struct names names = {0};
    int code = read_names(dir, call, above, &names);
    for (size_t i = 0; i < names.count && code == 0; i++) {
        const char *name = names.names[i];
        struct stat st;
        if (name[strlen(name) - 1] == '/') {
            code = walk(dir, call, name);
        } else if (fstatat(dir->root, name, &st, 0) != 0) {
            code = errno == ENOENT ? 0 : errno;
        } else {
            enum gw_status added = gwi_blob_found(call, name, (uint64_t)st.st_size);
            GW_ASSERT(added != GW_E_CORRUPT);
            code = added == GW_OK ? 0 : added == GW_END ? EOVERFLOW : ENOMEM;
        }
    }
    names_fini(&names);
    return code;
}

static void list(struct dir_backend *dir, struct gwi_blob_call *call,
                 struct gwi_blob_result *result, char text[TEXT_BYTES])
{
    call->found_bytes = call->found_count = 0; /* of an earlier try */
    int code = walk(dir, call, "");
    result->outcome = code == 0 || code == EOVERFLOW
                          ? GWI_BLOB_DONE
                          : failed(dir, call, "reading a directory", code, text);
}

/* ---- the backend ---- */

static enum gw_status dir_begin(struct gwi_blob_backend *backend, struct gwi_blob_call *call,
                                bool fresh, struct gwi_blob_try **out)
{
    struct dir_backend *dir = (struct dir_backend *)backend;
    struct dir_try *t = malloc(sizeof *t);
    (void)fresh; /* there are no connections */
    (void)call;
    if (!t)
        return GW_E_NOMEM;
    *t = (struct dir_try){.fd = -1, .next = dir->tries};
    dir->tries = t;
    *out = &t->base;
    return GW_OK;
}

static void unlink_try(struct dir_backend *dir, struct dir_try *t)
{
    struct dir_try **at = &dir->tries;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
}

static void dir_cancel(struct gwi_blob_backend *backend, struct gwi_blob_try *try_, uint64_t *up,
                       uint64_t *down)
{
    struct dir_backend *dir = (struct dir_backend *)backend;
    struct dir_try *t = (struct dir_try *)try_;
    *up = t->written;
    *down = 0;
    unlink_try(dir, t);
    drop_temp(dir, t);
    free(t);
}

/* One step of one try; gets and the like first. */
static void step(struct dir_backend *dir)
{
    struct dir_try *t = dir->tries;
    for (struct dir_try *other = t; other; other = other->next) /* the oldest is the last */
        if (other->base.call->kind != GWI_BLOB_PUT || t->base.call->kind == GWI_BLOB_PUT)
            t = other;
    struct gwi_blob_call *call = t->base.call;
    char text[TEXT_BYTES] = "";
    uint8_t *room = NULL;
    struct gwi_blob_result result = {.text = text};
    bool ended = true;
    switch (call->kind) {
    case GWI_BLOB_PUT:
        ended = put_step(dir, t, &result, text);
        break;
    case GWI_BLOB_GET:
        get(dir, call, &room, &result, text);
        break;
    case GWI_BLOB_DELETE:
        delete_(dir, call, &result, text);
        break;
    case GWI_BLOB_LIST:
        list(dir, call, &result, text);
        break;
    }
    t->base.moved_ns = gw_clock_now_ns(gw_clock_system());
    if (!ended)
        return;
    unlink_try(dir, t);
    gwi_blob_ended(dir->base.blob, &t->base, &result);
    free(room);
    free(t);
}

static void dir_run(struct gwi_blob_backend *backend, uint64_t wait_ns)
{
    struct dir_backend *dir = (struct dir_backend *)backend;
    if (dir->tries) {
        step(dir);
        return;
    }
    struct pollfd wait = {.fd = dir->event, .events = POLLIN};
    int ms = wait_ns >= UINT64_C(1000000000) ? 1000 : (int)((wait_ns + 999999) / 1000000);
    uint64_t count;
    if (poll(&wait, 1, ms) > 0 && read(dir->event, &count, sizeof count) < 0)
        return; /* EAGAIN: nothing but an early look at the queue */
}

static void dir_wake(struct gwi_blob_backend *backend)
{
    uint64_t one = 1;
    ssize_t n = write(((struct dir_backend *)backend)->event, &one, sizeof one);
    (void)n; /* it fails only when it is readable already */
}

static void dir_close(struct gwi_blob_backend *backend)
{
    struct dir_backend *dir = (struct dir_backend *)backend;
    close(dir->event);
    close(dir->root);
    free(dir);
}

static const struct gwi_blob_ops dir_ops = {
    .begin = dir_begin,
    .cancel = dir_cancel,
    .run = dir_run,
    .wake = dir_wake,
    .close = dir_close,
};

enum gw_status gwi_blob_dir_open(const char *rest, const struct gw_blob_options *options,
                                 struct gwi_blob_backend **out, char *error, size_t error_bytes)
{
    if (!rest[0]) {
        snprintf(error, error_bytes, "'dir:' names no directory: dir:PATH is wanted");
        return GW_E_INVALID;
    }
    struct dir_backend *dir = calloc(1, sizeof *dir);
    if (!dir) {
        snprintf(error, error_bytes, "out of memory for the object store");
        return GW_E_NOMEM;
    }
    enum gw_status st = GW_E_REFUSED;
    dir->root = open(rest, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->root < 0) {
        snprintf(error, error_bytes, "the object store's directory %.300s: %s%s", rest,
                 strerror(errno), errno == ENOENT ? "; make it first" : "");
        goto fail_root;
    }
    if (faccessat(dir->root, ".", R_OK | W_OK | X_OK, AT_EACCESS) != 0) {
        snprintf(error, error_bytes, "the object store's directory %.300s cannot be used: %s", rest,
                 strerror(errno));
        goto fail_event;
    }
    dir->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (dir->event < 0) {
        snprintf(error, error_bytes, "no event descriptor for the object store: %s",
                 strerror(errno));
        st = GW_E_NOMEM;
        goto fail_event;
    }
    dir->base.ops = &dir_ops;
    dir->base.requests_max = options->requests_max;
    dir->base.puts_max = 1; /* they would only share the one thread */
    snprintf(dir->base.host, sizeof dir->base.host, "dir:%.100s", rest);
    dir->salt = gw_rand_system_seed();
    *out = &dir->base;
    return GW_OK;

fail_event:
    close(dir->root);
fail_root:
    free(dir);
    return st;
}
