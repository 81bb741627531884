/* Part of before_main: a library whose constructor allocates. */
#include "program.h"

static void *g_block;
__attribute__((constructor)) static void early(void) {
  churn(40, 7);
  g_block = keep(malloc(4321));
}
void *early_block(void) { return g_block; }
