#include "client/net/net.h" /* reported */
#include "client/wire/wire.h"
#include "index/store.h"
#include "tiering/segment.h" /* reported */
#include "tiering/tier.h"
