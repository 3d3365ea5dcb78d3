# Three functions; every folder's CMakeLists.txt is a list of these.

# terrace_library(storage SOURCES a.cc b.cc DEPS terrace::base PRIVATE_DEPS RocksDB::rocksdb-shared)
function(terrace_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(terrace_${name} STATIC EXCLUDE_FROM_ALL ${ARG_SOURCES})  # for those who need it
  add_library(terrace::${name} ALIAS terrace_${name})
  target_include_directories(terrace_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(terrace_${name} PUBLIC ${ARG_DEPS}
                        PRIVATE ${ARG_PRIVATE_DEPS} terrace_warnings)
endfunction()

# NAME or FOLDER/NAME, and NAME.cc there:
# terrace_test(crash_test DEPS terrace::storage LABELS slow TIMEOUT_S 120)
function(terrace_test path)
  get_filename_component(name ${path} NAME)
  cmake_parse_arguments(ARG "" "TIMEOUT_S" "DEPS;LABELS;SOURCES" ${ARGN})
  # "uninstrumented": over libraries that Debian builds without the thread sanitizer, which then
  # sees races that are none. "one_thread": long, and there is nothing to see.
  if(TERRACE_THREAD_SANITIZER AND "${ARG_LABELS}" MATCHES "uninstrumented|one_thread")
    return()
  endif()
  add_executable(${name} ${path}.cc ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} terrace_warnings GTest::gtest_main)
  # Half the time to compile. What is tested is optimised all the same, and so are simulations,
  # which run long.
  if(TERRACE_SANITIZE AND NOT "terrace::sim" IN_LIST ARG_DEPS)
    target_compile_options(${name} PRIVATE -O0)
  endif()
  if(NOT ARG_TIMEOUT_S)
    set(ARG_TIMEOUT_S 60)
  endif()
  set(properties TIMEOUT ${ARG_TIMEOUT_S})
  if(ARG_LABELS)  # an empty LABELS would swallow the word after it
    list(APPEND properties LABELS ${ARG_LABELS})
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES ${properties})
endfunction()

# terrace_binary(terraced SOURCES main.cc DEPS terrace::server)
function(terrace_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} terrace_warnings)
  if(TERRACE_THREAD_SANITIZER)  # no test that it builds starts one
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
endfunction()
