#include "snapshot/hold/command_runner.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <exception>
#include <span>
#include <string_view>

#include "platform/clock.h"
#include "platform/error.h"
#include "platform/fault.h"
#include "platform/file.h"
#include "platform/pidfd.h"
#include "platform/spawn.h"

namespace nodesnap::hold {
namespace {

constexpr std::int64_t kCallbackNs = 500'000'000;
constexpr int kIoprioWhoProcess = 1;

// What the one between tells; less than a pipe takes at once.
struct Told {
    std::int32_t exit_code = -1;
    std::int32_t signal = 0;
    bool timed_out = false;
    std::uint32_t length = 0;
    std::array<char, 2000> end_of_output{};
};

// As a process has it that was started by hand: a database at the guard's -1000 would have the kernel kill everything else.
void take_back_precautions() {
    sched_param normal{};
    ::sched_setscheduler(0, SCHED_OTHER, &normal);
    ::setpriority(PRIO_PROCESS, 0, 0);
    ::syscall(SYS_ioprio_set, kIoprioWhoProcess, 0, 0);
    ::umask(022);
    try {
        constexpr std::string_view kUsual = "0";
        write_all(open_path("/proc/self/oom_score_adj", O_WRONLY).get(), std::as_bytes(std::span(kUsual)), "oom_score_adj");
    } catch (const Error&) {
        // It was never lowered, and may not be.
    }
}

Told run(const ProgramRun& program) {
    const ProgramResult result = run_program(program);
    Told told;
    told.exit_code = result.exit_code;
    told.signal = result.signal;
    told.timed_out = result.timed_out;
    const std::size_t length = std::min(result.output.size(), told.end_of_output.size());
    std::copy_n(result.output.end() - static_cast<std::ptrdiff_t>(length), length, told.end_of_output.begin());
    told.length = static_cast<std::uint32_t>(length);
    return told;
}

[[noreturn]] void be_between(ProgramRun program, int pipe) {
    program.while_waiting = {};  // the guard's affair
    ::setsid();
    take_back_precautions();
    Told told;
    try {
        told = run(program);
    } catch (const std::exception& error) {
        told.length = static_cast<std::uint32_t>(std::string_view(error.what()).copy(told.end_of_output.data(), told.end_of_output.size()));
    }
    [[maybe_unused]] const ssize_t written = ::write(pipe, &told, sizeof(told));
    ::_exit(0);
}

}  // namespace

ProgramResult run_beside_guard(const ProgramRun& run) {
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC) != 0) {
        throw Error::system("make", "a pipe", errno);
    }
    const FileDescriptor from(ends[0]);
    FileDescriptor to(ends[1]);
    if (const int error = fault::inject("fork")) {
        throw Error::system("start", run.arguments[0], error);
    }
    const pid_t pid = ::fork();
    if (pid == 0) {
        be_between(run, to.get());
    }
    if (pid < 0) {
        throw Error::system("start", run.arguments[0], errno);
    }
    to.reset();
    const Pidfd between = Pidfd::open(pid).value();
    while (!between.wait_ended(monotonic_ns() + kCallbackNs)) {
        if (run.while_waiting) {
            run.while_waiting();
        }
    }
    const int status = wait_for_child(pid);
    ProgramResult result;
    Told told;
    if (::read(from.get(), &told, sizeof(told)) == static_cast<ssize_t>(sizeof(told))) {
        result.exit_code = told.exit_code;
        result.signal = told.signal;
        result.timed_out = told.timed_out;
        result.output.assign(told.end_of_output.data(), std::min<std::size_t>(told.length, told.end_of_output.size()));
    } else {
        result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        result.output = "the process that waited for it has ended";
    }
    return result;
}

}  // namespace nodesnap::hold
