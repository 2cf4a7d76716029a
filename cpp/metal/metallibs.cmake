# Sets NPU_METALLIBS to a generated source that holds the kernels, compiled one library a file, when Xcode's
# compiler is there and takes all of them. Without it the source holds nothing: no Xcode is needed to build or to run.
option(NPU_METALLIB "compile the kernels when building, where there is Xcode's compiler for them" ON)

set(NPU_METALLIBS "${CMAKE_CURRENT_BINARY_DIR}/metallibs.gen.cpp")
set(entries "")
set(data "")
if(NPU_METALLIB AND APPLE)
  find_program(NPU_XCRUN xcrun)
  set(missing 1)
  if(NPU_XCRUN)
    execute_process(COMMAND "${NPU_XCRUN}" -sdk macosx --find metal RESULT_VARIABLE missing OUTPUT_QUIET ERROR_QUIET)
  endif()
  foreach(file IN LISTS NPU_METAL_SOURCES)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
    get_filename_component(stem "${file}" NAME_WE)
    if(missing OR NOT file MATCHES "\\.metal$")
      continue()
    endif()
    set(library "${CMAKE_CURRENT_BINARY_DIR}/${stem}.metallib")
    message(STATUS "Compiling ${stem}.metal")
    execute_process(
      COMMAND "${NPU_XCRUN}" -sdk macosx metal -std=metal3.1 -fno-fast-math -mmacosx-version-min=14.0
              "${file}" -o "${library}"
      RESULT_VARIABLE missing ERROR_VARIABLE reason)
    if(missing)
      message(STATUS "The kernels are compiled when programs are loaded, since ${stem}.metal was not now: ${reason}")
      set(entries "")
      set(data "")
    else()
      string(APPEND data "__asm__(\".section __TEXT,__const\\n\"\n"
        "        \".globl _npu_metallib_${stem}\\n.p2align 4\\n_npu_metallib_${stem}:\\n.incbin \\\"${library}\\\"\\n\"\n"
        "        \".globl _npu_metallib_end_${stem}\\n_npu_metallib_end_${stem}:\\n.byte 0\\n.text\");\n"
        "extern \"C\" const std::byte npu_metallib_${stem}[], npu_metallib_end_${stem}[];\n")
      string(APPEND entries "  if (library == \"${stem}\") return {npu_metallib_${stem}, npu_metallib_end_${stem}};\n")
    endif()
  endforeach()
endif()
file(CONFIGURE OUTPUT "${NPU_METALLIBS}" CONTENT "#include \"metal/metallibs.h\"\n\n@data@
namespace npu::metal {

std::span<const std::byte> metallib([[maybe_unused]] std::string_view library) {
@entries@  return {};
}

}  // namespace npu::metal
" @ONLY)
