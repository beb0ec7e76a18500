// The guard as a program of its own, with hooks that the environment sets: NODESNAP_GUARD_SIGNAL_AT="STEP:SIGNAL" sends itself the signal
// when it passes the step; from NODESNAP_GUARD_NO_MEMORY_AT="STEP" on it gets no memory; NODESNAP_GUARD_FAIL="OPERATION:COUNT" fails the
// first COUNT such operations.
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <string>

#include "snapshot/hold/guard.h"
#include "tests/support/fault_hooks.h"

namespace {

std::atomic<bool> no_memory{false};

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

class Hooks : public nodesnap::test::FaultHooks {
public:
    int on_operation(const char* operation) noexcept override {
        const bool before = no_memory.exchange(false);  // the hooks themselves have as much as they want
        int error = FaultHooks::on_operation(operation);
        if (operation == failing_ && failures_ > 0) {
            --failures_;
            error = EBUSY;
        }
        no_memory = before;
        return error;
    }
    void on_step(const char* name) noexcept override {
        const bool before = no_memory.exchange(false);
        FaultHooks::on_step(name);
        no_memory = before || name == no_memory_at_;
    }
    void fail(const std::string& operation, int count) {
        failing_ = operation;
        failures_ = count;
    }

private:
    std::string no_memory_at_ = variable("NODESNAP_GUARD_NO_MEMORY_AT");
    std::string failing_;
    int failures_ = 0;
};

}  // namespace

void* operator new(std::size_t size) {
    void* memory = no_memory ? nullptr : std::malloc(size);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}

int main(int argc, char** argv) {
    Hooks hooks;
    if (const std::string text = variable("NODESNAP_GUARD_SIGNAL_AT"); !text.empty()) {
        const std::size_t colon = text.find(':');
        hooks.signal_at_step(text.substr(0, colon), std::stoi(text.substr(colon + 1)));
    }
    if (const std::string text = variable("NODESNAP_GUARD_FAIL"); !text.empty()) {
        const std::size_t colon = text.find(':');
        hooks.fail(text.substr(0, colon), std::stoi(text.substr(colon + 1)));
    }
    return nodesnap::hold::run_guard({argv + 1, argv + argc});
}
