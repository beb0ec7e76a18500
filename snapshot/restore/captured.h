// Puts the files that a backup has captured from outside its node directory into a directory of their own: never where they came from,
// since they are another host's, or another time's.
//
// Errors: Error::refused if that isn't empty; Error::system. Threads: any. Privileges: to write there.
#pragma once

#include <string>

#include "snapshot/repository/manifest.h"

namespace nodesnap {

// Refuses what restore_captured() would.
void require_place_of_captured(const Manifest& backup, const std::string& directory);

// Each file at its whole path below `directory`, which is made: with mode 0600, and this user's. Durable when it returns.
void restore_captured(const Manifest& backup, const std::string& directory);

}  // namespace nodesnap
