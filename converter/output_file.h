// A file that appears under its name only when it is whole.
#pragma once

#include <string>

#include "formats/result.h"

namespace alloctape::converter {

class OutputFile {
 public:
  // Chooses a name beside `target`. A symbolic link is followed, as cp does; a target that exists
  // and is no regular file is an error.
  static formats::Result<OutputFile> beside(const std::string& target);
  OutputFile(OutputFile&& other) noexcept;
  ~OutputFile();  // removes the temporary file unless it was committed

  const std::string& temporary() const { return temporary_; }
  formats::Status commit();  // renames it to the target, replacing what was there

  // From here on SIGINT, SIGTERM and SIGHUP remove the temporary file before they end the process.
  // For the command line; one OutputFile at a time.
  static void remove_on_signals();

 private:
  OutputFile() = default;
  std::string target_, temporary_;
};

}  // namespace alloctape::converter
