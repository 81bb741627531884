# The rules of the house, held by tests: who may include whom, how long a file may be, what the preload
# library links and exports, and that no committed file names a place on somebody's machine.
find_package(Python3 REQUIRED COMPONENTS Interpreter)

# The API list as wire/opcodes.h has it, one symbol a line.
add_executable(list_api_symbols ${CMAKE_CURRENT_SOURCE_DIR}/house/list_api_symbols.cc)
target_link_libraries(list_api_symbols PRIVATE alloctape_options)

foreach(rule include_rule file_length no_machine_paths)
  add_test(NAME house.${rule}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/house/${rule}.py ${CMAKE_SOURCE_DIR})
endforeach()
if(TARGET alloctape_preload)
  add_test(NAME house.preload_library
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/house/preload_library.py
      $<TARGET_FILE:alloctape_preload> $<TARGET_FILE:list_api_symbols>)
endif()
foreach(rule include_rule file_length no_machine_paths preload_library)
  if(TEST house.${rule})
    set_tests_properties(house.${rule} PROPERTIES
      LABELS "house" ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")
  endif()
endforeach()
