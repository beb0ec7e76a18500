#include "platform/fault.h"

#include <atomic>

namespace nodesnap::fault {
namespace {

std::atomic<Hooks*> installed{nullptr};

}  // namespace

void install(Hooks* hooks) noexcept {
    installed.store(hooks, std::memory_order_release);
}

int inject(const char* operation) noexcept {
    Hooks* hooks = installed.load(std::memory_order_acquire);
    return hooks == nullptr ? 0 : hooks->on_operation(operation);
}

void step(const char* name) noexcept {
    if (Hooks* hooks = installed.load(std::memory_order_acquire)) {
        hooks->on_step(name);
    }
}

}  // namespace nodesnap::fault
