# Control of recordings: by ctl, by record's own options, and from within through alloctape.h.
foreach(program grows until_told)
  add_executable(itest_${program} ${CMAKE_CURRENT_SOURCE_DIR}/programs/${program}.c)
  itest_target(itest_${program})
  set_target_properties(itest_${program} PROPERTIES OUTPUT_NAME ${program})
endforeach()

# What alloctape.h must work in: weak references to the tracer would be null in half of these.
function(steering_program name language)
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/programs/steers_itself.c)
  if(language STREQUAL "CXX")
    set(source ${itest_dir}/${name}.cc)
    file(GENERATE OUTPUT ${source}
      CONTENT "#include \"${CMAKE_CURRENT_SOURCE_DIR}/programs/steers_itself.c\"\n")
  endif()
  add_executable(itest_${name} ${source})
  itest_target(itest_${name})
  target_include_directories(itest_${name} PRIVATE
    ${CMAKE_SOURCE_DIR}/tracer ${CMAKE_CURRENT_SOURCE_DIR}/programs)
  target_compile_options(itest_${name} PRIVATE ${ARGN})
  list(FILTER ARGN EXCLUDE REGEX "^-(std|fpie|fno-pie)")
  target_link_options(itest_${name} PRIVATE ${ARGN})
  set_target_properties(itest_${name} PROPERTIES OUTPUT_NAME ${name})
endfunction()
steering_program(steers_itself C -fpie -pie -Wl,-z,now)
steering_program(steers_itself_fixed C -fno-pie -no-pie)
steering_program(steers_itself_cxx CXX -fno-pie -no-pie)
steering_program(steers_itself_static C -static)

foreach(case delay_duration errors inside inside_toggles on_rss paused redis ring_dump ring_exact
    ring_killed toggles tree)
  itest(control.${case} tracer control.py ${case})
endforeach()
