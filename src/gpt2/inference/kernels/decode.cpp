// GPT-2's step on packed weights: token ids of several texts in, logits of their next tokens out.
//
// One plain shared library, called through ctypes (see __init__.py for the interface in Python's words).
// This file is compiled once for each instruction set of PATHS there; the vector types below are the
// compiler's, so that all sets do the same float operations in the same order (contraction is off) and the
// integer dot product is exact everywhere: their logits are equal to the last bit. Rows do not mix either: a
// text's logits are the same whatever else is in the step.
//
// Matrices come in tiles of 16 outputs. A tile is one stretch of memory, read once from end to end:
//   16 x float32 scale, 16 x float32 bias, then units of 64 inputs (padded with zeros to a multiple of 64), each
//     int8  16 x { 16 outputs x 4 inputs }  codes, value + 128
//     int4   8 x { 16 outputs x 4 bytes  }  two codes a byte, inputs 4j.. of a block of 32 low, 16 + 4j.. high;
//                                      before every second unit 4 x 16 x uint8 scale of its and the next one's blocks
//     bf16  32 x { 16 outputs x 2 inputs }
// so that a 64-byte register of weights meets 4 (8, 2) inputs broadcast to all 16 outputs, and no sum ever
// crosses lanes. Inputs are quantised here to int8 with a float scale for each 64 of them.
//
// Where there is a first pass, a head of fewer bits, all logits come from it, and those of `again` tiles, the ones
// with the highest logits, are computed again by the head itself: the best tokens at a part of its bytes.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <sched.h>
#include <sys/mman.h>
#include <thread>
#include <vector>
#ifdef __x86_64__
#include <immintrin.h>
#endif
#ifndef PATH
#define PATH portable
#endif
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define EXPORT(name) extern "C" __attribute__((visibility("default"))) JOIN(name, PATH)

namespace {

typedef float F __attribute__((vector_size(64), aligned(4)));     // 16 floats, anywhere in memory
typedef int32_t I __attribute__((vector_size(64), aligned(4)));   // 16 integers
typedef uint8_t B __attribute__((vector_size(64), aligned(1)));   // 64 bytes
typedef uint16_t W __attribute__((vector_size(64)));              // 32 pairs of bytes

constexpr int LANES = 16, UNIT = 64, BLOCK = 32, HEADER = 128, ROWS = 64;
// values of the 16 codes of int4, plus 128
alignas(16) constexpr uint8_t CODEBOOK[16] = {1, 30, 50, 67, 81, 94, 107, 118, 129, 141, 152, 165, 178, 194, 214, 242};

#define INLINE inline __attribute__((always_inline))
INLINE F splat(float x) { return F{} + x; }
INLINE F load(const float *p) { return *(const F *)p; }
INLINE void store(float *p, F x) { *(F *)p = x; }
INLINE F number(I x) { return __builtin_convertvector(x, F); }
// Of these three the result is NaN where an operand is, so that a NaN weight is seen in the logits.
INLINE F max(F a, F b) { return (b > a) | (b != b) ? b : a; }
INLINE F min(F a, F b) { return (b < a) | (b != b) ? b : a; }
INLINE float total(F x) {  // in one order everywhere
  float s[8];
  for (int i = 0; i < 8; i++) s[i] = x[i] + x[i + 8];
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}
INLINE float largest(F x) {
  float m = x[0];
  for (int i = 1; i < 16; i++) m = x[i] > m || x[i] != x[i] ? x[i] : m;
  return m;
}
INLINE I rounded(F x) {  // to nearest even, |x| < 2^22
  const F magic = splat(12582912.0f);
  return (I)(x + magic) - (I)magic;
}

// a[n] + sum over 4 inputs of codes w (unsigned) times x (signed), exact
INLINE I dot(I a, B w, const int8_t *x) {
  int32_t four;
  memcpy(&four, x, 4);
#if defined(__AVX512VNNI__)
  return (I)_mm512_dpbusd_epi32((__m512i)a, (__m512i)w, _mm512_set1_epi32(four));
#elif defined(__AVX2__)
  const __m256i v = _mm256_set1_epi32(four), even = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), odd = _mm256_srai_epi16(v, 8);
  const __m256i *p = (const __m256i *)&w;
  __m256i half[2];
  for (int i = 0; i < 2; i++)
    half[i] = _mm256_add_epi32(_mm256_madd_epi16(_mm256_and_si256(p[i], _mm256_set1_epi16(255)), even),
                               _mm256_madd_epi16(_mm256_srli_epi16(p[i], 8), odd));
  I sum;
  memcpy(&sum, half, 64);
  return a + sum;
#else
  for (int n = 0; n < LANES; n++)
    for (int k = 0; k < 4; k++) a[n] += int32_t(w[4 * n + k]) * x[k];
  return a;
#endif
}

