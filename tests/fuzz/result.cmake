# The reader of results. With ALLOCTAPE_BUILD_FUZZERS also the fuzzer itself:
#   result_fuzz -max_len=16384 WORKING_DIRECTORY tests/fuzz/corpus/result
add_executable(result_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/result_fuzz.cc
                                  ${CMAKE_CURRENT_SOURCE_DIR}/replay_corpus.cc)
target_link_libraries(result_fuzz_corpus PRIVATE alloctape_formats nlohmann_json::nlohmann_json)
add_test(NAME fuzz.result_corpus
         COMMAND result_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/corpus/result)

if(ALLOCTAPE_BUILD_FUZZERS)
  set(formats_directory ${CMAKE_CURRENT_SOURCE_DIR}/../../formats)
  add_executable(result_fuzz ${CMAKE_CURRENT_SOURCE_DIR}/result_fuzz.cc
    ${formats_directory}/result.cc
    ${formats_directory}/result_json.cc)
  target_link_libraries(result_fuzz PRIVATE
    alloctape_options fmt::fmt nlohmann_json::nlohmann_json)
  target_compile_options(result_fuzz PRIVATE -fsanitize=fuzzer)
  target_link_options(result_fuzz PRIVATE -fsanitize=fuzzer)
endif()
