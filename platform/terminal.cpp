#include "platform/terminal.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>

namespace nodesnap {
namespace {

FileDescriptor open_own_terminal() noexcept {
    FileDescriptor terminal(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
    if (terminal && ::tcgetpgrp(terminal.get()) != ::getpgrp()) {
        terminal.reset();
    }
    return terminal;
}

// Who isn't in the foreground any more is stopped by SIGTTOU when it takes the terminal.
void give_terminal(int terminal, pid_t group) noexcept {
    sigset_t output;
    sigset_t before;
    sigemptyset(&output);
    sigaddset(&output, SIGTTOU);
    ::pthread_sigmask(SIG_BLOCK, &output, &before);
    ::tcsetpgrp(terminal, group);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

bool is_terminal(int fd) noexcept {
    return ::isatty(fd) == 1;
}

bool has_terminal() noexcept {
    return static_cast<bool>(open_own_terminal());
}

TerminalLoan::TerminalLoan(pid_t group) noexcept : terminal_(open_own_terminal()) {
    if (terminal_) {
        give_terminal(terminal_.get(), group);
    }
}

TerminalLoan::~TerminalLoan() {
    if (terminal_) {
        give_terminal(terminal_.get(), ::getpgrp());
    }
}

}  // namespace nodesnap
