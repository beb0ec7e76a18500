#include "io/target/target.h"

#include "platform/error.h"

namespace nodesnap {

void Target::check_writable() const {
    if (const int reason = write_error()) {
        const Error error = Error::system("write to", describe(), reason);
        throw Error(ExitStatus::kRefused, error.message(), error.hint(), reason);
    }
}

}  // namespace nodesnap
