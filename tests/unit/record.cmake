# The parts of `record` that need no traced program.
add_executable(record_test ${CMAKE_CURRENT_SOURCE_DIR}/record_test.cc)
target_link_libraries(record_test PRIVATE
  alloctape_tracer_tool alloctape_formats alloctape_cli_support GTest::gtest_main)
gtest_discover_tests(record_test)
