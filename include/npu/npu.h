// Everything a C++ user of NPU Simulation includes.
#pragma once

#include "npu/build_info.h"
#include "npu/cpu_info.h"
#include "npu/device_info.h"
#include "npu/error.h"
#include "npu/threads.h"
