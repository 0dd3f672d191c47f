/* wire_samples.h - one or more good bodies of every kind, encoded. */
#ifndef GW_TESTS_UNIT_WIRE_SAMPLES_H
#define GW_TESTS_UNIT_WIRE_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

#include "client/wire/control.h"
#include "client/wire/map.h"
#include "client/wire/ops.h"
#include "client/wire/peer.h"
#include "client/wire/scan.h"

struct wire_sample {
    const char *codec; /* of tests/support/wire_recode.h */
    size_t bytes;
    uint8_t body[1024];
};

/* Fills at most `max`, returns how many there are. */
size_t wire_samples(struct wire_sample *out, size_t max);

#define SAMPLE_APPLIED      6
#define SAMPLE_PEER_RECORDS 5
#define SAMPLE_SCAN_RECORDS 4
extern const struct gw_hello sample_hello;
extern const struct gw_welcome sample_welcome;
extern const struct gw_join sample_join;
extern const struct gw_heartbeat sample_heartbeat;
extern const struct gw_job_event sample_job_event;
extern const struct gw_prepared sample_prepared;
extern const struct gw_yours sample_yours;
extern const struct gw_applied sample_applied[SAMPLE_APPLIED];
extern const struct gw_peer_record sample_peer_record[SAMPLE_PEER_RECORDS];
extern const struct gw_scan_reply sample_scan_reply;
extern const struct gw_scan_record sample_scan_record[SAMPLE_SCAN_RECORDS];
struct gw_slots sample_slots(void); /* 0-99,200,16383 */
struct gw_job sample_job(void);
struct gw_prepare sample_prepare(void);
extern const struct gw_peer_indirection sample_peer_indirection;
struct gw_scan sample_scan(void);
/* Three servers; the second has no slots, the third no address; 9000-9999 have no owner. Ends with
 * gw_map_destroy. */
struct gw_map *sample_map(void);
#endif
