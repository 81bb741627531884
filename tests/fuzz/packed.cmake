# The codec of packed blocks. With ALLOCTAPE_BUILD_FUZZERS also the fuzzer itself:
#   packed_fuzz -max_len=16384 WORKING_DIRECTORY tests/fuzz/corpus/packed
add_executable(packed_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/packed_fuzz.cc
                                  ${CMAKE_CURRENT_SOURCE_DIR}/replay_corpus.cc)
target_link_libraries(packed_fuzz_corpus PRIVATE alloctape_formats)
add_test(NAME fuzz.packed_corpus
         COMMAND packed_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/corpus/packed)

if(ALLOCTAPE_BUILD_FUZZERS)
  set(formats_directory ${CMAKE_CURRENT_SOURCE_DIR}/../../formats)
  add_executable(packed_fuzz ${CMAKE_CURRENT_SOURCE_DIR}/packed_fuzz.cc
    ${formats_directory}/result.cc
    ${formats_directory}/block_packer.cc
    ${formats_directory}/block_unpacker.cc)
  target_link_libraries(packed_fuzz PRIVATE alloctape_options fmt::fmt PkgConfig::ZSTD)
  target_compile_options(packed_fuzz PRIVATE -fsanitize=fuzzer)
  target_link_options(packed_fuzz PRIVATE -fsanitize=fuzzer)
endif()
