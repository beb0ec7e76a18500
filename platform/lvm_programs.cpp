#include "platform/lvm_programs.h"

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/interrupt.h"
#include "platform/lvm.h"

namespace nodesnap::lvm {
namespace {

constexpr int kNotFound = 127;

thread_local int kept_open = -1;

ProgramRun prepared(std::vector<std::string> arguments) {
    ProgramRun program;
    program.arguments = std::move(arguments);
    // A service's PATH need not hold them.
    const char* path = std::getenv("PATH");
    if (path == nullptr || std::string_view(path).find("/sbin") == std::string_view::npos) {
        for (const char* directory : {"/usr/sbin/", "/sbin/"}) {
            if (stat_path(directory + program.arguments[0])) {
                program.arguments[0] = directory + program.arguments[0];
                break;
            }
        }
    }
    program.environment = {"LC_ALL=C", "LVM_SUPPRESS_FD_WARNINGS=1"};
    return program;
}

}  // namespace

ProgramResult run(std::vector<std::string> arguments) {
    return run_program(prepared(std::move(arguments)));
}

ProgramResult run_reading(std::vector<std::string> arguments, std::function<void(std::string_view)> take) {
    ProgramRun program = prepared(std::move(arguments));
    program.take_output = std::move(take);
    program.give_up = [] { return interrupt::interrupted(); };
    return run_program(program);
}

bool is_installed(const std::string& program) {
    const char* const path = std::getenv("PATH");
    std::istringstream directories((path == nullptr ? std::string() : path + std::string(":")) + "/usr/sbin:/sbin");
    for (std::string directory; std::getline(directories, directory, ':');) {
        directory += '/';
        directory += program;
        if (directory.size() > program.size() + 1 && ::access(directory.c_str(), X_OK) == 0) {
            return true;
        }
    }
    return false;
}

KeptOpen::KeptOpen(int descriptor) noexcept : before_(std::exchange(kept_open, descriptor)) {}

KeptOpen::~KeptOpen() {
    kept_open = before_;
}

[[noreturn]] void fail(const std::string& what, const std::string& program, const ProgramResult& result) {
    if (result.exit_code == kNotFound) {
        throw Error::failed("cannot " + what + ": " + program + " can't be run (" + result.explanation() + ")",
                            "install lvm2, which has the programs that LVM's volumes are managed with");
    }
    throw Error::failed("cannot " + what + ": " + program + ": " + result.explanation(),
                        "run as root; `lvs -a -o +devices` and the kernel's log may tell more");
}

void change(const std::string& what, std::vector<std::string> arguments) {
    const std::string program = arguments.front();
    if (const int error = fault::inject("lvm")) {
        throw Error::system(what, "", error);
    }
    ProgramRun run = prepared(std::move(arguments));
    if (kept_open >= 0) {
        // LVM's programs close what they don't know: it is the shell that keeps it open.
        run.arguments.insert(run.arguments.begin(), {"/bin/sh", "-c", "\"$@\"; exit $?", "sh"});
        run.inherited.push_back(kept_open);
    }
    const ProgramResult result = run_program(run);
    if (!result.succeeded()) {
        fail(what, program, result);
    }
}

std::uint64_t number(std::string_view text) {
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

}  // namespace nodesnap::lvm
