#include "platform/terminal.h"

#include <unistd.h>

namespace nodesnap {

bool is_terminal(int fd) noexcept {
    return ::isatty(fd) == 1;
}

}  // namespace nodesnap
