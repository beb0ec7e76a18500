#include "platform/system_log.h"

#include <syslog.h>

#include <algorithm>
#include <exception>

namespace nodesnap {

void log_security_warning(const std::string& text) noexcept {
    try {
        std::string line = text;
        std::replace_if(
            line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
        ::openlog("nodesnap", LOG_PID, LOG_AUTHPRIV);
        ::syslog(LOG_WARNING, "%s", line.c_str());
    } catch (const std::exception&) {  // out of memory: what it is about is told elsewhere too
    }
}

}  // namespace nodesnap
