// OutputMemory: where a program's output goes when nobody reads it meanwhile: memory of a fixed size, so that whoever holds it can't make
// it grow. Beyond that writes fail. Errors: Error::system. Any thread.
#pragma once

#include <cstddef>
#include <string>

#include "platform/file_descriptor.h"

namespace nodesnap {

class OutputMemory {
public:
    static constexpr std::size_t kLimit = 1u << 20;

    OutputMemory();
    int descriptor() const { return memory_.get(); }
    std::string written() const;

private:
    FileDescriptor memory_;
};

}  // namespace nodesnap
