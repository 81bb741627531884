# Packing: the command, and what record does while a program runs.
add_executable(itest_calls_then_waits ${CMAKE_CURRENT_LIST_DIR}/programs/calls_then_waits.c)
target_compile_options(itest_calls_then_waits PRIVATE -O2 -Wall -Wextra)
target_link_libraries(itest_calls_then_waits PRIVATE Threads::Threads)
set_target_properties(itest_calls_then_waits PROPERTIES
  OUTPUT_NAME calls_then_waits RUNTIME_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
foreach(case bad_input live pack_and_unpack program_killed record_killed seek)
  add_test(NAME integration.pack.${case}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/pack.py ${case})
  set_tests_properties(integration.pack.${case} PROPERTIES
    LABELS "integration;tracer" SKIP_RETURN_CODE 77 TIMEOUT 180
    ENVIRONMENT "ALLOCTAPE_BUILD=${CMAKE_BINARY_DIR};ALLOCTAPE_TEST_BUILD=${CMAKE_CURRENT_BINARY_DIR};PYTHONDONTWRITEBYTECODE=1")
endforeach()
