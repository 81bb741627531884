// Allocation before main: preinit array, constructors of every priority, statics, and the constructor
// of a library that the program is linked with.
#include <string>
#include <vector>

#include "program.h"

namespace {
void preinit(int, char**, char**) { churn(50, 1); }
__attribute__((section(".preinit_array"), used)) void (*g_preinit)(int, char**, char**) = preinit;

__attribute__((constructor(101))) void first() { churn(60, 2); }
__attribute__((constructor)) void later() { churn(70, 3); }
std::vector<std::string> g_lines{30, std::string(99, 'b')};
}  // namespace

extern "C" void* early_block();  // allocated by the library's constructor

int main() {
  free(early_block());
  g_lines.emplace_back(500, 'c');
  printf("%zu lines\n", g_lines.size());
}
