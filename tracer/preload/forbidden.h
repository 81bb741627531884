// Names that would break the law (law.h). Included last by every .cc of this folder: system headers
// declare these names, ours may not use them.
#pragma once

#pragma GCC poison printf fprintf sprintf snprintf puts fputs fopen fclose fwrite fread
#pragma GCC poison strdup strndup asprintf vasprintf getline setenv putenv unsetenv
#pragma GCC poison pthread_mutex_lock pthread_create exit abort atexit
#pragma GCC poison __libc_malloc __libc_free __libc_calloc __libc_realloc __libc_memalign
