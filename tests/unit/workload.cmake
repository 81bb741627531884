# Workloads: writer, reader, validation; the document's example and the golden file.
set(golden_directory ${CMAKE_CURRENT_SOURCE_DIR}/../golden)
add_executable(workload_test
  ${CMAKE_CURRENT_SOURCE_DIR}/workload_document_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/workload_golden_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/workload_validate_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/workload_writer_test.cc
  ${golden_directory}/workload_text.cc)
target_link_libraries(workload_test PRIVATE alloctape_formats GTest::gtest_main)
target_compile_definitions(workload_test PRIVATE
  ALLOCTAPE_WORKLOAD_DOCUMENT="${CMAKE_CURRENT_SOURCE_DIR}/../../docs/formats/workload.md"
  ALLOCTAPE_GOLDEN_DIRECTORY="${golden_directory}")
gtest_discover_tests(workload_test TEST_PREFIX "workload." PROPERTIES TIMEOUT 120)

# Not run by the tests: it wrote the golden file and the document's example.
add_executable(make_golden_workload
  ${golden_directory}/make_golden_workload.cc ${golden_directory}/workload_text.cc)
target_link_libraries(make_golden_workload PRIVATE alloctape_formats)
