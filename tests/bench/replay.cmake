# Replays against the bare loop, and the calloc experiment. They run and give figures; what these are
# is no gate.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
foreach(program bare_loop big_calloc)
  add_executable(${program} ${CMAKE_CURRENT_LIST_DIR}/${program}.c)
  target_compile_options(${program} PRIVATE -O2 -Wall -Wextra -fno-builtin)
  set_target_properties(${program} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/bench)
endforeach()
if(NOT ALLOCTAPE_SANITIZE)
  add_test(NAME bench.replay_speed_smoke
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_LIST_DIR}/replay_speed.py
            --build ${CMAKE_BINARY_DIR} --make-workload $<TARGET_FILE:make_workload>
            --calls 100000 --rounds 1)
  add_test(NAME bench.calloc_experiment_smoke
    COMMAND ${Python3_EXECUTABLE} -B ${CMAKE_CURRENT_LIST_DIR}/calloc_experiment.py
            --build ${CMAKE_BINARY_DIR} --times 10 --megabytes 10 --allocators glibc,glibc\ M_MMAP_MAX=0)
  set_tests_properties(bench.replay_speed_smoke bench.calloc_experiment_smoke PROPERTIES LABELS bench)
endif()
