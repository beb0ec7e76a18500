#include "tests/support/fault_hooks.h"

#include <signal.h>
#include <unistd.h>

#include <string_view>

namespace nodesnap::test {

FaultHooks::FaultHooks() {
    fault::install(this);
}

FaultHooks::~FaultHooks() {
    fault::install(nullptr);
}

void FaultHooks::fail_nth(std::uint64_t nth, int error_number, bool for_good, const std::string& prefix) {
    const std::lock_guard lock(mutex_);
    armed_ = nth != 0;
    countdown_ = nth;
    error_number_ = error_number;
    for_good_ = for_good;
    prefix_ = prefix;
}

void FaultHooks::stop_failing() {
    const std::lock_guard lock(mutex_);
    armed_ = false;
}

void FaultHooks::signal_at_step(const std::string& step, int signal, std::uint64_t nth) {
    const std::lock_guard lock(mutex_);
    signal_step_ = step;
    signal_ = signal;
    signal_countdown_ = nth;
}

void FaultHooks::signal_at_operation(const std::string& prefix, int signal, std::uint64_t nth) {
    const std::lock_guard lock(mutex_);
    signal_operation_ = prefix;
    signal_ = signal;
    operation_countdown_ = nth;
}

void FaultHooks::kill_at_step(const std::string& step, std::uint64_t nth) {
    signal_at_step(step, SIGKILL, nth);
}

void FaultHooks::on_each_step(std::function<void(const std::string&)> callback) {
    const std::lock_guard lock(mutex_);
    callback_ = std::move(callback);
}

std::uint64_t FaultHooks::points() const {
    const std::lock_guard lock(mutex_);
    return points_;
}

std::uint64_t FaultHooks::injected() const {
    const std::lock_guard lock(mutex_);
    return injected_;
}

std::uint64_t FaultHooks::count(const std::string& operation) const {
    const std::lock_guard lock(mutex_);
    const auto found = operations_.find(operation);
    return found == operations_.end() ? 0 : found->second;
}

std::uint64_t FaultHooks::steps(const std::string& step) const {
    const std::lock_guard lock(mutex_);
    const auto found = steps_.find(step);
    return found == steps_.end() ? 0 : found->second;
}

std::map<std::string, std::uint64_t> FaultHooks::operations() const {
    const std::lock_guard lock(mutex_);
    return operations_;
}

int FaultHooks::on_operation(const char* operation) noexcept {
    const std::lock_guard lock(mutex_);
    ++points_;
    ++operations_[operation];
    if (operation_countdown_ > 0 && std::string_view(operation).starts_with(signal_operation_) && --operation_countdown_ == 0) {
        ::raise(signal_);  // to this thread, which goes no further
    }
    if (!armed_ || !std::string_view(operation).starts_with(prefix_) || --countdown_ > 0) {
        return 0;
    }
    ++injected_;
    armed_ = for_good_;
    countdown_ = 1;
    return error_number_;
}

void FaultHooks::on_step(const char* name) noexcept {
    std::function<void(const std::string&)> callback;
    int signal = 0;
    {
        const std::lock_guard lock(mutex_);
        ++steps_[name];
        if (signal_countdown_ > 0 && signal_step_ == name && --signal_countdown_ == 0) {
            signal = signal_;
        }
        callback = callback_;
    }
    if (callback) {
        callback(name);
    }
    if (signal != 0) {
        ::raise(signal);
    }
}

}  // namespace nodesnap::test
