# The driver's support code: units, tables, options, suggestions.
add_executable(cli_test
  ${CMAKE_CURRENT_SOURCE_DIR}/cli_options_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/cli_text_test.cc)
target_link_libraries(cli_test PRIVATE alloctape_cli_support GTest::gtest_main)
gtest_discover_tests(cli_test TEST_PREFIX "cli.")
