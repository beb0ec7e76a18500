#include "io/human_time.h"

#include "io/units.h"

namespace nodesnap {

std::string human_time(std::int64_t nanoseconds) {
    std::string text = format_utc(nanoseconds);
    if (text.size() == 20 && text[10] == 'T') {
        text[10] = ' ';
        text.pop_back();
    }
    return text;
}

}  // namespace nodesnap
