# The ELF reader of `doctor` and `record`. With ALLOCTAPE_BUILD_FUZZERS also the fuzzer itself:
#   elf_fuzz -max_len=32768 WORKING_DIRECTORY tests/fuzz/corpus/elf
add_executable(elf_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/elf_fuzz.cc
                               ${CMAKE_CURRENT_SOURCE_DIR}/replay_corpus.cc)
target_link_libraries(elf_fuzz_corpus PRIVATE alloctape_tracer_tool alloctape_formats)
add_test(NAME fuzz.elf_corpus
         COMMAND elf_fuzz_corpus ${CMAKE_CURRENT_SOURCE_DIR}/corpus/elf)

if(ALLOCTAPE_BUILD_FUZZERS)
  set(source_directory ${CMAKE_CURRENT_SOURCE_DIR}/../..)
  add_executable(elf_fuzz ${CMAKE_CURRENT_SOURCE_DIR}/elf_fuzz.cc
    ${source_directory}/formats/mapped_file.cc
    ${source_directory}/formats/result.cc
    ${source_directory}/tracer/elf_file.cc
    ${source_directory}/tracer/library_search.cc
    ${source_directory}/tracer/object_facts.cc)
  target_link_libraries(elf_fuzz PRIVATE alloctape_options fmt::fmt)
  target_compile_options(elf_fuzz PRIVATE -fsanitize=fuzzer)
  target_link_options(elf_fuzz PRIVATE -fsanitize=fuzzer)
endif()
