// Everything a C++ user of NPU Simulation includes.
#pragma once

#include "npu/buffer.h"
#include "npu/build_info.h"
#include "npu/cpu_info.h"
#include "npu/device.h"
#include "npu/device_info.h"
#include "npu/dtype.h"
#include "npu/error.h"
#include "npu/executor.h"
#include "npu/file.h"
#include "npu/graph.h"
#include "npu/limits.h"
#include "npu/program.h"
#include "npu/steps.h"
#include "npu/threads.h"
#include "npu/weights.h"
