#include "snapshot/backend/lvm_watch.h"

#include <chrono>
#include <exception>
#include <utility>

#include "platform/error.h"

namespace nodesnap {
namespace {

constexpr std::chrono::seconds kInterval{1};

}  // namespace

LvmWatch::LvmWatch(Look look, std::string shown, std::string remedy)
    : look_(std::move(look)), shown_(std::move(shown)), remedy_(std::move(remedy)), thread_([this] { run(); }) {}

LvmWatch::~LvmWatch() {
    {
        const std::lock_guard lock(mutex_);
        ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void LvmWatch::run() {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, kInterval, [this] { return ends_; })) {
        lock.unlock();
        try {
            look();
        } catch (const std::exception&) {
            // That it can't be told now says nothing; the last look must succeed.
        }
        lock.lock();
    }
}

void LvmWatch::look() {
    const std::string flaw = look_();
    const std::lock_guard lock(mutex_);
    if (flaw_.empty()) {
        flaw_ = flaw;
    }
}

void LvmWatch::check(bool now) {
    if (now) {
        look();
    }
    const std::lock_guard lock(mutex_);
    if (!flaw_.empty()) {
        throw Error::failed("the snapshot " + shown_ + " " + flaw_, remedy_);
    }
}

}  // namespace nodesnap
