#include "client/wire/wire.h"
#include "client/net/net.h" /* reported */
