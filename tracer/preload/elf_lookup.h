// Finding a function in the objects that are loaded behind us, without the dynamic linker's help:
// dlsym allocates its error messages, dlopen its bookkeeping, and neither is the program's doing.
#pragma once

#include "tracer/preload/law.h"

namespace alloctape::tracer {

// The first definition of a function in an object loaded after this library, in load order: what
// RTLD_NEXT means, and beyond it the objects that came by dlopen(RTLD_LOCAL). nullptr: none.
// *stays: dlclose cannot take it away, so that it need not be looked for again.
void* find_behind_us(const char* name, bool* stays);
// Once, when the library starts: what is loaded now is never unloaded.
void remember_initial_objects();
// Whether an object loaded before this library, the executable first of all, defines the function.
bool defined_ahead_of_us(const char* name);
// Whether the object that holds `address` has a file name that begins so.
bool lies_in(const void* address, const char* file_name);

}  // namespace alloctape::tracer
