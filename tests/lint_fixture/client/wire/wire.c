#include "client/net/net.h" /* reported */
#include "client/wire/wire.h"
