# NPU_JSON_INCLUDE: where <nlohmann/json.hpp> lies, which only json.cpp uses. A system package, or the headers
# that `pip install nlohmann-json` puts beside the interpreter's packages.
find_package(nlohmann_json 3.11 QUIET)
if(nlohmann_json_FOUND)
  get_target_property(NPU_JSON_INCLUDE nlohmann_json::nlohmann_json INTERFACE_INCLUDE_DIRECTORIES)
  return()
endif()

# Ask the interpreter each time: a cached path would point into a build environment that is gone.
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c
          "import importlib.util as u; print(u.find_spec('nlohmann_json').submodule_search_locations[0] + '/include')"
  OUTPUT_VARIABLE NPU_JSON_INCLUDE OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE NPU_JSON_RESULT ERROR_QUIET)
if(NPU_JSON_RESULT OR NOT EXISTS "${NPU_JSON_INCLUDE}/nlohmann/json.hpp")
  message(FATAL_ERROR "nlohmann/json.hpp was not found; run `${Python_EXECUTABLE} -m pip install nlohmann-json` "
    "or install the system's package (nlohmann-json3-dev)")
endif()
