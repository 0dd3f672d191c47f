/* Goal: no bytes make the codecs of peer.h read outside of them, and what they accept
 * encodes to the same bytes. How: the first byte chooses the body, the rest is the body. */
#include "tests/support/wire_recode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n > 0)
        (void)wire_recode(&wire_peer_codecs[data[0] % wire_peer_codecs_count], data + 1, n - 1,
                          NULL);
    return 0;
}
