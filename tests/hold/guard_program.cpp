// The guard as a program of its own, with hooks that the environment sets: NODESNAP_GUARD_SIGNAL_AT="STEP:SIGNAL" sends itself the signal
// when it passes the step.
#include <cstdlib>
#include <string>

#include "snapshot/hold/guard.h"
#include "tests/support/fault_hooks.h"

int main(int argc, char** argv) {
    nodesnap::test::FaultHooks hooks;
    if (const char* at = std::getenv("NODESNAP_GUARD_SIGNAL_AT")) {
        const std::string text = at;
        const std::size_t colon = text.find(':');
        hooks.signal_at_step(text.substr(0, colon), std::stoi(text.substr(colon + 1)));
    }
    return nodesnap::hold::run_guard({argv + 1, argv + argc});
}
