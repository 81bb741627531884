# `alloctape record` as its user meets it: names, exit statuses, signals, messages.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_executable(record_static_program ${CMAKE_CURRENT_SOURCE_DIR}/record_static_program.c)
target_link_options(record_static_program PRIVATE -static)
add_test(NAME cli.record
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/record_cli.py
    $<TARGET_FILE:alloctape> $<TARGET_FILE:record_static_program>)
set_tests_properties(cli.record PROPERTIES
  LABELS "cli" TIMEOUT 120 ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")
