// HolderProcess: a child that does something to a directory, tells when it is done, and stays so until it is destroyed.
#pragma once

#include <sys/types.h>

#include <functional>

namespace nodesnap::test {

class HolderProcess {
public:
    // Runs `prepare` in a forked child; returns when it is done. A `prepare` that throws or gives false makes this throw
    // std::runtime_error.
    explicit HolderProcess(const std::function<bool()>& prepare);
    ~HolderProcess();  // kills the child
    HolderProcess(const HolderProcess&) = delete;
    HolderProcess& operator=(const HolderProcess&) = delete;
    pid_t pid() const { return pid_; }

private:
    pid_t pid_ = -1;
};

}  // namespace nodesnap::test
