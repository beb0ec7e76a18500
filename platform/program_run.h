// Runs a program of the host (systemctl, an operator's command) to its end, in a session of its own, without a shell.
//
// A program that takes too long is ended with its process group; what has made a session of its own meanwhile (a daemon) isn't.
//
// Input is /dev/null. Output goes to memory of limited size, not to a pipe: a daemon that the program leaves behind may go on writing to
// it, and neither blocks nor dies of SIGPIPE when nobody reads; beyond the limit its writes fail. A program that prints more than that, and
// leaves nothing behind, may be read while it runs (`take_output`).
//
// Errors: a program that can't be started is a result with exit code 127, as in a shell; Error::system when the process can't be made.
// Threads: any. Privileges: none of its own.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace nodesnap {

struct ProgramRun {
    std::vector<std::string> arguments;      // the program, found by PATH if it has no '/', and its arguments
    std::vector<std::string> environment;    // "NAME=value", besides this process's own
    std::chrono::nanoseconds time_limit{0};  // 0: none. When it is over the process group gets SIGTERM, and kKillDelay later SIGKILL
    int cgroup_procs = -1;                   // Cgroup::procs_descriptor() of the cgroup that it shall be in
    std::function<void()> while_waiting;     // called about twice a second
    std::function<bool()> give_up = {};      // asked as often; true: as if the time limit were over
    // Gets standard output as it comes, in pieces of any length, instead of the result. If it throws the program is killed.
    std::function<void(std::string_view)> take_output = {};
    std::function<void(std::string_view)> take_error_output = {};  // likewise standard error
    std::vector<int> inherited = {};                               // descriptors that it has, too, under their numbers

    static constexpr std::chrono::milliseconds kKillDelay{2000};
};

struct ProgramResult {
    int exit_code = -1;  // 0 to 255; -1: ended by a signal
    int signal = 0;
    bool timed_out = false;
    std::string output;  // stdout and stderr; but for what is taken
    bool succeeded() const { return exit_code == 0 && !timed_out; }
    // "exit status 1: Unit qdbd.service not found.", with the last line of the output
    std::string explanation() const;
};

ProgramResult run_program(const ProgramRun& run);

}  // namespace nodesnap
