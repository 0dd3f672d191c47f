/* blob_proxy.h - an HTTP proxy in front of an object store, which does to its answers what networks
 * and object stores do. It listens on the loopback and has a thread for each connection; requests
 * and answers are taken whole before they go on. All calls: any thread. */
#ifndef GW_TESTS_SUPPORT_BLOB_PROXY_H
#define GW_TESTS_SUPPORT_BLOB_PROXY_H

#include <stddef.h>
#include <stdint.h>

enum blob_fault_kind {
    BLOB_FAULT_NONE,
    BLOB_FAULT_STATUS, /* `status` and an Error with `code` instead; the store is not asked */
    BLOB_FAULT_DELAY,  /* the answer comes delay_ms later */
    BLOB_FAULT_CUT,    /* half of the body, then the connection is closed */
    BLOB_FAULT_STALL,  /* half of the body, then nothing */
    BLOB_FAULT_FLIP,   /* a bit in the middle of the body is another one */
    BLOB_FAULT_LONGER, /* more body than asked for, announced so */
    BLOB_FAULT_RANGE,  /* Content-Range of another offset */
    BLOB_FAULT_DROP,   /* the connection is closed without an answer, the store was asked */
    BLOB_FAULT_SILENT, /* no answer, the connection stays open */
    BLOB_FAULT_REFUSE, /* nobody listens; connections that are open are closed */
};

struct blob_fault {
    enum blob_fault_kind kind;
    const char *method; /* NULL: any; borrowed for ever */
    uint32_t skip;      /* of the requests that it would hit, the first ones go through */
    uint32_t count;     /* then so many are hit; 0: all, until another fault is set */
    uint32_t delay_ms;
    int status;
    const char *code; /* borrowed for ever */
};

struct blob_proxy;

/* In front of 127.0.0.1:target. Aborts when it cannot. */
struct blob_proxy *blob_proxy_start(uint16_t target);
void blob_proxy_stop(struct blob_proxy *proxy); /* NULL is ignored */
uint16_t blob_proxy_port(const struct blob_proxy *proxy);
void blob_proxy_lead(struct blob_proxy *proxy, uint16_t target); /* to another store */
/* From the next request on. Those that are held (STALL, SILENT) are let go: closed. */
void blob_proxy_fault(struct blob_proxy *proxy, const struct blob_fault *fault);
void blob_proxy_heal(struct blob_proxy *proxy);
uint32_t blob_proxy_requests(struct blob_proxy *proxy);  /* that came in whole */
uint32_t blob_proxy_most_open(struct blob_proxy *proxy); /* at the same time, since start */
uint32_t blob_proxy_hit(struct blob_proxy *proxy);       /* by the fault that is set */
#endif
