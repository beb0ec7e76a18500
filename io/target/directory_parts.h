// The pieces of the directory target that stand alone: writing and reading one large object, and replacing a small one. Internal to it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "io/target/folders.h"
#include "io/target/target.h"

namespace nodesnap {

std::unique_ptr<ObjectWriter> make_directory_writer(std::shared_ptr<Folders> folders, std::string name, std::string_view staging_id);
// nullptr if there is none.
std::unique_ptr<ObjectReader> open_directory_reader(std::shared_ptr<Folders> folders, std::string name);

// Whole content; nullopt if there is none; more than `limit` bytes is an Error::damaged.
std::optional<VersionedObject> load_file(const Folders& folders, const std::string& name, std::uint64_t limit);
// The same, with zeros for the blocks that the device can't read.
std::optional<VersionedObject> salvage_file(const Folders& folders, const std::string& name, std::uint64_t limit);

// Puts `content` under `name`, atomically and durably: as a new object (false if there is one) ...
bool store_new(Folders& folders, const std::string& name, std::span<const std::byte> content);
// ... or in place of what has just the version `expected` (false if it hasn't).
bool store_instead(Folders& folders, const std::string& name, const std::optional<std::string>& expected,
                   std::span<const std::byte> content);

}  // namespace nodesnap
