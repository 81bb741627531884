add_executable(simulator_test
  ${CMAKE_CURRENT_SOURCE_DIR}/simulator_candidate_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/simulator_histogram_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/simulator_loop_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/simulator_result_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/simulator_sync_test.cc
  ${CMAKE_CURRENT_SOURCE_DIR}/simulator_verifier_test.cc
  ${CMAKE_SOURCE_DIR}/simulator/replayer/allocator_hooks.cc
  ${CMAKE_SOURCE_DIR}/simulator/replayer/api_table.cc
  ${CMAKE_SOURCE_DIR}/simulator/replayer/backtrace.cc
  ${CMAKE_SOURCE_DIR}/simulator/replayer/lane_threads.cc
  ${CMAKE_SOURCE_DIR}/simulator/replayer/loop_table.cc
  ${CMAKE_SOURCE_DIR}/simulator/replayer/verifier.cc)
target_link_libraries(simulator_test PRIVATE
  alloctape_simulator alloctape_options GTest::gtest_main nlohmann_json::nlohmann_json
  Threads::Threads ${CMAKE_DL_LIBS})
gtest_discover_tests(simulator_test PROPERTIES LABELS "simulator" DISCOVERY_TIMEOUT 60)
target_sources(simulator_test PRIVATE ${CMAKE_SOURCE_DIR}/simulator/replayer/mappings.cc)
