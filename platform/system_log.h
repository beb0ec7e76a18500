// The system's log, for what an operator should hear of though nobody looks at this process's output.
#pragma once

#include <string>

namespace nodesnap {

// One line, as a warning about who may do what. Control characters are shown as '?'. Where there is no log it goes nowhere.
void log_security_warning(const std::string& text) noexcept;

}  // namespace nodesnap
