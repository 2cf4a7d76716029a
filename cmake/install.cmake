# `cmake --install`: headers, static libraries, a CMake package, and npu-bench when it was built.
# find_package(npu_simulation) gives the target npu::npu.
include(CMakePackageConfigHelpers)

add_library(npu INTERFACE)
target_link_libraries(npu INTERFACE npu_devices)

set(NPU_PACKAGE_DIR lib/cmake/npu_simulation)
set(NPU_INSTALLED npu npu_devices npu_cpu npu_gpu npu_core npu_cuda npu_cuda_lower npu_msl)
if(TARGET npu_metal)
  list(APPEND NPU_INSTALLED npu_metal)
endif()
if(TARGET npu_softmetal)
  list(APPEND NPU_INSTALLED npu_softmetal npu_softmetal_api npu_softmetal_machine)
endif()
install(TARGETS ${NPU_INSTALLED} EXPORT npu_targets COMPONENT development
  ARCHIVE DESTINATION lib)
install(DIRECTORY include/npu DESTINATION include COMPONENT development FILES_MATCHING PATTERN "*.h")
install(EXPORT npu_targets NAMESPACE npu:: DESTINATION ${NPU_PACKAGE_DIR} COMPONENT development)
file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/npu_simulation-config.cmake"
  "include(CMakeFindDependencyMacro)\nfind_dependency(Threads)\ninclude(\"\${CMAKE_CURRENT_LIST_DIR}/npu_targets.cmake\")\n")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/npu_simulation-config-version.cmake"
  VERSION ${NPU_VERSION_NUMERIC} COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/npu_simulation-config.cmake"
  "${CMAKE_CURRENT_BINARY_DIR}/npu_simulation-config-version.cmake"
  DESTINATION ${NPU_PACKAGE_DIR} COMPONENT development)
if(NPU_BUILD_BENCH)
  install(TARGETS npu-bench COMPONENT development RUNTIME DESTINATION bin)
endif()
