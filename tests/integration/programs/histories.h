/* The history of each object of hand_over_chain, by formula: who acquires, resizes and releases it,
 * and as which of its own calls. The program checks that it keeps to it, object_histories that the
 * trace does. Three stages of two threads: producer p hands its n-th object to resizer n % 2; a
 * resizer takes from the two producers in turn, and hands pairs to the two consumers in turn; a
 * consumer takes from the two resizers in turn. */
#ifndef ALLOCTAPE_TESTS_HISTORIES_H
#define ALLOCTAPE_TESTS_HISTORIES_H

enum { kEach = 2, kProducer = 0, kResizer = kEach, kConsumer = 2 * kEach, kRoles = 3 * kEach };
/* Each thread's first call asks for so many bytes and its role: how a trace shows who it is. */
enum { kRoleSize = 100000, kRoleSizesEnd = 100006 };

struct history {
  unsigned long resizer, resize; /* which one, and which of its calls, from 0 */
  unsigned long consumer, release;
};

static inline struct history history_of(unsigned long producer, unsigned long n) {
  struct history h;
  h.resizer = n % 2;
  h.resize = 2 * (n / 2) + producer;
  h.consumer = h.resize / 2 % 2;
  h.release = 2 * (2 * (h.resize / 4) + h.resize % 2) + h.resizer;
  return h;
}
static inline unsigned long mixed(unsigned long a, unsigned long b) {
  unsigned long h = (a + 1) * 0x9e3779b97f4a7c15ul ^ (b + 1) * 0xc2b2ae3d27d4eb4ful;
  h ^= h >> 29;
  h *= 0xbf58476d1ce4e5b9ul;
  return h ^ h >> 32;
}
static inline unsigned long size_of(unsigned long producer, unsigned long n) {
  return 16 + mixed(producer, n) % 1009;
}
static inline unsigned long new_size_of(unsigned long producer, unsigned long n) {
  return 16 + mixed(producer + 7, n) % 2001;
}

#endif
