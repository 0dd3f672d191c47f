/* migrate_wire.c - how many bytes two servers have sent each other, as the kernel counts them: the
 * tool's own witness beside what a job says of itself. Asks NETLINK_SOCK_DIAG (man 7 sock_diag) for
 * the TCP connections of this machine.
 *
 * A source opens the connections for chunks, a target those for its pulls; each is told from those
 * of clients by the port that it goes to and by not being one of this process. A connection's last
 * known numbers stay when it is closed, so what it sent after the last look is missing. */
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/migrate.h"
#include "index/base/text.h"

#define CONNS_MAX   512u
#define OWN_FDS_MAX 1024
#define ROOM_BYTES  32768u
#define ESTABLISHED 1u /* TCP_ESTABLISHED: in an enum that other headers define, too */

struct conn {
    uint32_t inode;
    uint64_t bulk, pulled;
};

struct gw_migrate_wire {
    int fd;
    uint16_t source_port, target_port;
    uint32_t sequence;
    uint32_t own_count, conns_count;
    uint32_t own[OWN_FDS_MAX]; /* inodes of this process's sockets */
    struct conn conns[CONNS_MAX];
    char room[ROOM_BYTES] __attribute__((aligned(8)));
};

struct gw_migrate_wire *gw_migrate_wire_open(const char *source, const char *target)
{
    char host[256];
    struct gw_migrate_wire *wire = calloc(1, sizeof *wire);
    if (!wire)
        return NULL;
    wire->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (wire->fd < 0 || gw_parse_address(source, host, sizeof host, &wire->source_port) != GW_OK ||
        gw_parse_address(target, host, sizeof host, &wire->target_port) != GW_OK) {
        gw_migrate_wire_close(wire);
        return NULL;
    }
    return wire;
}

void gw_migrate_wire_close(struct gw_migrate_wire *wire)
{
    if (!wire)
        return;
    if (wire->fd >= 0)
        close(wire->fd);
    free(wire);
}

static void list_own(struct gw_migrate_wire *wire)
{
    struct stat st;
    wire->own_count = 0;
    for (int fd = 0; fd < OWN_FDS_MAX; fd++)
        if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
            wire->own[wire->own_count++] = (uint32_t)st.st_ino;
}

static bool is_own(const struct gw_migrate_wire *wire, uint32_t inode)
{
    for (uint32_t i = 0; i < wire->own_count; i++)
        if (wire->own[i] == inode)
            return true;
    return false;
}

static void note(struct gw_migrate_wire *wire, const struct inet_diag_msg *m, size_t bytes)
{
    uint16_t to = ntohs(m->id.idiag_dport);
    if ((to != wire->source_port && to != wire->target_port) || is_own(wire, m->idiag_inode))
        return;
    const struct tcp_info *info = NULL;
    const struct rtattr *a = (const struct rtattr *)(const void *)(m + 1);
    size_t left = bytes - sizeof *m;
    while (left >= sizeof *a && a->rta_len >= sizeof *a && a->rta_len <= left) {
        if (a->rta_type == INET_DIAG_INFO &&
            RTA_PAYLOAD(a) >= offsetof(struct tcp_info, tcpi_segs_out))
            info = (const struct tcp_info *)(const void *)((const char *)a + RTA_LENGTH(0));
        size_t step = RTA_ALIGN(a->rta_len);
        if (step >= left)
            break;
        left -= step;
        a = (const struct rtattr *)(const void *)((const char *)a + step);
    }
    if (!info)
        return;
    struct conn *c = NULL;
    for (uint32_t i = 0; i < wire->conns_count && !c; i++)
        if (wire->conns[i].inode == m->idiag_inode)
            c = &wire->conns[i];
    if (!c) {
        if (wire->conns_count == CONNS_MAX)
            return;
        c = &wire->conns[wire->conns_count++];
        *c = (struct conn){.inode = m->idiag_inode};
    }
    if (to == wire->target_port)
        c->bulk = info->tcpi_bytes_acked;
    else
        c->pulled = info->tcpi_bytes_received;
}

/* Reads the answer; false: something else came. */
static bool read_dump(struct gw_migrate_wire *wire)
{
    for (;;) {
        ssize_t n = recv(wire->fd, wire->room, sizeof wire->room, 0);
        if (n <= 0)
            return false;
        size_t left = (size_t)n;
        const char *at = wire->room;
        while (left >= sizeof(struct nlmsghdr)) {
            const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)at;
            if (h->nlmsg_len < sizeof *h || h->nlmsg_len > left || h->nlmsg_type == NLMSG_ERROR)
                return false;
            if (h->nlmsg_type == NLMSG_DONE)
                return true;
            if (h->nlmsg_seq == wire->sequence &&
                h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
                note(wire, (const struct inet_diag_msg *)(const void *)(at + NLMSG_HDRLEN),
                     h->nlmsg_len - NLMSG_HDRLEN);
            size_t step = NLMSG_ALIGN(h->nlmsg_len);
            if (step >= left)
                break;
            left -= step;
            at += step;
        }
    }
}

bool gw_migrate_wire_look(struct gw_migrate_wire *wire, uint64_t *bulk, uint64_t *pulled)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } ask = {
        .header = {.nlmsg_len = sizeof ask,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                   .nlmsg_seq = ++wire->sequence},
        .request = {.sdiag_family = AF_INET,
                    .sdiag_protocol = IPPROTO_TCP,
                    .idiag_ext = 1 << (INET_DIAG_INFO - 1),
                    .idiag_states = 1u << ESTABLISHED},
    };
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    list_own(wire);
    if (sendto(wire->fd, &ask, sizeof ask, 0, (struct sockaddr *)&kernel, sizeof kernel) !=
            sizeof ask ||
        !read_dump(wire))
        return false;
    *bulk = *pulled = 0;
    for (uint32_t i = 0; i < wire->conns_count; i++) {
        *bulk += wire->conns[i].bulk;
        *pulled += wire->conns[i].pulled;
    }
    return true;
}