// values of the codes in the low halves of 64 bytes
INLINE B lookup(B code) {
#if defined(__AVX512VBMI__)  // looks at the low 6 bits; the table stands there four times, so 4 of them count
  return (B)_mm512_permutexvar_epi8((__m512i)code, _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)CODEBOOK)));
#elif defined(__AVX2__)
  const __m256i table = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)CODEBOOK));
  __m256i *p = (__m256i *)&code;
  for (int i = 0; i < 2; i++) p[i] = _mm256_shuffle_epi8(table, _mm256_and_si256(p[i], _mm256_set1_epi8(15)));
  return code;
#else
  for (int i = 0; i < 64; i++) code[i] = CODEBOOK[code[i] & 15];
  return code;
#endif
}

INLINE I spread(const uint8_t *p) {  // 16 bytes to integers
#if defined(__AVX512F__)
  return (I)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
#elif defined(__AVX2__)
  I x;
  for (int i = 0; i < 2; i++) ((__m256i *)&x)[i] = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8 * i)));
  return x;
#else
  I x;
  for (int i = 0; i < 16; i++) x[i] = p[i];
  return x;
#endif
}
INLINE void shrink(int8_t *p, I x) {  // 16 integers of -128 to 127 to bytes
#if defined(__AVX512F__)
  _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)x));
#else
  for (int i = 0; i < 16; i++) p[i] = int8_t(x[i]);
#endif
}

INLINE F wide(const uint16_t *p) {  // half precision to float
#if defined(__AVX512F__)
  return (F)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__F16C__)
  F x;
  for (int i = 0; i < 2; i++) ((__m256 *)&x)[i] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + i));
  return x;
#else
  F x;
  for (int i = 0; i < 16; i++) { _Float16 h; memcpy(&h, p + i, 2); x[i] = h; }
  return x;
#endif
}
INLINE uint16_t narrow(float x) {
#if defined(__F16C__)
  return uint16_t(_cvtss_sh(x, 0));
#else
  _Float16 h = _Float16(x);
  uint16_t bits;
  memcpy(&bits, &h, 2);
  return bits;
#endif
}

INLINE F exponential(F x) {  // e^x to 2e-7 of it, by 2^n times a polynomial on |r| <= ln 2 / 2
  x = min(max(x, splat(-87.0f)), splat(88.0f));
  const I n = rounded(x * 1.44269504f);
  const F k = number(n), r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  F p = splat(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) p = p * r + c;
  return (p * r * r + r + 1.0f) * (F)((n + 127) << 23);
}

INLINE F gelu(F x) {  // x/2 (1 + tanh(u)) = x / (1 + e^-2u)
  return x / (1.0f + exponential((x + 0.044715f * x * x * x) * -1.5957691216f));
}

enum Kind { INT4 = 4, INT8 = 8, BF16 = 16 };
struct Matrix { const uint8_t *data; int32_t rows, columns, kind; };
struct Layer { const float *ln_1, *ln_2; Matrix c_attn, attn_c_proj, c_fc, mlp_c_proj; };  // ln: weight, then bias
struct Shape { int32_t n_layer, n_head, n_embd, vocab_size, n_ctx, slots, room, threads, again; float epsilon; };

INLINE int up(int n, int to) { return (n + to - 1) / to * to; }

