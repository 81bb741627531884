/* A preload of the user's own, for prints_preload: it must stay preloaded, children included. */
int user_preload_is_here(void) { return 1; }
