#include "base/base.h"        /* reported: not rooted */
#include "client/wire/wire.h" /* reported */
#include "index/base/base.h"
#include "index/device.h"
#include "server/server.h" /* reported */
#include <server/server.h> /* reported */