// Inputs of a matrix, ROWS of them, as floats or as codes.
struct Inputs {
  int width;             // padded to UNIT
  float *x;              // [rows, width]
  int8_t *code;          // [rows, width]
  float *scale;          // [rows, width / UNIT]
  int32_t *zero;         // [rows, width / BLOCK]: -128 times the sum of a block's codes
};

void quantize(const Inputs &in, int row, int from, int to) {  // units [from, to) of a row
  for (int u = from; u < to; u++) {
    const float *x = in.x + size_t(row) * in.width + u * UNIT;
    int8_t *code = in.code + size_t(row) * in.width + u * UNIT;
    F m = splat(0);
    for (int i = 0; i < UNIT; i += LANES) m = max(m, max(load(x + i), -load(x + i)));
    const float most = largest(m), inverse = most > 0 ? 127.0f / most : 0;
    in.scale[size_t(row) * (in.width / UNIT) + u] = most / 127.0f;
    for (int half = 0; half < 2; half++) {
      I sum = {};
      for (int i = half * BLOCK; i < (half + 1) * BLOCK; i += LANES) {
        const F v = load(x + i) * inverse;
        const I q = rounded(v == v ? v : splat(0));  // then the scale is infinite or NaN
        shrink(code + i, q);
        sum += q;
      }
      int32_t s = 0;
      for (int j = 0; j < LANES; j++) s += sum[j];
      in.zero[size_t(row) * (in.width / BLOCK) + 2 * u + half] = -128 * s;
    }
  }
}

INLINE size_t unit_bytes(int kind) { return UNIT * LANES * kind / 8; }
INLINE size_t unit_at(int kind, int u) { return HEADER + u * unit_bytes(kind) + (kind == INT4 ? (u + 2) / 2 * 64 : 0); }
INLINE size_t tile_bytes(int kind, int columns) {
  const int units = up(columns, UNIT) / UNIT;
  return HEADER + units * unit_bytes(kind) + (kind == INT4 ? (units + 1) / 2 * 64 : 0);
}

INLINE void fetch(const void *p) { __builtin_prefetch(p, 0, 2); }

// out[r] = 16 outputs of rows r < R of the inputs
template <int KIND, int R> INLINE void tile(const uint8_t *w, const Inputs &in, int row, F *out) {
  // Weights are asked for in advance, by about the time that memory takes: with few rows, or many codes to look up,
  // 4096 bytes are too many (int4 at half the speed), else 1024 are too few (three quarters of it).
  constexpr int AHEAD = KIND == INT4 || R < 3 ? 1024 : 4096;
  const int units = in.width / UNIT;
  const uint8_t *p = w + HEADER, *scales = p;
  const int8_t *code = in.code + size_t(row) * in.width;
  const float *x = in.x + size_t(row) * in.width, *scale = in.scale + size_t(row) * units;
  const int32_t *zero = in.zero + size_t(row) * 2 * units;
  F sum[R] = {};
  for (int u = 0; u < units; u++, p += unit_bytes(KIND)) {
    if constexpr (KIND == INT8) {
      I a[R];
      for (int r = 0; r < R; r++) a[r] = I{} + (zero[r * 2 * units + 2 * u] + zero[r * 2 * units + 2 * u + 1]);
      for (int j = 0; j < UNIT / 4; j++) {
        const B v = *(const B *)(p + 64 * j);
        fetch(p + 64 * j + AHEAD);
        for (int r = 0; r < R; r++) a[r] = dot(a[r], v, code + r * in.width + u * UNIT + 4 * j);
      }
      for (int r = 0; r < R; r++) sum[r] += number(a[r]) * scale[r * units + u];
    } else if constexpr (KIND == INT4) {
      if (u % 2 == 0) scales = p, p += 64;
      for (int half = 0; half < 2; half++) {
        I a[R];
        for (int r = 0; r < R; r++) a[r] = I{} + zero[r * 2 * units + 2 * u + half];
        for (int j = 0; j < 4; j++) {
          const B v = *(const B *)(p + 256 * half + 64 * j), low = lookup(v), high = lookup((B)((W)v >> 4));
          fetch(p + 256 * half + 64 * j + AHEAD);
          const int k = u * UNIT + half * BLOCK + 4 * j;
          for (int r = 0; r < R; r++) a[r] = dot(dot(a[r], low, code + r * in.width + k), high, code + r * in.width + k + 16);
        }
        const F s = number(spread(scales + LANES * (u % 2 * 2 + half)));
        for (int r = 0; r < R; r++) sum[r] += number(a[r]) * (s * scale[r * units + u]);
      }
    } else {
      for (int j = 0; j < UNIT / 2; j++) {
        const I v = *(const I *)(p + 64 * j);
        fetch(p + 64 * j + AHEAD);
        const F even = (F)(v << 16), odd = (F)(v & int32_t(0xffff0000));
        for (int r = 0; r < R; r++) {
          const float *k = x + r * in.width + u * UNIT + 2 * j;
          sum[r] = sum[r] + (even * k[0] + odd * k[1]);
        }
      }
    }
  }
  const F factor = load((const float *)w), bias = load((const float *)(w + 64));
  for (int r = 0; r < R; r++) out[r] = sum[r] * factor + bias;
}

