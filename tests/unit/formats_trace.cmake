# Traces: writer, reader, decoder, heap walk; the document's example and the golden file.
set(formats_trace_tests
  formats_trace_roundtrip_test.cc
  formats_trace_file_test.cc
  formats_trace_extensions_test.cc
  formats_live_table_test.cc
  formats_heap_walk_test.cc
  formats_heap_gaps_test.cc
  formats_map_tracker_test.cc
  formats_trace_document_test.cc
  formats_trace_golden_test.cc)
foreach(source IN LISTS formats_trace_tests)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${source})
    list(APPEND formats_trace_sources ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  endif()
endforeach()
add_executable(formats_trace_test ${formats_trace_sources})
target_link_libraries(formats_trace_test PRIVATE alloctape_formats GTest::gtest_main)
target_compile_definitions(formats_trace_test PRIVATE
  ALLOCTAPE_TRACE_DOCUMENT="${CMAKE_CURRENT_SOURCE_DIR}/../../docs/formats/trace.md"
  ALLOCTAPE_GOLDEN_DIRECTORY="${CMAKE_CURRENT_SOURCE_DIR}/../golden")
gtest_discover_tests(formats_trace_test TEST_PREFIX "formats_trace." PROPERTIES TIMEOUT 120)

# Writes golden files of a new format version; see the file.
set(formats_trace_golden ${CMAKE_CURRENT_SOURCE_DIR}/../golden)
add_executable(make_golden_trace ${formats_trace_golden}/make_golden_trace.cc
                                 ${formats_trace_golden}/trace_text.cc)
target_link_libraries(make_golden_trace PRIVATE alloctape_formats)
target_sources(formats_trace_test PRIVATE ${formats_trace_golden}/trace_text.cc)
