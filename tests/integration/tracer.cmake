# Programs that are nasty in one way each, run untraced, counted and recorded; and real programs of the
# machine, compared call by call with an independent counter.

# The programs call what their sources say: nothing inlined, merged or dropped.
set(itest_dir ${CMAKE_CURRENT_BINARY_DIR}/programs)
function(itest_target target)
  target_compile_options(${target} PRIVATE -O2 -g -Wall -Wextra -Wshadow -fno-builtin
    $<$<BOOL:${ALLOCTAPE_WERROR}>:-Werror>)
  set_target_properties(${target} PROPERTIES
    C_EXTENSIONS ON
    RUNTIME_OUTPUT_DIRECTORY ${itest_dir}
    LIBRARY_OUTPUT_DIRECTORY ${itest_dir})
  target_link_libraries(${target} PRIVATE Threads::Threads ${CMAKE_DL_LIBS})
endfunction()

add_library(counter MODULE ${CMAKE_CURRENT_SOURCE_DIR}/counter/counter.c)
itest_target(counter)
target_compile_options(counter PRIVATE -fvisibility=hidden)

foreach(program
    aborts busy_threads changes_directory changes_root closed_descriptors daemonizes dlopen_churn
    dlopen_close drops_privileges errno_kept every_function exec exec_from_thread few_descriptors fork
    fork_from_thread hand_over_chain kill_victim many_threads not_dumpable out_of_space prints_preload
    maps producer_consumer raw_fork realloc_edges realloc_race seccomp signal_handlers signal_storm
    small_stacks stack_overflow ten_thousand_threads underscore_exit unshares vfork_exec)
  add_executable(itest_${program} ${CMAKE_CURRENT_SOURCE_DIR}/programs/${program}.c)
  itest_target(itest_${program})
  set_target_properties(itest_${program} PROPERTIES OUTPUT_NAME ${program})
endforeach()
foreach(program
    at_exit before_main coroutines every_operator failed_calls leaves_new tls_destructors)
  add_executable(itest_${program} ${CMAKE_CURRENT_SOURCE_DIR}/programs/${program}.cc)
  itest_target(itest_${program})
  set_target_properties(itest_${program} PROPERTIES OUTPUT_NAME ${program})
endforeach()
add_library(itest_early_library SHARED ${CMAKE_CURRENT_SOURCE_DIR}/programs/early_library.c)
add_library(itest_plugin MODULE ${CMAKE_CURRENT_SOURCE_DIR}/programs/plugin.cc)
foreach(pad 0 16)
  add_library(itest_own_operators_${pad} MODULE ${CMAKE_CURRENT_SOURCE_DIR}/programs/own_operators.cc)
  itest_target(itest_own_operators_${pad})
  # Without a C++ runtime: libstdc++, once loaded, would stay.
  set_target_properties(itest_own_operators_${pad} PROPERTIES
    OUTPUT_NAME own_operators_${pad} LINKER_LANGUAGE C)
  target_compile_definitions(itest_own_operators_${pad} PRIVATE PAD=${pad})
  target_compile_options(itest_own_operators_${pad} PRIVATE -fno-exceptions)
  target_link_options(itest_own_operators_${pad} PRIVATE -Wl,--as-needed)
endforeach()
add_library(itest_user_preload MODULE ${CMAKE_CURRENT_SOURCE_DIR}/programs/user_preload.c)
foreach(library early_library plugin user_preload)
  itest_target(itest_${library})
  set_target_properties(itest_${library} PROPERTIES OUTPUT_NAME ${library})
endforeach()
target_link_libraries(itest_before_main PRIVATE itest_early_library)
# Reads traces by the readers that the tools use.
add_executable(itest_object_histories ${CMAKE_CURRENT_SOURCE_DIR}/object_histories.cc)
set_target_properties(itest_object_histories PROPERTIES
  OUTPUT_NAME object_histories RUNTIME_OUTPUT_DIRECTORY ${itest_dir})
target_link_libraries(itest_object_histories PRIVATE alloctape_formats)

find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(itest_scale 1)
if(ALLOCTAPE_SANITIZE)
  set(itest_scale 0.1)  # of what the long tests do: the tools are slower by an order of magnitude
endif()
# itest(NAME LABELS SCRIPT ARGS...)
function(itest name labels script)
  add_test(NAME integration.${name}
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/${script} ${ARGN})
  set_tests_properties(integration.${name} PROPERTIES
    LABELS "integration;${labels}" SKIP_RETURN_CODE 77 TIMEOUT 180
    ENVIRONMENT "ALLOCTAPE_BUILD=${CMAKE_BINARY_DIR};ALLOCTAPE_TEST_BUILD=${itest_dir};ALLOCTAPE_TEST_SCALE=${itest_scale};PYTHONDONTWRITEBYTECODE=1")
endfunction()

itest(counter tracer counter_test.py)
foreach(program
    abort at_exit before_main changes_directory changes_root closed_descriptors daemonizes
    dlopen_close drops_privileges errno_kept every_function every_operator exec exec_from_thread
    failed_calls few_descriptors fork fork_from_thread kill not_dumpable prints_preload raw_fork realloc_edges
    realloc_race segv signal_handlers signal_storm signal_timer small_stacks stack_overflow
    ten_thousand_threads thousand_threads tls_destructors underscore_exit unshares vfork_exec)
  itest(nasty.${program} tracer nasty.py ${program})
endforeach()
foreach(limit
    address_space file_size forbidden_directory full_disk full_ext4 little_space max_size no_directory
    quota removed_directory stderr_in_the_way under_record)
  itest(limits.${limit} tracer limits.py ${limit})
endforeach()
foreach(case
    coroutines dlopen_churn leaves_new seccomp set_user_id short_threads stopped under_debuggers user_allocator)
  itest(life.${case} tracer process_life.py ${case})
endforeach()
itest(kill_nine "tracer;slow" kill_nine.py)
itest(hand_over.one_by_one "slow" hand_over.py 1)
itest(hand_over.batches "slow" hand_over.py 64)
itest(hand_over.histories "slow" hand_over_histories.py)
foreach(allocator glibc jemalloc tcmalloc tcmalloc_minimal mimalloc tbbmalloc)
  itest(maps.calls.${allocator} tracer maps.py calls ${allocator})
endforeach()
foreach(allocator glibc jemalloc)
  itest(maps.round_trip.${allocator} tracer maps.py round_trip ${allocator})
endforeach()
itest(maps.not_asked_for tracer maps.py not_asked_for)
itest(maps.own_library tracer maps.py library)
itest(maps.python3 "tracer;real" maps.py python)
foreach(program sqlite3 gawk python3 g++ clang++ git git-threads xz redis nginx pipeline)
  itest(real.${program} "real;slow" real_programs.py ${program})
endforeach()
foreach(program chromium clang++ java nginx node postgres python3)
  itest(big.${program} "real;slow" big_programs.py ${program})
endforeach()
