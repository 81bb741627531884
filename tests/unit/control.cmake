# Steering a recording from outside, as far as that needs no traced program.
add_executable(control_test ${CMAKE_CURRENT_SOURCE_DIR}/control_test.cc)
target_link_libraries(control_test PRIVATE
  alloctape_tracer_tool alloctape_formats alloctape_cli_support GTest::gtest_main)
gtest_discover_tests(control_test)
