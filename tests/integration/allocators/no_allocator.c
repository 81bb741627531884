// A library that can be preloaded and has nothing to do with memory.
int alloctape_test_nothing(void) { return 0; }
