// FaultHooks: a fault::Hooks for tests. Counts the points that the program passes, fails the Nth of them (once or for good) with a chosen
// errno, and kills or stops the process at a named step. Thread-safe. Installed for its lifetime; one at a time, made and destroyed while
// no other thread runs.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "platform/fault.h"

namespace nodesnap::test {

class FaultHooks : public fault::Hooks {
public:
    FaultHooks();
    ~FaultHooks() override;
    FaultHooks(const FaultHooks&) = delete;
    FaultHooks& operator=(const FaultHooks&) = delete;

    // Fails the `nth` operation from now on (1 is the next one) whose name begins with `prefix`; `for_good`: and all such after it.
    void fail_nth(std::uint64_t nth, int error_number = EIO, bool for_good = false, const std::string& prefix = "");
    void stop_failing();

    // Sends `signal` to this process when `step` is passed for the `nth` time from now on.
    void signal_at_step(const std::string& step, int signal, std::uint64_t nth = 1);
    void kill_at_step(const std::string& step, std::uint64_t nth = 1);  // SIGKILL
    // The same at the `nth` operation whose name begins with `prefix`.
    void signal_at_operation(const std::string& prefix, int signal, std::uint64_t nth = 1);
    // Called at each step, on the thread that passes it. Not while it runs already.
    void on_each_step(std::function<void(const std::string&)> callback);

    std::uint64_t points() const;    // operations seen
    std::uint64_t injected() const;  // operations failed
    std::uint64_t count(const std::string& operation) const;
    std::uint64_t steps(const std::string& step) const;  // how often it was passed
    std::map<std::string, std::uint64_t> operations() const;

    int on_operation(const char* operation) noexcept override;
    void on_step(const char* name) noexcept override;

private:
    mutable std::mutex mutex_;
    std::map<std::string, std::uint64_t> operations_;
    std::map<std::string, std::uint64_t> steps_;
    std::uint64_t points_ = 0;
    std::uint64_t injected_ = 0;
    bool armed_ = false;
    std::uint64_t countdown_ = 0;
    int error_number_ = 0;
    bool for_good_ = false;
    std::string prefix_;
    std::string signal_step_;
    std::uint64_t signal_countdown_ = 0;
    int signal_ = 0;
    std::string signal_operation_;
    std::uint64_t operation_countdown_ = 0;
    std::function<void(const std::string&)> callback_;
};

}  // namespace nodesnap::test
