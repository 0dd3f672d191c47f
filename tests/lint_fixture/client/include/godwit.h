#include "index/base/bytes.h" /* reported: not installed */
#include "index/base/status.h"
