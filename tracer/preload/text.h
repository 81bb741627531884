// Strings on the caller's memory: bounded, always zero-terminated, no libc formatting.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tracer/preload/law.h"

namespace alloctape::tracer {

class Text {
 public:
  Text(char* buffer, size_t capacity) : p_(buffer), capacity_(capacity) { p_[0] = 0; }
  Text& add(const char* s) { return add(s, strlen(s)); }
  Text& add(const char* s, size_t n) {
    if (n >= capacity_ - used_) {
      n = capacity_ - used_ - 1;
      truncated_ = true;
    }
    memcpy(p_ + used_, s, n);
    used_ += n;
    p_[used_] = 0;
    return *this;
  }
  Text& add(uint64_t v) {
    char digits[20];
    size_t n = 0;
    do {
      digits[sizeof digits - ++n] = static_cast<char>('0' + v % 10);
      v /= 10;
    } while (v);
    return add(digits + sizeof digits - n, n);
  }
  const char* c_str() const { return p_; }
  size_t size() const { return used_; }
  bool truncated() const { return truncated_; }

 private:
  char* p_;
  size_t capacity_;
  size_t used_ = 0;
  bool truncated_ = false;
};

// The value of an environment variable, or nullptr. libc's environ, read without its locks.
const char* environment(const char* name);

}  // namespace alloctape::tracer
