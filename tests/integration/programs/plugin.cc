// A plugin for dlopen_close: allocates while it is loaded, used and unloaded.
#include <string>
#include <vector>

#include "program.h"

namespace {
struct State {
  std::vector<std::string> lines;
  State() { lines.assign(10, std::string(80, 'p')); }
  ~State() { lines.assign(20, std::string(90, 'q')); }
} g_state;
}  // namespace

extern "C" int plugin_work(int n) {
  std::vector<int*> numbers;
  for (int i = 0; i < n; ++i) numbers.push_back(new int(i));
  int sum = 0;
  for (int* number : numbers) {
    sum += *number;
    delete number;
  }
  g_state.lines.emplace_back(200, 'r');
  churn(10, 1);
  return sum;
}
