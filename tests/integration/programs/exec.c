/* One pid, four images: exec ends an image without any destructor. */
#include <unistd.h>

#include "program.h"

int main(int argc, char **argv) {
  const int generation = argc > 1 ? atoi(argv[1]) : 0;
  churn(1000 * (generation + 1), 1);
  if (generation == 3) {
    puts("the last image");
    return 4;
  }
  char next[16];
  snprintf(next, sizeof next, "%d", generation + 1);
  execv(argv[0], (char *[]){argv[0], next, NULL});
  return 98;
}
