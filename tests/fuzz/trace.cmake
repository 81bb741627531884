# The trace reader. With ALLOCTAPE_BUILD_FUZZERS also the fuzzer itself, with its own instrumented copy
# of the reader:  trace_fuzz -max_len=16384 WORKING_DIRECTORY tests/fuzz/corpus/trace
add_executable(trace_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/trace_fuzz.cc
                                 ${CMAKE_CURRENT_SOURCE_DIR}/replay_corpus.cc)
target_link_libraries(trace_fuzz_corpus PRIVATE alloctape_formats)
add_test(NAME fuzz.trace_corpus
         COMMAND trace_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/corpus/trace)

if(ALLOCTAPE_BUILD_FUZZERS)
  set(formats_directory ${CMAKE_CURRENT_SOURCE_DIR}/../../formats)
  add_executable(trace_fuzz ${CMAKE_CURRENT_SOURCE_DIR}/trace_fuzz.cc
    ${formats_directory}/result.cc
    ${formats_directory}/mapped_file.cc
    ${formats_directory}/trace_file.cc
    ${formats_directory}/trace_scan.cc
    ${formats_directory}/trace_index.cc
    ${formats_directory}/block_unpacker.cc
    ${formats_directory}/stream_decoder.cc
    ${formats_directory}/heap_walk.cc)
  target_link_libraries(trace_fuzz PRIVATE alloctape_options fmt::fmt PkgConfig::ZSTD)
  target_compile_options(trace_fuzz PRIVATE -fsanitize=fuzzer)
  target_link_options(trace_fuzz PRIVATE -fsanitize=fuzzer)
endif()
