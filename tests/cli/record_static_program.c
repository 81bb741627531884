// Linked statically: no library can be preloaded into it.
#include <stdlib.h>

int main(void) {
  free(malloc(10));
  return 3;
}
