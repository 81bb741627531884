# `alloctape doctor` on real programs and processes, and whether what it says comes true.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
foreach(part verdicts programs setuid process traced_process)
  add_test(NAME integration.doctor.${part}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/doctor.py ${part})
  set_tests_properties(integration.doctor.${part} PROPERTIES
    LABELS "integration;tracer" SKIP_RETURN_CODE 77 TIMEOUT 120
    ENVIRONMENT "ALLOCTAPE_BUILD=${CMAKE_BINARY_DIR};PYTHONDONTWRITEBYTECODE=1")
endforeach()
