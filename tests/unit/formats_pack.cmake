# Packed blocks: the codec, packed traces, their index.
add_executable(formats_pack_test
  ${CMAKE_CURRENT_LIST_DIR}/formats_pack_codec_test.cc
  ${CMAKE_CURRENT_LIST_DIR}/formats_pack_file_test.cc)
target_link_libraries(formats_pack_test PRIVATE alloctape_formats GTest::gtest_main)
target_compile_definitions(formats_pack_test PRIVATE
  ALLOCTAPE_TRACE_DOCUMENT="${CMAKE_CURRENT_LIST_DIR}/../../docs/formats/trace.md")
gtest_discover_tests(formats_pack_test TEST_PREFIX "formats_pack." PROPERTIES TIMEOUT 120)
