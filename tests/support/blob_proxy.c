/* blob_proxy.c - an HTTP proxy with faults (blob_proxy.h). */
#include "tests/support/blob_proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "index/base/assert.h"

#define CONNECTIONS_MAX 256
#define TURN_MS         10

struct bytes {
    char *at;
    size_t n, room;
};

struct connection {
    struct blob_proxy *proxy;
    pthread_t thread;
    int fd; /* -1: free */
    bool ended;
};

struct blob_proxy {
    pthread_mutex_t lock;
    uint16_t port, target;
    int listener; /* -1: refusing */
    bool stop;
    struct blob_fault fault;
    uint64_t fault_number;
    uint32_t seen, hit, requests, open, most_open;
    struct connection connections[CONNECTIONS_MAX];
    pthread_t thread;
};

static bool more(struct bytes *b, int fd)
{
    if (b->room - b->n < 65536) {
        b->room = b->room ? b->room * 2 : 131072;
        b->at = realloc(b->at, b->room);
        GW_ASSERT(b->at);
    }
    ssize_t n;
    do
        n = recv(fd, b->at + b->n, b->room - b->n - 1, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    b->n += (size_t)n;
    b->at[b->n] = 0;
    return true;
}

static bool send_all(int fd, const char *at, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

/* Bytes up to and with the empty line; 0: not there yet. */
static size_t head_bytes(const struct bytes *b)
{
    const char *end = b->n ? memmem(b->at, b->n, "\r\n\r\n", 4) : NULL;
    return end ? (size_t)(end + 4 - b->at) : 0;
}

/* Where a header's value begins within the head; NULL: it is not there. */
static char *header(const struct bytes *b, const char *name)
{
    char line[64];
    snprintf(line, sizeof line, "\r\n%s:", name);
    size_t head = head_bytes(b), n = strlen(line);
    for (size_t i = 0; i + n < head; i++)
        if (strncasecmp(b->at + i, line, n) == 0)
            return b->at + i + n + strspn(b->at + i + n, " ");
    return NULL;
}

static bool read_request(int fd, struct bytes *b)
{
    size_t head;
    b->n = 0;
    while ((head = head_bytes(b)) == 0)
        if (!more(b, fd))
            return false;
    const char *length = header(b, "Content-Length");
    size_t whole = head + (length ? strtoull(length, NULL, 10) : 0);
    while (b->n < whole)
        if (!more(b, fd))
            return false;
    return true;
}

/* A socket to 127.0.0.1:port. */
static int reach(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    GW_ASSERT(fd >= 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The store's answer, whole: it is asked to close the connection behind it. */
static bool ask(uint16_t target, const struct bytes *request, struct bytes *answer)
{
    static const char closing[] = "Connection: close\r\n\r\n";
    int fd = reach(target);
    if (fd < 0)
        return false;
    size_t head = head_bytes(request);
    bool good = send_all(fd, request->at, head - 2) && send_all(fd, closing, sizeof closing - 1) &&
                send_all(fd, request->at + head, request->n - head);
    answer->n = 0;
    while (good && more(answer, fd))
        ;
    close(fd);
    if (!good || head_bytes(answer) == 0)
        return false;
    char *value = header(answer, "Connection");
    if (value && strncasecmp(value, "close", 5) == 0)
        memcpy(value, "alive", 5); /* no word that means anything */
    return true;
}

static void let_stand(struct blob_proxy *proxy, int fd, uint64_t number, uint32_t ms)
{
    for (uint32_t waited = 0; ms == 0 || waited < ms; waited += TURN_MS) {
        char byte;
        struct pollfd wait = {.fd = fd, .events = POLLIN | POLLRDHUP};
        if (poll(&wait, 1, 0) == 1 && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
            return; /* they gave up */
        pthread_mutex_lock(&proxy->lock);
        bool over = proxy->stop || (ms == 0 && proxy->fault_number != number);
        pthread_mutex_unlock(&proxy->lock);
        if (over)
            return;
        usleep(TURN_MS * 1000);
    }
}

static bool answer_status(int fd, const struct blob_fault *fault)
{
    char body[512], head[512];
    int n = snprintf(body, sizeof body,
                     "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code>"
                     "<Message>made by the test</Message></Error>",
                     fault->code ? fault->code : "InternalError");
    int head_n = snprintf(head, sizeof head,
                          "HTTP/1.1 %d Made\r\nContent-Type: application/xml\r\nContent-Length: "
                          "%d\r\n\r\n",
                          fault->status, n);
    return send_all(fd, head, (size_t)head_n) && send_all(fd, body, (size_t)n);
}

/* The same digits, another number. */
static void change_digit(char *digit)
{
    *digit = *digit == '9' ? '1' : (char)(*digit + 1);
}

/* Answers one request; false: the connection ends. */
static bool answer_one(struct blob_proxy *proxy, int fd, const struct blob_fault *fault,
                       uint64_t number, const struct bytes *request, struct bytes *answer)
{
    pthread_mutex_lock(&proxy->lock);
    uint16_t target = proxy->target;
    pthread_mutex_unlock(&proxy->lock);
    if (fault->kind == BLOB_FAULT_STATUS)
        return answer_status(fd, fault);
    if (fault->kind == BLOB_FAULT_SILENT) {
        let_stand(proxy, fd, number, 0);
        return false;
    }
    if (!ask(target, request, answer))
        return false;
    size_t head = head_bytes(answer), body = answer->n - head;
    switch (fault->kind) {
    case BLOB_FAULT_DELAY:
        let_stand(proxy, fd, number, fault->delay_ms);
        return send_all(fd, answer->at, answer->n);
    case BLOB_FAULT_CUT:
    case BLOB_FAULT_STALL:
        (void)send_all(fd, answer->at, head + body / 2);
        if (fault->kind == BLOB_FAULT_STALL)
            let_stand(proxy, fd, number, 0);
        return false;
    case BLOB_FAULT_FLIP:
        answer->at[head + body / 2] ^= 1;
        return send_all(fd, answer->at, answer->n);
    case BLOB_FAULT_LONGER: {
        char *length = header(answer, "Content-Length");
        GW_ASSERT(length && body > 0 && length[0] < '9');
        char extra[1024] = {0};
        unsigned long long before = strtoull(length, NULL, 10);
        length[0]++;
        unsigned long long more_bytes = strtoull(length, NULL, 10) - before;
        if (!send_all(fd, answer->at, answer->n))
            return false;
        for (; more_bytes > 0; more_bytes -= more_bytes < 1024 ? more_bytes : 1024)
            if (!send_all(fd, extra, more_bytes < 1024 ? more_bytes : 1024))
                return false;
        return true;
    }
    case BLOB_FAULT_RANGE: {
        char *range = header(answer, "Content-Range");
        GW_ASSERT(range);
        change_digit(range + strlen("bytes "));
        return send_all(fd, answer->at, answer->n);
    }
    case BLOB_FAULT_DROP:
        return false;
    default:
        return send_all(fd, answer->at, answer->n);
    }
}

static struct blob_fault choose(struct blob_proxy *proxy, const struct bytes *request,
                                uint64_t *number)
{
    struct blob_fault none = {0}, f = proxy->fault;
    *number = proxy->fault_number;
    size_t n = f.method ? strlen(f.method) : 0;
    if (f.kind == BLOB_FAULT_NONE ||
        (f.method && (strncmp(request->at, f.method, n) != 0 || request->at[n] != ' ')))
        return none;
    uint32_t which = proxy->seen++;
    if (which < f.skip || (f.count && which >= f.skip + f.count))
        return none;
    proxy->hit++;
    return f;
}

static void *serve(void *arg)
{
    struct connection *c = arg;
    struct blob_proxy *proxy = c->proxy;
    struct bytes request = {0}, answer = {0};
    bool going = true;
    while (going && read_request(c->fd, &request)) {
        uint64_t number;
        pthread_mutex_lock(&proxy->lock);
        struct blob_fault fault = choose(proxy, &request, &number);
        proxy->requests++;
        if (++proxy->open > proxy->most_open)
            proxy->most_open = proxy->open;
        pthread_mutex_unlock(&proxy->lock);
        going = answer_one(proxy, c->fd, &fault, number, &request, &answer);
        pthread_mutex_lock(&proxy->lock);
        proxy->open--;
        pthread_mutex_unlock(&proxy->lock);
    }
    free(request.at);
    free(answer.at);
    pthread_mutex_lock(&proxy->lock);
    shutdown(c->fd, SHUT_RDWR);
    c->ended = true; /* the listener's thread closes and joins */
    pthread_mutex_unlock(&proxy->lock);
    return NULL;
}

static int listen_on(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(*port)};
    socklen_t n = sizeof at;
    int one = 1;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    GW_ASSERT(fd >= 0);
    GW_ASSERT(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    GW_ASSERT(bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 128) == 0);
    GW_ASSERT(getsockname(fd, (struct sockaddr *)&at, &n) == 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static void reap(struct blob_proxy *proxy, bool all)
{
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *c = &proxy->connections[i];
        pthread_mutex_lock(&proxy->lock);
        bool used = c->fd >= 0, ended = c->ended;
        if (used && all)
            shutdown(c->fd, SHUT_RDWR);
        pthread_mutex_unlock(&proxy->lock);
        if (!used || (!ended && !all))
            continue;
        pthread_join(c->thread, NULL);
        pthread_mutex_lock(&proxy->lock);
        close(c->fd);
        c->fd = -1;
        c->ended = false;
        pthread_mutex_unlock(&proxy->lock);
    }
}

static void take(struct blob_proxy *proxy, int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *c = &proxy->connections[i];
        if (c->fd >= 0)
            continue;
        pthread_mutex_lock(&proxy->lock);
        c->proxy = proxy;
        c->fd = fd;
        pthread_mutex_unlock(&proxy->lock);
        GW_ASSERT(pthread_create(&c->thread, NULL, serve, c) == 0);
        return;
    }
    close(fd);
}

static void *accept_all(void *arg)
{
    struct blob_proxy *proxy = arg;
    for (;;) {
        pthread_mutex_lock(&proxy->lock);
        bool stop = proxy->stop, refuse = proxy->fault.kind == BLOB_FAULT_REFUSE;
        if (refuse && proxy->listener >= 0) {
            close(proxy->listener);
            proxy->listener = -1;
        } else if (!refuse && proxy->listener < 0) {
            proxy->listener = listen_on(&proxy->port);
        }
        struct pollfd wait = {.fd = proxy->listener, .events = POLLIN};
        pthread_mutex_unlock(&proxy->lock);
        reap(proxy, stop || refuse);
        if (stop)
            return NULL;
        if (poll(&wait, 1, TURN_MS) == 1 && (wait.revents & POLLIN)) {
            int fd = accept4(wait.fd, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0)
                take(proxy, fd);
        }
    }
}

struct blob_proxy *blob_proxy_start(uint16_t target)
{
    struct blob_proxy *proxy = calloc(1, sizeof *proxy);
    GW_ASSERT(proxy);
    proxy->target = target;
    proxy->listener = listen_on(&proxy->port);
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        proxy->connections[i].fd = -1;
    pthread_mutex_init(&proxy->lock, NULL);
    GW_ASSERT(pthread_create(&proxy->thread, NULL, accept_all, proxy) == 0);
    return proxy;
}

void blob_proxy_stop(struct blob_proxy *proxy)
{
    if (!proxy)
        return;
    pthread_mutex_lock(&proxy->lock);
    proxy->stop = true;
    pthread_mutex_unlock(&proxy->lock);
    pthread_join(proxy->thread, NULL);
    if (proxy->listener >= 0)
        close(proxy->listener);
    pthread_mutex_destroy(&proxy->lock);
    free(proxy);
}

uint16_t blob_proxy_port(const struct blob_proxy *proxy)
{
    return proxy->port;
}

void blob_proxy_lead(struct blob_proxy *proxy, uint16_t target)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->target = target;
    pthread_mutex_unlock(&proxy->lock);
}

void blob_proxy_fault(struct blob_proxy *proxy, const struct blob_fault *fault)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->fault = *fault;
    proxy->fault_number++;
    proxy->seen = proxy->hit = 0;
    pthread_mutex_unlock(&proxy->lock);
    if (fault->kind == BLOB_FAULT_REFUSE)
        usleep(5 * TURN_MS * 1000); /* until the listener is closed */
}

void blob_proxy_heal(struct blob_proxy *proxy)
{
    blob_proxy_fault(proxy, &(struct blob_fault){0});
}

uint32_t blob_proxy_requests(struct blob_proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    uint32_t n = proxy->requests;
    pthread_mutex_unlock(&proxy->lock);
    return n;
}

uint32_t blob_proxy_most_open(struct blob_proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    uint32_t n = proxy->most_open;
    pthread_mutex_unlock(&proxy->lock);
    return n;
}

uint32_t blob_proxy_hit(struct blob_proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    uint32_t n = proxy->hit;
    pthread_mutex_unlock(&proxy->lock);
    return n;
}
