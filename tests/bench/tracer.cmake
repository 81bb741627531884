find_package(Python3 COMPONENTS Interpreter REQUIRED)
foreach(program churn handover)
  add_executable(${program} ${CMAKE_CURRENT_LIST_DIR}/${program}.c)
  target_link_libraries(${program} PRIVATE Threads::Threads)
endforeach()
# What the tracer is compared with: interposers that only forward, with and without a clock reading.
add_library(forward MODULE ${CMAKE_CURRENT_LIST_DIR}/forward.c)
add_library(forward_rdtsc MODULE ${CMAKE_CURRENT_LIST_DIR}/forward.c)
target_compile_definitions(forward_rdtsc PRIVATE READ_CLOCK)
add_library(start_mtrace MODULE ${CMAKE_CURRENT_LIST_DIR}/start_mtrace.c)
foreach(target churn handover forward forward_rdtsc start_mtrace)
  # Always optimised, never instrumented: they are the yardstick.
  target_compile_options(${target} PRIVATE -O2 -Wall -Wextra -fno-builtin)
  set_target_properties(${target} PROPERTIES PREFIX ""
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/bench
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/bench)
endforeach()
# It runs and gives figures; what they are is for docs/performance.md, not for a gate.
add_test(NAME bench.tracer_overhead_smoke
  COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_LIST_DIR}/tracer_overhead.py
          --build ${CMAKE_BINARY_DIR} --smoke)
set_tests_properties(bench.tracer_overhead_smoke PROPERTIES LABELS bench)
