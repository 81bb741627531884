add_executable(converter_test
  ${CMAKE_CURRENT_SOURCE_DIR}/converter_order_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/converter_sync_graph_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/converter_maps_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/converter_test.cc)
target_link_libraries(converter_test PRIVATE
  alloctape_converter nlohmann_json::nlohmann_json GTest::gtest_main)
gtest_discover_tests(converter_test TEST_PREFIX "converter." PROPERTIES TIMEOUT 120)
