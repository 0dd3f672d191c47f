/* test_net_uring_watch.c - a descriptor of somebody else's that ends gw_net_poll. */
#include "client/net/net.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "net_probe.h"

TestSuite(net_uring_watch, .timeout = 30);

#define LONG_NS 5000000000ull

struct ringer {
    int fd;
    uint32_t after_ms;
};

static void *ring_later(void *arg)
{
    const struct ringer *r = arg;
    const uint64_t one = 1;
    nanosleep(&(struct timespec){.tv_nsec = (long)r->after_ms * 1000000}, NULL);
    cr_assert_eq(write(r->fd, &one, sizeof one), (ssize_t)sizeof one);
    return NULL;
}

static uint64_t poll_ms(struct probe *p, uint64_t timeout_ns)
{
    uint64_t start = probe_now_ms();
    gw_net_poll(p->net, timeout_ns);
    return probe_now_ms() - start;
}

Test(net_uring_watch, a_sleeping_poll_returns_when_the_descriptor_becomes_readable)
{
    struct probe p = {0};
    probe_open_net(&p, NULL);
    int fd = eventfd(0, EFD_CLOEXEC);
    cr_assert_eq(gw_net_watch(p.net, fd), GW_OK);
    for (int i = 0; i < 3; i++) {
        struct ringer r = {fd, 30};
        pthread_t thread;
        cr_assert_eq(pthread_create(&thread, NULL, ring_later, &r), 0);
        uint64_t waited = poll_ms(&p, LONG_NS);
        cr_expect_geq(waited, 25, "returned after %llu ms without a reason",
                      (unsigned long long)waited);
        cr_expect_lt(waited, 2000, "slept through it");
        pthread_join(thread, NULL);
    }
    gw_net_destroy(p.net);
    close(fd);
}

/* Goal: a completion between the caller's last look and the sleep is not lost. */
Test(net_uring_watch, what_was_signalled_before_the_sleep_ends_it_at_once)
{
    struct probe p = {0};
    const uint64_t one = 1;
    probe_open_net(&p, NULL);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    cr_assert_eq(gw_net_watch(p.net, fd), GW_OK);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(write(fd, &one, sizeof one), (ssize_t)sizeof one);
        cr_assert_eq(write(fd, &one, sizeof one), (ssize_t)sizeof one);
        cr_expect_lt(poll_ms(&p, LONG_NS), 2000);
        /* It was read dry: the next poll sleeps again. */
        cr_expect_geq(poll_ms(&p, 40000000), 35, "an old signal ends a new wait");
    }
    gw_net_destroy(p.net);
    close(fd);
}

Test(net_uring_watch, one_descriptor_a_net_and_only_a_real_one)
{
    struct probe p = {0};
    probe_open_net(&p, NULL);
    int fd = eventfd(0, EFD_CLOEXEC);
    cr_expect_eq(gw_net_watch(p.net, 987654), GW_E_INVALID);
    cr_expect_eq(gw_net_watch(p.net, fd), GW_OK);
    cr_expect_eq(gw_net_watch(p.net, fd), GW_E_LIMIT);
    gw_net_destroy(p.net);
    close(fd);
}
