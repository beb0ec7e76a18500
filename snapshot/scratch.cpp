#include "snapshot/scratch.h"

#include <cstdlib>

namespace nodesnap {

std::string scratch_directory_or_default(const std::string& chosen) {
    if (!chosen.empty()) {
        return chosen;
    }
    const char* temporary = std::getenv("TMPDIR");
    return temporary != nullptr && *temporary != '\0' ? temporary : "/var/tmp";
}

}  // namespace nodesnap
