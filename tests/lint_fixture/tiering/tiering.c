#include "index/address.h"
#include "index/base/base.h"
#include "index/device.h"
#include "index/table.h" /* reported */
