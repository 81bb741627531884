# Resident memory that tracing adds. It runs and gives figures; what they are is no gate.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_executable(rss_threads ${CMAKE_CURRENT_LIST_DIR}/rss_threads.c)
target_compile_options(rss_threads PRIVATE -O2 -Wall -Wextra)
target_link_libraries(rss_threads PRIVATE Threads::Threads)
set_target_properties(rss_threads PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/bench)
add_test(NAME bench.tracer_rss_smoke
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/tracer_rss.py
          --build ${CMAKE_BINARY_DIR} --rounds 1 --calls 20000 --light 40)
set_tests_properties(bench.tracer_rss_smoke PROPERTIES LABELS bench)