// out[r - from] = 16 outputs of rows from <= r < to
template <int KIND> void tile_rows(const uint8_t *w, const Inputs &in, int from, int to, F *out) {
  int r = from;
#if defined(__AVX512VNNI__)
  if constexpr (KIND != INT4)  // whose sums do not fit into 32 registers
    for (; r + 16 <= to; r += 16) tile<KIND, 16>(w, in, r, out + r - from);
  for (; r + 8 <= to; r += 8) tile<KIND, 8>(w, in, r, out + r - from);
  switch (to - r) {  // a few rows are drafts, of which any number comes
    case 7: return tile<KIND, 7>(w, in, r, out + r - from);
    case 6: return tile<KIND, 6>(w, in, r, out + r - from);
    case 5: return tile<KIND, 5>(w, in, r, out + r - from);
    case 3: return tile<KIND, 3>(w, in, r, out + r - from);
  }
#endif
  for (; r + 4 <= to; r += 4) tile<KIND, 4>(w, in, r, out + r - from);
  for (; r + 2 <= to; r += 2) tile<KIND, 2>(w, in, r, out + r - from);
  for (; r < to; r++) tile<KIND, 1>(w, in, r, out + r - from);
}

void outputs(int kind, const uint8_t *w, const Inputs &in, int from, int to, F *out) {
  if (kind == INT8) tile_rows<INT8>(w, in, from, to, out);
  else if (kind == INT4) tile_rows<INT4>(w, in, from, to, out);
  else tile_rows<BF16>(w, in, from, to, out);
}

