add_executable(workload_test
  ${CMAKE_CURRENT_SOURCE_DIR}/workload_writer_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/workload_validate_test.cc)
target_link_libraries(workload_test PRIVATE alloctape_formats GTest::gtest_main)
gtest_discover_tests(workload_test)
