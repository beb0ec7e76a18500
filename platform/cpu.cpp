#include "platform/cpu.h"

#include <fstream>
#include <string>

namespace nodesnap {

bool cpu_has_aes() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("flags") || line.starts_with("Features")) {  // of x86, of ARM
            return (line + " ").find(" aes ") != std::string::npos;
        }
    }
    return false;
}

}  // namespace nodesnap
