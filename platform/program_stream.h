// ProgramStream: a program (ssh) that is talked with over its standard input and output, while it runs.
//
// It has a process group of its own, but stays in this session, so that it can ask for a password at the terminal: while `asks` is set, and
// this process has the terminal, it has it instead. Its standard error is kept. Ended by the destructor, first by closing, then by SIGTERM.
//
// Errors: Error::system; a program that can't be executed ends with 127, as in a shell. One thread at a time.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "platform/file_descriptor.h"
#include "platform/output_memory.h"
#include "platform/pidfd.h"
#include "platform/terminal.h"

namespace nodesnap {

class ProgramStream {
public:
    ProgramStream(const std::vector<std::string>& arguments, bool asks);
    ~ProgramStream();
    ProgramStream(const ProgramStream&) = delete;
    ProgramStream& operator=(const ProgramStream&) = delete;

    // Both are the same socket's. Each only once.
    FileDescriptor take_in() { return std::move(in_); }
    FileDescriptor take_out() { return std::move(out_); }
    // It has work of its own, which isn't cut short when this object goes: then it is only waited for, for a moment.
    void may_outlive() { may_outlive_ = true; }
    // It won't ask any more.
    void give_terminal_back() { terminal_.reset(); }
    // Waits for its end, at most as long; then it is ended. How it ended, with the last line that it said: "exit status 255: Permission
    // denied". Empty if it succeeded.
    std::string end(std::chrono::milliseconds at_most);

private:
    FileDescriptor in_;
    FileDescriptor out_;
    OutputMemory error_output_;
    pid_t pid_ = -1;
    std::optional<Pidfd> process_;
    std::unique_ptr<TerminalLoan> terminal_;
    std::optional<std::string> ended_;
    bool may_outlive_ = false;
};

}  // namespace nodesnap
