/* recover_files.c - finding and loading state files; see recover_files.h. */
#define _GNU_SOURCE
#include "server/recover_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/log_line.h"

#define PATH_BYTES 1200u

static void insert(struct gwi_states *s, uint64_t number)
{
    uint32_t at = 0;
    while (at < s->count && s->number[at] > number)
        at++;
    if (at == GWI_STATES_MAX)
        return;
    uint32_t end = s->count < GWI_STATES_MAX ? s->count : GWI_STATES_MAX - 1;
    memmove(&s->number[at + 1], &s->number[at], (end - at) * sizeof s->number[0]);
    s->number[at] = number;
    s->count = end + 1;
}

enum gw_status gwi_states_find(const char *data, struct gwi_states *out)
{
    char path[PATH_BYTES];
    struct gwi_states s = {.count = 0};
    snprintf(path, sizeof path, "%s/checkpoints", data);
    DIR *dir = mkdir(path, 0700) == 0 || errno == EEXIST ? opendir(path) : NULL;
    if (!dir) {
        fprintf(stderr, "godwit-server: --data %s: checkpoints/ cannot be made or read: %s\n", data,
                strerror(errno));
        return GW_E_IO;
    }
    const struct dirent *e;
    while ((e = readdir(dir))) {
        char name[64];
        size_t n = strlen(e->d_name);
        bool unfinished = n > 4 && strcmp(e->d_name + n - 4, ".tmp") == 0;
        snprintf(name, sizeof name, "%.*s", (int)(unfinished ? n - 4 : n), e->d_name);
        uint64_t state = gwi_state_number(name), index = gwi_index_number(name);
        if (unfinished && (state || index)) {
            (void)unlinkat(dirfd(dir), e->d_name, 0); /* else it is written over */
            continue;
        }
        if (state)
            insert(&s, state);
        if (state > s.highest || index > s.highest)
            s.highest = state > index ? state : index;
        if (!state && !index && e->d_name[0] != '.')
            gw_warn("checkpoints_unknown_file", "file=\"%s\" next=leave_alone", e->d_name);
    }
    closedir(dir);
    *out = s;
    return GW_OK;
}

static enum gw_status read_whole(const char *path, uint8_t **bytes, size_t *n)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? GW_NOT_FOUND : GW_E_IO;
    enum gw_status st = GW_E_IO;
    uint8_t *room = NULL;
    if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode)) {
        room = malloc((size_t)about.st_size + 1);
        st = room ? GW_OK : GW_E_NOMEM;
    }
    size_t at = 0, all = room ? (size_t)about.st_size : 0;
    while (st == GW_OK && at < all) {
        ssize_t got = read(fd, room + at, all - at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            st = GW_E_IO;
        if (got <= 0)
            break;
        at += (size_t)got;
    }
    close(fd);
    if (st != GW_OK) {
        free(room);
        return st;
    }
    *bytes = room;
    *n = at;
    return GW_OK;
}

enum gw_status gwi_state_load(const char *data, const struct gwi_data *identity,
                              const char *server_id, uint64_t number, struct gwi_loaded *out,
                              char *why, size_t why_bytes)
{
    char path[PATH_BYTES], name[64], wrong[GWI_STATE_WHY] = "";
    struct gwi_loaded x = {.bytes = NULL};
    snprintf(path, sizeof path, "%s/checkpoints/%s", data, gwi_state_name(number, name));
    enum gw_status st = read_whole(path, &x.bytes, &x.n);
    if (st == GW_OK)
        st = gwi_state_decode(x.bytes, x.n, &x.state, wrong);
    else
        snprintf(wrong, sizeof wrong, "%s",
                 st == GW_NOT_FOUND ? "it is missing" : gw_status_text(st));
    if (st == GW_OK && x.state.store_id != identity->store_id) {
        st = GW_E_REFUSED;
        snprintf(wrong, sizeof wrong,
                 "it belongs to store %016" PRIx64 ", store.json says %016" PRIx64,
                 x.state.store_id, identity->store_id);
    } else if (st == GW_OK && strcmp(x.state.server_id, server_id) != 0) {
        st = GW_E_REFUSED;
        snprintf(wrong, sizeof wrong, "it belongs to another server");
    } else if (st == GW_OK && x.state.image.number != number) {
        st = GW_E_CORRUPT;
        snprintf(wrong, sizeof wrong, "it is checkpoint %" PRIu64 " under another's name",
                 x.state.image.number);
    }
    if (st != GW_OK) {
        snprintf(why, why_bytes, "checkpoints/%s: %s", name, wrong[0] ? wrong : gw_status_text(st));
        gwi_state_unload(&x);
        return st;
    }
    *out = x;
    return GW_OK;
}

void gwi_state_unload(struct gwi_loaded *x)
{
    gwi_state_fini(&x->state);
    free(x->bytes);
    *x = (struct gwi_loaded){.bytes = NULL};
}

void gwi_states_set_aside(const char *data, uint64_t number)
{
    char path[PATH_BYTES], aside[PATH_BYTES + 8], name[64];
    snprintf(path, sizeof path, "%s/checkpoints/%s", data, gwi_state_name(number, name));
    snprintf(aside, sizeof aside, "%s.bad", path);
    if (rename(path, aside) != 0)
        gw_warn("set_aside", "file=%s error=\"%s\" next=go_on", name, strerror(errno));
    else
        gw_warn("set_aside", "file=%s now=%s.bad", name, name);
}