// Threads that are kept between steps; the caller of `run` is one of them. Work comes in phases that each begin
// when the one before is done, and a phase in items: a thread takes those of its own share, one stretch of memory,
// then what others have not come to. So nobody waits for a thread that the system has put aside, except while
// that holds an item. Threads spin between phases, which are microseconds apart, and sleep between steps.
struct Team {
  struct alignas(64) Counter { std::atomic<int32_t> n{0}; };
  int size, phases;
  std::vector<Counter> next, done;  // [phases, size], [phases]
  std::atomic<uint32_t> job{0};     // odd while a step runs
  std::atomic<int32_t> inside{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  void (*work)(void *, int) = nullptr;
  void *what = nullptr;

  Team(int n, int phases) : size(n), phases(phases), next(size_t(phases) * n), done(phases) {
    try {
      begin();
    } catch (...) {  // no room for another thread
      end();
      throw;
    }
  }
  ~Team() { end(); }
  void begin() {
    threads.reserve(size);
    for (int id = 1; id < size; id++) threads.emplace_back([this, id] {
      for (uint32_t seen = 0; !over;) {
        for (int i = 0; i < 4000 && job == seen; i++) pause(i);
        job.wait(seen);
        inside++;  // first, so that the caller cannot end the step in between
        if ((seen = job) % 2 && !over) work(what, id);
        inside--;
      }
    });
  }
  void end() {
    over = true;
    job += 2;
    job.notify_all();
    for (auto &t : threads) t.join();
  }
  static void pause(int i) {
#ifdef __x86_64__
    _mm_pause();
#endif
    if (i > 1000) sched_yield();
  }
  template <class Item> void phase(int number, int id, int items, Item item) {
    int32_t mine = 0;
    for (int k = 0; k < size; k++) {
      const int owner = (id + k) % size, from = int64_t(items) * owner / size, to = int64_t(items) * (owner + 1) / size;
      auto &n = next[size_t(number) * size + owner].n;
      for (int i; n.load(std::memory_order_relaxed) < to - from && (i = from + n.fetch_add(1)) < to; mine++) item(i);
    }
    auto &d = done[number].n;
    if (mine) d.fetch_add(mine, std::memory_order_acq_rel);
    for (int i = 0; d.load(std::memory_order_acquire) < items; i += i < 10000) pause(i);
  }
  void run(void (*f)(void *, int), void *a) {
    work = f, what = a;
    for (auto &c : next) c.n.store(0, std::memory_order_relaxed);
    for (auto &c : done) c.n.store(0, std::memory_order_relaxed);
    job++;
    job.notify_all();
    f(a, 0);
    job++;
    for (int i = 0; inside; i += i < 10000) pause(i);  // they have nothing left to do but to see it
  }
};

struct Wants { std::atomic<uint64_t> rows{0}; };
struct Row { int32_t slot, position, id; float *logits; };  // a token to be read; logits if they are wanted

struct Model {
  Shape s;
  const float *wpe, *ln_f;  // [n_ctx, C padded to UNIT], [2, C padded]
  Matrix head, first;       // first.data is null where there is no first pass
  std::vector<Layer> layers;
  Team team;
  std::vector<std::unique_ptr<void, decltype(&free)>> memory;
  int D, Dp, room;        // channels of a head, padded to LANES; positions padded to LANES
  size_t side, text;      // numbers of a slot's keys in a layer and head; of all that a slot has
  uint16_t *cache;        // [slots, layer, head, 2]: keys [room / 16, D, 16], values [room, Dp]
  float *x, *qkv, *scores;  // [ROWS, C], [ROWS, 3C], [threads, room]
  int tiles;                // of the head
  int64_t *order;           // [ROWS, tiles]: their highest logits, and their numbers as ones' complements
  std::vector<Wants> wants;  // [tiles]: by which rows each is wanted again, a bit for each; else 0
  Inputs narrow_in, wide_in;  // of C and of 4C
  std::vector<Row> rows;
  const Row *row;         // of the pass that is running
  int count;
  int last[ROWS], wanted;

  float *floats(size_t n) {
    memory.emplace_back(nullptr, &free);
    memory.back().reset(aligned_alloc(64, (n * 4 + 63) / 64 * 64));
    if (!memory.back()) throw std::bad_alloc();
    return (float *)memory.back().get();
  }

  Inputs inputs(int columns) {
    Inputs in;
    in.width = up(columns, UNIT);
    const size_t n = size_t(ROWS) * in.width;
    in.x = floats(n);
    in.code = (int8_t *)floats(n / 4);
    in.scale = floats(n / UNIT);
    in.zero = (int32_t *)floats(n / BLOCK);
    memset(in.x, 0, n * 4);
    return in;
  }

