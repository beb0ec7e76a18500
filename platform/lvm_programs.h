// Running LVM's programs. Internal to platform/lvm*.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/program_run.h"

namespace nodesnap::lvm {

// To its end, however long that takes.
ProgramResult run(std::vector<std::string> arguments);
// One that changes nothing, whose output is taken as it comes; ended when the user interrupts.
ProgramResult run_reading(std::vector<std::string> arguments, std::function<void(std::string_view)> take);
bool is_installed(const std::string& program);
// Of a program that was to do `what`, as in "remove the snapshot vg/x".
[[noreturn]] void fail(const std::string& what, const std::string& program, const ProgramResult& result);
// Runs it, and fails if that does.
void change(const std::string& what, std::vector<std::string> arguments);
std::uint64_t number(std::string_view text);  // its beginning; 0 if that is none

}  // namespace nodesnap::lvm
