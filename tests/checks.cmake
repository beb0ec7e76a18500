# Static checks, sanitized tests and fuzzers as tests of their own, so that one run of ctest tells everything.

# The tests whose code runs in several threads, or reads what was stored. snapshot_test takes a quarter of an hour under a sanitizer: build it with
# the asan or tsan preset, and run it by hand after a change to the drain or the restore.
set(sanitized io_test repository_test command_test)
add_custom_target(sanitized_tests)
foreach(name ${sanitized})
  if(TARGET ${name})
    add_dependencies(sanitized_tests ${name})
  endif()
endforeach()

# tests/fuzz/*_fuzz.cpp: a libFuzzer target each, its corpus in tests/fuzz/corpus/NAME.
file(GLOB fuzz_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/*_fuzz.cpp)
add_custom_target(fuzzers)
if(NODESNAP_FUZZERS)
  foreach(source ${fuzz_sources})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE nodesnap_command nodesnap_test_support)
    target_include_directories(${name} SYSTEM PRIVATE ${CMAKE_BINARY_DIR}/generated)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    add_dependencies(fuzzers ${name})
  endforeach()
endif()

if(NODESNAP_ALL_CHECKS)
  foreach(check format layers tidy)
    add_test(NAME check.${check} COMMAND ${CMAKE_SOURCE_DIR}/scripts/check ${check} ${CMAKE_BINARY_DIR})
    set_tests_properties(check.${check} PROPERTIES LABELS check TIMEOUT 900)
  endforeach()
  set_tests_properties(check.tidy PROPERTIES PROCESSORS 2)  # it starts as many of its own
  foreach(name ${sanitized})
    if(TARGET ${name})
      foreach(preset asan tsan)
        add_test(NAME ${preset}.${name} COMMAND ${CMAKE_SOURCE_DIR}/build/${preset}/tests/${name} --gtest_brief=1)
        set_tests_properties(${preset}.${name} PROPERTIES LABELS sanitizer TIMEOUT 1200
          ENVIRONMENT "ASAN_OPTIONS=detect_stack_use_after_return=1;UBSAN_OPTIONS=print_stacktrace=1;TSAN_OPTIONS=second_deadlock_stack=1")
      endforeach()
    endif()
  endforeach()
  foreach(source ${fuzz_sources})
    get_filename_component(name ${source} NAME_WE)
    add_test(NAME fuzz.${name} COMMAND ${CMAKE_SOURCE_DIR}/scripts/fuzz ${name} 10)
    set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 120)
  endforeach()
endif()
