/* net_uring_watch.c - waiting for somebody else's events too: one descriptor (gw_net_watch) whose
 * becoming readable ends a gw_net_poll.
 *
 * Rules: 1. The descriptor is polled for by a one-shot operation, armed only when the net is about
 * to wait: a busy thread looks at its device by itself and pays nothing here. 2. It is drained when
 * the poll has fired, before gw_net_poll returns, and at no other time: what is signalled after
 * that shows at the next arming at once, and what was signalled before the caller finds when it
 * looks, for it looks after us. */
#include "client/net/net_uring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

enum gw_status gwi_uring_watch_descriptor(struct gw_net *base, int fd)
{
    struct uring_net *net = (struct uring_net *)base;
    if (net->watch_fd >= 0)
        return GW_E_LIMIT;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return GW_E_INVALID;
    net->watch_fd = fd;
    return GW_OK;
}

void gwi_uring_watch_arm(struct uring_net *net)
{
    if (net->watch_fd < 0 || net->watch_armed)
        return;
    struct io_uring_sqe *sqe = gwi_uring_sqe(net);
    io_uring_prep_poll_add(sqe, net->watch_fd, POLLIN);
    io_uring_sqe_set_data64(sqe, OP_WATCH);
    net->watch_armed = true;
    net->inflight++;
}

void gwi_uring_watch_done(struct uring_net *net)
{
    uint64_t count;
    net->watch_armed = false;
    net->inflight--;
    ssize_t rc = read(net->watch_fd, &count, sizeof count);
    (void)rc; /* EAGAIN: somebody else was faster; he has seen what it said */
    net->watch_fired = true;
}
