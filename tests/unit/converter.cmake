add_executable(converter_test
  ${CMAKE_CURRENT_SOURCE_DIR}/converter_order_test.cc)
target_link_libraries(converter_test PRIVATE alloctape_converter GTest::gtest_main)
gtest_discover_tests(converter_test TEST_PREFIX "converter." PROPERTIES TIMEOUT 120)
