# Replays of generated workloads: under what is installed, and under allocators made to fail.
find_package(Python3 REQUIRED COMPONENTS Interpreter)

add_executable(make_workload ${CMAKE_CURRENT_SOURCE_DIR}/simulator/make_workload.cc)
target_link_libraries(make_workload PRIVATE alloctape_options alloctape_formats)

set(bad_allocators ${CMAKE_CURRENT_BINARY_DIR}/allocators)
foreach(way IN ITEMS nothing crash abort null hang exit count overlap
        misalign dirty small corrupt forget)
  string(TOUPPER ${way} define)
  add_library(alloc_${way} MODULE ${CMAKE_CURRENT_SOURCE_DIR}/allocators/misbehaving.c)
  target_compile_definitions(alloc_${way} PRIVATE MISBEHAVE_${define})
  target_compile_options(alloc_${way} PRIVATE -Wall -Wextra -fno-builtin)
  set_target_properties(alloc_${way} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${bad_allocators})
endforeach()
add_library(alloc_none MODULE ${CMAKE_CURRENT_SOURCE_DIR}/allocators/no_allocator.c)
set_target_properties(alloc_none PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${bad_allocators})

set(tests every_allocator lanes many_lanes touch_and_timing latencies verify memory experiments
    compare usage)
set(flags)
if(ALLOCTAPE_SANITIZE MATCHES "thread")
  set(flags --no-preload)  # ThreadSanitizer's allocator cannot be replaced
else()
  list(APPEND tests bad_allocators caught failed_new harness_memory)
endif()
foreach(test IN LISTS tests)
  add_test(NAME simulator.${test}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/simulator_test.py ${test}
      $<TARGET_FILE:alloctape> $<TARGET_FILE:make_workload> ${bad_allocators} ${flags})
  set_tests_properties(simulator.${test} PROPERTIES LABELS "simulator" TIMEOUT 120)
endforeach()
