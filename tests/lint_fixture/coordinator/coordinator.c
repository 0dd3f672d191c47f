#include "client/net/net.h"
#include "index/store.h"   /* reported */
#include "server/server.h" /* reported */
#include "tests/mock.h"    /* reported */
