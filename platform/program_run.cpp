#include "platform/program_run.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <string_view>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/file_descriptor.h"
#include "platform/pidfd.h"
#include "platform/spawn.h"

namespace nodesnap {
namespace {

constexpr std::int64_t kCallbackNs = 500'000'000;
constexpr std::size_t kToldBytes = 500;

// Fixed in size, so that whoever holds it can't make it grow.
FileDescriptor make_output_memory() {
    FileDescriptor memory(::memfd_create("nodesnap-output", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memory || ::ftruncate(memory.get(), ProgramRun::kOutputLimit) != 0 ||
        ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) != 0) {
        throw Error::system("make memory for the output of a program", "", errno);
    }
    return memory;
}

std::string written_to(int memory) {
    const off_t end = ::lseek(memory, 0, SEEK_CUR);  // the position is shared with the program
    std::string text(static_cast<std::size_t>(std::max<off_t>(end, 0)), '\0');
    const ssize_t count = ::pread(memory, text.data(), text.size(), 0);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    return text;
}

// Returns when the program has ended; it isn't waited for yet, so that its number still belongs to its group. True if it took too long.
bool wait_for_end(const Pidfd& process, const ProgramRun& run) {
    std::int64_t deadline = run.time_limit.count() > 0 ? monotonic_ns() + run.time_limit.count() : INT64_MAX;
    bool timed_out = false;
    while (!process.wait_ended(std::min(monotonic_ns() + kCallbackNs, deadline))) {
        if (run.while_waiting) {
            run.while_waiting();
        }
        if (!timed_out && run.give_up && run.give_up()) {
            deadline = monotonic_ns();
        }
        if (monotonic_ns() >= deadline) {
            ::kill(-process.pid(), timed_out ? SIGKILL : SIGTERM);
            deadline = timed_out ? INT64_MAX : monotonic_ns() + std::chrono::nanoseconds(ProgramRun::kKillDelay).count();
            timed_out = true;
        }
    }
    if (timed_out) {
        ::kill(-process.pid(), SIGKILL);  // what it has started, and left
    }
    return timed_out;
}

}  // namespace

std::string ProgramResult::explanation() const {
    std::string text = timed_out     ? "it took too long"
                       : signal != 0 ? "killed by signal " + std::to_string(signal)
                                     : "exit status " + std::to_string(exit_code);
    std::string_view last = output;
    while (!last.empty() && (last.back() == '\n' || last.back() == ' ')) {
        last.remove_suffix(1);
    }
    last = last.substr(last.rfind('\n') + 1);
    return last.empty() ? text : text + ": " + std::string(last.substr(0, kToldBytes));
}

ProgramResult run_program(const ProgramRun& run) {
    const FileDescriptor output = make_output_memory();
    const pid_t pid = spawn({run.arguments, "", run.environment, output.get(), {}, run.cgroup_procs});
    ProgramResult result;
    result.timed_out = wait_for_end(Pidfd::open(pid).value(), run);
    const int status = wait_for_child(pid);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result.output = written_to(output.get());
    return result;
}

}  // namespace nodesnap
