# How small and how fast packing makes events.
add_executable(packing_bench ${CMAKE_CURRENT_LIST_DIR}/packing.cc)
target_link_libraries(packing_bench PRIVATE alloctape_formats)
set_target_properties(packing_bench PROPERTIES OUTPUT_NAME packing
  RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/bench)
find_package(Python3 COMPONENTS Interpreter REQUIRED)
add_test(NAME bench.packing_smoke
  COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_LIST_DIR}/packing.py
          --build ${CMAKE_BINARY_DIR} --scale 0.01 --calls 100000 --rounds 1 --level 1 3)
set_tests_properties(bench.packing_smoke PROPERTIES LABELS bench)
