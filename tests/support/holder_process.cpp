#include "tests/support/holder_process.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <stdexcept>

namespace nodesnap::test {

HolderProcess::HolderProcess(const std::function<bool()>& prepare) {
    int ends[2];
    if (::pipe(ends) != 0) {
        throw std::runtime_error("pipe failed");
    }
    pid_ = ::fork();
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // not even a crashed test leaves it behind
        ::close(ends[0]);
        bool done = false;
        try {
            done = prepare();
        } catch (const std::exception&) {
        }
        if (!done || ::write(ends[1], "r", 1) != 1) {
            ::_exit(1);
        }
        for (;;) {
            ::pause();
        }
    }
    ::close(ends[1]);
    char ready = 0;
    ssize_t count = 0;
    do {
        count = ::read(ends[0], &ready, 1);
    } while (count < 0 && errno == EINTR);
    ::close(ends[0]);
    if (pid_ < 0 || count != 1) {
        if (pid_ > 0) {
            ::waitpid(pid_, nullptr, 0);
        }
        throw std::runtime_error("the child failed");
    }
}

HolderProcess::~HolderProcess() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

}  // namespace nodesnap::test
