/* Arithmetic on vectors of WIDTH floats; delta.c includes it once for each width. */

#define vec NAMED(vec, WIDTH)
#define mask NAMED(mask, WIDTH)
#define unaligned NAMED(unaligned, WIDTH)
#define splat NAMED(splat, WIDTH)
#define load NAMED(load, WIDTH)
#define store NAMED(store, WIDTH)
#define activated NAMED(activated, WIDTH)
#define tile NAMED(tile, WIDTH)
#define depthwise_row NAMED(depthwise_row, WIDTH)
#define depthwise_kernel NAMED(depthwise_kernel, WIDTH)

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t mask __attribute__((vector_size(4 * WIDTH)));
typedef float unaligned __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

INLINE vec splat(float x) { return x - (vec){0}; }

INLINE vec activated(vec x, int activation) {
    const vec zero = splat(0.0f), six = splat(6.0f);
    if (activation == NONE) return x;
    x = (vec)((mask)x & ~(x < zero)); /* a NaN stays */
    if (activation == RELU) return x;
    mask high = x > six;
    return (vec)(((mask)six & high) | ((mask)x & ~high));
}

INLINE vec load(const float *x) { return *(const unaligned *)x; }
INLINE void store(float *x, vec value) { *(unaligned *)x = value; }

/* M places times N vectors of output channels, from place `m` on. */
INLINE void tile(const int M, const int N, const span *s, int m) {
    const float *x = s->x + m * s->step, *weight = s->weight, *map = s->map + m * s->map_step;
    const int step = s->step, outputs = s->outputs, map_step = s->map_step;
    vec sum[14][3]; /* of which M times N are used */
    UNROLL
    for (int i = 0; i < M; i++)
        UNROLL
        for (int n = 0; n < N; n++) sum[i][n] = s->bias ? load(s->bias + n * WIDTH) : splat(0.0f);
    for (int segment = 0; segment < s->segments; segment++, x += s->line)
        for (int k = 0; k < s->length; k++, weight += outputs) {
            vec w[3];
            UNROLL
            for (int n = 0; n < N; n++) w[n] = load(weight + n * WIDTH);
            UNROLL
            for (int i = 0; i < M; i++) {
                vec value = splat(x[k + i * step]);
                UNROLL
                for (int n = 0; n < N; n++) sum[i][n] += value * w[n];
            }
        }
    for (int k = 0; k < s->count; k++, weight += outputs) {
        const float *at = map + s->index[k];
        vec w[3];
        UNROLL
        for (int n = 0; n < N; n++) w[n] = load(weight + n * WIDTH);
        UNROLL
        for (int i = 0; i < M; i++) {
            vec value = splat(at[i * map_step]);
            UNROLL
            for (int n = 0; n < N; n++) sum[i][n] += value * w[n];
        }
    }
    float *y = s->y + m * outputs;
    const float *added = s->added ? s->added + m * outputs : 0;
    UNROLL
    for (int i = 0; i < M; i++)
        UNROLL
        for (int n = 0; n < N; n++) {
            vec value = sum[i][n];
            if (added) value += load(added + i * outputs + n * WIDTH);
            store(y + i * outputs + n * WIDTH, activated(value, s->activation));
        }
}

/* One row of places for N vectors of output channels, M places at a time. Sides of maps are often multiples of 7. */
#define ROW(NAME, M, N)                                      \
    __attribute__((unused)) static void NAME(const span *s, int width) {             \
        int m = 0;                                           \
        for (; m + (M) <= width; m += (M)) tile(M, N, s, m); \
        for (; m + 4 <= width; m += 4) tile(4, N, s, m);     \
        for (; m < width; m++) tile(1, N, s, m);             \
    }

#ifdef __AVX512F__ /* 32 registers */
ROW(NAMED(one_row, WIDTH), 14, 1)
ROW(NAMED(two_row, WIDTH), 7, 2)
ROW(NAMED(three_row, WIDTH), 7, 3)
#else
ROW(NAMED(one_row, WIDTH), 12, 1)
ROW(NAMED(two_row, WIDTH), 6, 2)
ROW(NAMED(three_row, WIDTH), 4, 3)
#endif

/* One row of a depthwise convolution for one vector of channels, a few places at a time. */
INLINE void depthwise_kernel(const int K, const int S, const layer *l, const float *x, const float *weight, vec bias,
                             float *y) {
    const int M = 7, C = l->outputs;
    int m = 0;
    for (; m + M <= l->width; m += M) {
        vec sum[7] = {bias, bias, bias, bias, bias, bias, bias};
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++) {
                vec w = load(weight + (i * K + j) * C);
                UNROLL
                for (int p = 0; p < M; p++) sum[p] += w * load(x + i * l->line + ((m + p) * S + j) * C);
            }
        UNROLL
        for (int p = 0; p < M; p++) store(y + (m + p) * C, activated(sum[p], l->activation));
    }
    for (; m < l->width; m++) {
        vec sum = bias;
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++) sum += load(weight + (i * K + j) * C) * load(x + i * l->line + (m * S + j) * C);
        store(y + m * C, activated(sum, l->activation));
    }
}

static void depthwise_row(const layer *l, const float *x, const float *weight, const float *bias, float *y) {
    if (l->kernel == 3 && l->stride == 1) depthwise_kernel(3, 1, l, x, weight, load(bias), y);
    else if (l->kernel == 5 && l->stride == 1) depthwise_kernel(5, 1, l, x, weight, load(bias), y);
    else depthwise_kernel(l->kernel, l->stride, l, x, weight, load(bias), y);
}

#undef vec
#undef mask
#undef unaligned
#undef splat
#undef load
#undef store
#undef activated
#undef tile
#undef depthwise_row
#undef depthwise_kernel
