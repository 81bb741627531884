# The driver as a user meets it: words, exit codes, figures of two small files.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_executable(cli_make_fixtures ${CMAKE_CURRENT_SOURCE_DIR}/make_fixtures.cc)
target_link_libraries(cli_make_fixtures PRIVATE alloctape_formats)

foreach(area driver help man doctor files info dump stat check)
  add_test(NAME cli.${area}
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_SOURCE_DIR}/cli_test.py
      --driver $<TARGET_FILE:alloctape> --fixtures $<TARGET_FILE:cli_make_fixtures>
      --source ${CMAKE_SOURCE_DIR} ${area})
  set_tests_properties(cli.${area} PROPERTIES TIMEOUT 60)
endforeach()
