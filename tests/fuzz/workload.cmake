# The workload reader, and the converter on any trace (with the corpus of the trace reader). With
# ALLOCTAPE_BUILD_FUZZERS also the fuzzers themselves, with instrumented copies of the sources:
#   workload_fuzz -max_len=16384 WORKING_DIRECTORY tests/fuzz/corpus/workload
#   convert_fuzz -max_len=16384 WORKING_DIRECTORY tests/fuzz/corpus/trace
add_executable(workload_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/workload_fuzz.cc
                                    ${CMAKE_CURRENT_SOURCE_DIR}/replay_corpus.cc)
target_link_libraries(workload_fuzz_corpus PRIVATE alloctape_formats)
add_test(NAME fuzz.workload_corpus
         COMMAND workload_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/corpus/workload)
add_executable(convert_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/convert_fuzz.cc
                                   ${CMAKE_CURRENT_SOURCE_DIR}/replay_corpus.cc)
target_link_libraries(convert_fuzz_corpus PRIVATE alloctape_converter)
add_test(NAME fuzz.convert_corpus
         COMMAND convert_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/corpus/trace)

if(ALLOCTAPE_BUILD_FUZZERS)
  set(formats_directory ${CMAKE_CURRENT_SOURCE_DIR}/../../formats)
  set(converter_directory ${CMAKE_CURRENT_SOURCE_DIR}/../../converter)
  add_executable(workload_fuzz ${CMAKE_CURRENT_SOURCE_DIR}/workload_fuzz.cc
    ${formats_directory}/result.cc
    ${formats_directory}/mapped_file.cc
    ${formats_directory}/workload_file.cc
    ${formats_directory}/workload_validate.cc)
  add_executable(convert_fuzz ${CMAKE_CURRENT_SOURCE_DIR}/convert_fuzz.cc
    ${formats_directory}/result.cc
    ${formats_directory}/mapped_file.cc
    ${formats_directory}/trace_file.cc
    ${formats_directory}/trace_scan.cc
    ${formats_directory}/trace_index.cc
    ${formats_directory}/block_unpacker.cc
    ${formats_directory}/stream_decoder.cc
    ${formats_directory}/heap_walk.cc
    ${formats_directory}/workload_file.cc
    ${formats_directory}/workload_validate.cc
    ${formats_directory}/workload_writer.cc
    ${converter_directory}/bounded_order.cc
    ${converter_directory}/converter.cc
    ${converter_directory}/lanes.cc
    ${converter_directory}/output_file.cc
    ${converter_directory}/script_builder.cc
    ${converter_directory}/sequencer.cc
    ${converter_directory}/slot_allocator.cc
    ${converter_directory}/sync_graph.cc)
  foreach(target IN ITEMS workload_fuzz convert_fuzz)
    target_link_libraries(${target} PRIVATE
      alloctape_options fmt::fmt nlohmann_json::nlohmann_json)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  endforeach()
endif()