  Model(const Shape &shape, const Layer *l, const Matrix &h, const Matrix &f, const float *positions, const float *norm)
      : s(shape), wpe(positions), ln_f(norm), head(h), first(f), layers(l, l + shape.n_layer), team(shape.threads, 9 * shape.n_layer + 5) {
    D = s.n_embd / s.n_head, Dp = up(D, LANES), room = up(s.room, LANES);
    side = size_t(room) * Dp, text = side * 2 * s.n_head * s.n_layer;
    narrow_in = inputs(s.n_embd), wide_in = inputs(4 * s.n_embd);
    x = floats(size_t(ROWS) * narrow_in.width);
    qkv = floats(size_t(ROWS) * up(3 * s.n_embd, LANES));
    scores = floats(size_t(s.threads) * room);
    tiles = up(s.vocab_size, LANES) / LANES;
    if (first.data) {
      order = (int64_t *)floats(size_t(ROWS) * tiles * 2);
      wants = std::vector<Wants>(tiles);
    }
    memset(x, 0, size_t(ROWS) * narrow_in.width * 4);
    void *pages = mmap(nullptr, text * 2 * s.slots, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc();
    cache = (uint16_t *)pages;  // last, as nothing may be thrown from here on
  }
  Model(const Model &) = delete;
  ~Model() { munmap(cache, text * 2 * s.slots); }

  // x[m] = token embedding (a row of the head) + position embedding
  void embed(int m) {
    const int C = narrow_in.width, n = row[m].id % LANES;
    const uint8_t *w = head.data + tile_bytes(head.kind, s.n_embd) * (row[m].id / LANES);
    const float factor = ((const float *)w)[n], *place = wpe + size_t(row[m].position) * C;
    for (int k = 0; k < s.n_embd; k++) {
      const uint8_t *p = w + unit_at(head.kind, k / UNIT);
      float v;
      const int i = k % UNIT, j = k % BLOCK;  // of the unit, of the block
      if (head.kind == INT8) v = int(p[i / 4 * 64 + n * 4 + i % 4]) - 128;
      else if (head.kind == BF16) {
        uint32_t bits = uint32_t(((const uint16_t *)p)[i / 2 * 32 + n * 2 + i % 2]) << 16;
        memcpy(&v, &bits, 4);
      } else {
        const int byte = p[i / BLOCK * 256 + j % 16 / 4 * 64 + n * 4 + j % 4];
        const uint8_t *scales = w + unit_at(INT4, k / UNIT / 2 * 2) - 64;
        v = (CODEBOOK[j < 16 ? byte & 15 : byte >> 4] - 128) * float(scales[LANES * (k % (2 * UNIT) / BLOCK) + n]);
      }
      x[size_t(m) * C + k] = v * factor + place[k];
    }
  }

  // layer norm of x[m] into row `to` of the inputs; the padding of x and of the norm's weights is zero
  void norm(const float *g, int m, int to) {
    const int C = narrow_in.width, n = s.n_embd;
    const float *v = x + size_t(m) * C;
    float *y = narrow_in.x + size_t(to) * C;
    F sum = splat(0), square = splat(0);
    for (int i = 0; i < n; i += LANES) sum += load(v + i);
    const float mean = total(sum) / n;
    for (int i = 0; i < n; i += LANES) {
      F d = load(v + i) - mean;
      for (int j = n - i; j < LANES; j++) d[j] = 0;
      square += d * d;
    }
    const float r = 1 / std::sqrt(total(square) / n + s.epsilon);
    for (int i = 0; i < n; i += LANES) store(y + i, (load(v + i) - mean) * r * load(g + i) + load(g + C + i));
    quantize(narrow_in, to, 0, C / UNIT);
  }

  // w times n rows of inputs, as a phase: done(row, first output, 16 outputs)
  template <class Done> void multiply(int phase, int id, const Matrix &w, const Inputs &in, int n, Done done) {
    const int all = up(w.rows, LANES) / LANES;
    const size_t bytes = tile_bytes(w.kind, w.columns);
    const int group = std::max(1, int(32768 / bytes));  // tiles of an item
    team.phase(phase, id, (all + group - 1) / group, [&](int item) {
      F out[ROWS];
      for (int t = item * group; t < std::min((item + 1) * group, all); t++) {
        outputs(w.kind, w.data + bytes * t, in, 0, n, out);
        for (int m = 0; m < n; m++) done(m, t * LANES, out[m]);
      }
    });
  }

  // keys and values of a head go into the cache, then its rows look at all that stands before them
  void attend(int layer, int h, int id) {
    const int C = s.n_embd, W = up(3 * C, LANES), P = narrow_in.width;
    float *score = scores + size_t(id) * room;
    for (int m = 0; m < count; m++) {
      uint16_t *K = cache + text * row[m].slot + side * 2 * (size_t(layer) * s.n_head + h), *V = K + side;
      const int t = row[m].position;
      const float *q = qkv + size_t(m) * W + h * D, *k = q + C, *v = k + C;
      for (int d = 0; d < D; d++) {
        K[(size_t(t / LANES) * D + d) * LANES + t % LANES] = narrow(k[d]);
        V[size_t(t) * Dp + d] = narrow(v[d]);
      }
      const float root = 1 / std::sqrt(float(D));
      F most = splat(-INFINITY);
      for (int b = 0; b <= t; b += LANES) {
        const uint16_t *at = K + size_t(b) * D;
        F part[4] = {};  // side by side, as an addition waits for the one before
        for (int d = 0; d < D; d++) {
          part[d % 4] += wide(at + d * LANES) * q[d];
          if (d % 2 == 0) fetch(at + d * LANES + 512), fetch(V + size_t(b) * D + d * LANES);  // a line; V is next
        }
        F a = ((part[0] + part[1]) + (part[2] + part[3])) * root;
        for (int j = t + 1 - b; j < LANES; j++) a[j] = -INFINITY;
        store(score + b, a);
        most = max(most, a);
      }
      const float top = largest(most);
      F sum = splat(0);
      for (int b = 0; b <= t; b += LANES) {
        F e = exponential(load(score + b) - top);
        for (int j = t + 1 - b; j < LANES; j++) e[j] = 0;
        store(score + b, e);
        sum += e;
      }
      const float share = 1 / total(sum);
      float *y = narrow_in.x + size_t(m) * P + h * D;
      for (int d = 0; d < Dp; d += 4 * LANES) {
        const int parts = std::min(4, (Dp - d) / LANES);
        F part[4] = {};
        if (parts == 4)  // a known number stays in registers
          for (int i = 0; i <= t; i++)
            for (int k = 0; k < 4; k++) part[k] += wide(V + size_t(i) * Dp + d + k * LANES) * score[i];
        else
          for (int i = 0; i <= t; i++)
            for (int k = 0; k < parts; k++) part[k] += wide(V + size_t(i) * Dp + d + k * LANES) * score[i];
        for (int k = 0; k < parts; k++) {
          const F a = part[k] * share;
          for (int j = 0; j < LANES && d + k * LANES + j < D; j++) y[d + k * LANES + j] = a[j];
        }
      }
    }
  }

  void pass(int id) {  // a thread's part of a pass
    const int C = narrow_in.width, W = up(3 * s.n_embd, LANES);
    int p = 0;  // phases so far
    auto each_row = [&](int n, auto f) { team.phase(p++, id, n, f); };
    auto codes = [&](const Inputs &in) {  // a row in four parts
      const int u = in.width / UNIT;
      team.phase(p++, id, 4 * count, [&](int i) { quantize(in, i / 4, u * (i % 4) / 4, u * (i % 4 + 1) / 4); });
    };
    auto residual = [&](int m, int at, F y) { float *v = x + size_t(m) * C + at; store(v, load(v) + y); };
    each_row(count, [&](int m) { embed(m), norm(layers[0].ln_1, m, m); });
    for (int l = 0; l < s.n_layer; l++) {
      const Layer &w = layers[l];
      if (l) each_row(count, [&](int m) { norm(w.ln_1, m, m); });
      multiply(p++, id, w.c_attn, narrow_in, count, [&](int m, int at, F y) { store(qkv + size_t(m) * W + at, y); });
      team.phase(p++, id, s.n_head, [&](int h) { attend(l, h, id); });
      codes(narrow_in);
      multiply(p++, id, w.attn_c_proj, narrow_in, count, residual);
      each_row(count, [&](int m) { norm(w.ln_2, m, m); });
      multiply(p++, id, w.c_fc, narrow_in, count, [&](int m, int at, F y) { store(wide_in.x + size_t(m) * wide_in.width + at, gelu(y)); });
      codes(wide_in);
      multiply(p++, id, w.mlp_c_proj, wide_in, count, residual);
    }
    if (!wanted) return;
    each_row(wanted, [&](int i) { norm(ln_f, last[i], i); });
    auto put = [&](int i, int at, F y) {
      float *to = row[last[i]].logits + at;
      if (at + LANES <= s.vocab_size) store(to, y);
      else for (int j = 0; at + j < s.vocab_size; j++) to[j] = y[j];
    };
    if (!first.data) return multiply(p++, id, head, narrow_in, wanted, put);
    multiply(p++, id, first, narrow_in, wanted, [&](int i, int at, F y) {
      put(i, at, y);
      for (int j = s.vocab_size - at; j < LANES; j++) y[j] = -INFINITY;
      const float most = largest(y);
      int32_t bits;
      memcpy(&bits, &most, 4);
      if (most != most) bits = INT32_MAX;
      if (bits < 0) bits ^= INT32_MAX;  // now as the floats are ordered
      order[size_t(i) * tiles + at / LANES] = int64_t(bits) << 32 | ~uint32_t(at / LANES);
    });
    each_row(wanted, [&](int i) {
      int64_t *o = order + size_t(i) * tiles;
      std::nth_element(o, o + s.again - 1, o + tiles, [](int64_t a, int64_t b) { return a > b; });
      for (int k = 0; k < s.again; k++) wants[~uint32_t(o[k])].rows.fetch_or(uint64_t(1) << i, std::memory_order_relaxed);
    });
    const size_t bytes = tile_bytes(head.kind, s.n_embd);
    team.phase(p++, id, up(tiles, LANES) / LANES, [&](int item) {
      F out[ROWS];
      for (int t = item * LANES; t < std::min((item + 1) * LANES, tiles); t++)
        for (uint64_t left = wants[t].rows ? wants[t].rows.exchange(0) : 0; left;) {  // rows side by side at once
          const int from = std::countr_zero(left), to = from + std::countr_one(left >> from);
          outputs(head.kind, head.data + bytes * t, narrow_in, from, to, out);
          for (int i = from; i < to; i++) put(i, t * LANES, out[i - from]);
          left = to < ROWS ? left >> to << to : 0;
        }
    });
  }

  void step(int texts, const int32_t *slots, const int32_t *lengths, const int32_t *positions, const int32_t *ids, int every, float *logits) {
    rows.clear();
    for (int i = 0; i < texts; i++)
      for (int t = 0; t < lengths[i]; t++) {
        const bool want = every || t == lengths[i] - 1;
        rows.push_back({slots[i], positions[i] + t, *ids++, want ? logits : nullptr});
        if (want) logits += s.vocab_size;
      }
    for (size_t from = 0; from < rows.size(); from += ROWS) {
      row = rows.data() + from, count = int(std::min(size_t(ROWS), rows.size() - from)), wanted = 0;
      for (int m = 0; m < count; m++) if (row[m].logits) last[wanted++] = m;
      team.run([](void *model, int id) { ((Model *)model)->pass(id); }, this);
    }
  }
};

}  // namespace

EXPORT(void *gpt2_open)(const Shape *shape, const Layer *layers, const Matrix *heads, const float *wpe, const float *ln_f) {
  try {
    return new Model(*shape, layers, heads[0], heads[1], wpe, ln_f);
  } catch (...) {  // no exception may reach the caller, who knows none
    return nullptr;
  }
}
EXPORT(int32_t gpt2_step)(void *model, int32_t texts, const int32_t *slots, const int32_t *lengths, const int32_t *positions, const int32_t *ids,
                       int32_t every, float *logits) {
  try {
    ((Model *)model)->step(texts, slots, lengths, positions, ids, every, logits);
    return 1;
  } catch (...) {  // thrown before anything is computed
    return 0;
  }
}
EXPORT(void gpt2_copy)(void *model, int32_t source, int32_t target, int32_t length) {  // no page beyond it is touched
  const Model &m = *(Model *)model;
  for (int i = 0; i < m.s.n_layer * m.s.n_head; i++) {
    const size_t at = m.side * 2 * i;
    const uint16_t *from = m.cache + m.text * source + at;
    uint16_t *to = m.cache + m.text * target + at;
    memcpy(to, from, size_t(up(length, LANES)) * m.D * 2);
    memcpy(to + m.side, from + m.side, size_t(length) * m.Dp * 2);
  }
}
EXPORT(void gpt2_close)(void *model) { delete (Model *)model; }
