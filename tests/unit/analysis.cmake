# What `stat`, `info` and `dump` stand on.
add_executable(analysis_test
  ${CMAKE_CURRENT_SOURCE_DIR}/analysis_explained_memory_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/analysis_statistics_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/analysis_hostile_files_test.cc)
target_link_libraries(analysis_test PRIVATE alloctape_analysis GTest::gtest_main)
gtest_discover_tests(analysis_test TEST_PREFIX "analysis." PROPERTIES TIMEOUT 120)
