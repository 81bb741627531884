# One place for what every target of ours is compiled with.
#   alloctape_options  tool code: warnings, include root, sanitizers
add_library(alloctape_options INTERFACE)
target_include_directories(alloctape_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(alloctape_options INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers
  $<$<BOOL:${ALLOCTAPE_WERROR}>:-Werror>)
if(ALLOCTAPE_SANITIZE)
  # With a sanitizer gcc takes its own instrumentation for uninitialised reads (std::regex, at -O2).
  target_compile_options(alloctape_options INTERFACE
    -fsanitize=${ALLOCTAPE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_link_options(alloctape_options INTERFACE -fsanitize=${ALLOCTAPE_SANITIZE})
endif()
