// The terminal: whether a descriptor is one, since what a person sees may be cleared and rewritten, what a program reads may not; and
// lending it to a program that has to ask something.
#pragma once

#include <sys/types.h>

#include "platform/file_descriptor.h"

namespace nodesnap {

bool is_terminal(int fd) noexcept;
// Whether this process has the terminal of its session, and so could be asked something.
bool has_terminal() noexcept;

// While it lives the process group has the terminal, if this process's group has had it: otherwise a program that reads from it would be
// stopped. Signals by keys go to that group meanwhile.
class TerminalLoan {
public:
    explicit TerminalLoan(pid_t group) noexcept;
    ~TerminalLoan();
    TerminalLoan(const TerminalLoan&) = delete;
    TerminalLoan& operator=(const TerminalLoan&) = delete;

private:
    FileDescriptor terminal_;
};

}  // namespace nodesnap
