// What the writers of the tree of names and inodes demand of their callers.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "platform/error.h"
#include "snapshot/repository/records.h"

namespace nodesnap {

// `last_key`: of the entry before; empty for the first.
inline void check_entry(std::string_view last_key, std::string_view key, std::span<const std::byte> value) {
    if (key.empty() || key.size() > kKeyLimit || value.size() > kValueLimit || key <= last_key) {
        throw Error::failed("internal error: a metadata tree's entries are too long or out of order", "please report this");
    }
}

}  // namespace nodesnap
