find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_executable(churn ${CMAKE_CURRENT_LIST_DIR}/churn.c)
target_compile_options(churn PRIVATE -O2 -Wall -Wextra)
target_link_libraries(churn PRIVATE Threads::Threads)
set_target_properties(churn PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/bench)
# It runs and gives figures; what they are is for docs/performance.md, not for a gate.
add_test(NAME bench.tracer_overhead_smoke
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/tracer_overhead.py
          --build ${CMAKE_BINARY_DIR} --churn $<TARGET_FILE:churn> --rounds 1 --calls 20000)
set_tests_properties(bench.tracer_overhead_smoke PROPERTIES LABELS bench)
