# Writes OUTPUT with the state of the git checkout at SOURCE_DIR; empty outside of a checkout (an sdist).
set(describe "")
find_program(GIT_EXECUTABLE git)
if(GIT_EXECUTABLE AND EXISTS "${SOURCE_DIR}/.git")
  execute_process(COMMAND "${GIT_EXECUTABLE}" describe --always --dirty --tags
    WORKING_DIRECTORY "${SOURCE_DIR}" OUTPUT_VARIABLE describe ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(NOT describe MATCHES "^[-A-Za-z0-9._/+]*$")
  set(describe "")
endif()
file(CONFIGURE OUTPUT "${OUTPUT}" CONTENT "#define NPU_GIT_DESCRIBE \"${describe}\"\n")
