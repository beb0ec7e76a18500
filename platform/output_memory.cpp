#include "platform/output_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "platform/error.h"

namespace nodesnap {

OutputMemory::OutputMemory() : memory_(::memfd_create("nodesnap-output", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
    if (!memory_ || ::ftruncate(memory_.get(), kLimit) != 0 || ::fcntl(memory_.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) != 0) {
        throw Error::system("make memory for the output of a program", "", errno);
    }
}

std::string OutputMemory::written() const {
    const off_t end = ::lseek(memory_.get(), 0, SEEK_CUR);  // the position is shared with the program
    std::string text(static_cast<std::size_t>(std::max<off_t>(end, 0)), '\0');
    const ssize_t count = ::pread(memory_.get(), text.data(), text.size(), 0);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    return text;
}

}  // namespace nodesnap
