/* Run deltas: all layers of one task for one picture at a time, in the processor's cache.

   A program is a list of convolutions over maps (height, width, channels). Weights of all tasks are laid out alike, each
   task in one buffer of floats, in which indices of channels are 32-bit integers. Every number of output channels is
   filled up with zeros to a multiple of 8, the width V of a vector.

   Buffers of a program are zero around their maps, as wide as the padding of the layer that reads them. */

#include <stdint.h>

#define V 8
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16") /* sums stay in registers */

enum { NONE = 0, RELU = 1, RELU6 = 2 };
enum { CONVOLUTION = 0, DEPTHWISE = 1, MEAN = 2 };

/* One layer. Offsets are floats from the start of a buffer, of a task's weights, or of a picture's map. A buffer below 0
   is one of each task, see snow_run. */
typedef struct {
    int32_t kind, activation;
    int32_t source, target;     /* buffers that are read and written; of a map of the pass its number */
    int32_t is_map;             /* whether the source is a map of the pass */
    int32_t residual;           /* buffer that is added, or NOTHING */
    int32_t height, width;      /* of the output */
    int32_t inputs, outputs;    /* channels in memory; those of the output a multiple of V */
    int32_t kernel, stride;
    int32_t line, row;          /* floats from one row of the input to the next, of the output to the next */
    int32_t start, place;       /* first float that the first output reads, first float that it writes */
    int32_t residual_row, residual_start;
    int32_t map, count, index;  /* map that `count` channels are selected of, and where their indices are */
    int32_t map_channels, map_line;
    int32_t weight, bias;       /* bias: -1 for none */
} layer;

#define NOTHING INT32_MIN

/* What the outputs of a convolution read: `segments` times `length` floats of x, and selected channels of a map. */
typedef struct {
    const float *x, *map, *added, *weight, *bias;
    const int32_t *index;
    float *y;
    int step, map_step, segments, length, line, count, outputs, activation;
} span;

#define JOIN(a, b) a##b
#define NAMED(name, width) JOIN(name, width)

#define WIDTH 8
#include "tile.h"
#undef WIDTH
#ifdef __AVX512F__
#define WIDE 16
#define WIDTH 16
#include "tile.h"
#undef WIDTH
#else
#define WIDE 8
#endif

/* A convolution in which each output reads all inputs. */
static void convolve(const layer *l, const float *x, const float *map, const float *weights, float *y,
                     const float *added) {
    int height = l->height, width = l->width, stride = l->stride;
    span s = {.step = stride * l->inputs, .map_step = stride * l->map_channels, .segments = l->kernel,
              .length = l->kernel * l->inputs, .line = l->line, .count = l->count, .outputs = l->outputs,
              .activation = l->activation, .index = (const int32_t *)(weights + l->index)};
    /* rows that follow each other in memory are one long row */
    if (stride == 1 && l->kernel == 1 && l->line == width * l->inputs && l->row == width * l->outputs &&
        (!added || l->residual_row == l->row) && (!l->count || l->map_line == width * l->map_channels))
        width *= height, height = 1;
    for (int o = 0, n; o < l->outputs; o += n) {
        const int left = l->outputs - o, vectors = left / WIDE;
        void (*run)(const span *, int);
        if (vectors == 0) n = V, run = one_row8;
        else if (vectors == 1) n = WIDE, run = NAMED(one_row, WIDE);
        else if (vectors == 2 || vectors == 4) n = 2 * WIDE, run = NAMED(two_row, WIDE);
        else n = 3 * WIDE, run = NAMED(three_row, WIDE);
        s.weight = weights + l->weight + o;
        s.bias = l->bias < 0 ? 0 : weights + l->bias + o;
        for (int h = 0; h < height; h++) {
            s.x = x + h * stride * l->line;
            s.map = l->count ? map + h * stride * l->map_line : x;
            s.y = y + h * l->row + o;
            s.added = added ? added + h * l->residual_row + o : 0;
            run(&s, width);
        }
    }
}

static void depthwise(const layer *l, const float *x, const float *weights, float *y) {
    for (int c = 0, n; c < l->outputs; c += n) {
        n = l->outputs - c < WIDE ? V : WIDE;
        const float *weight = weights + l->weight + c, *bias = weights + l->bias + c;
        for (int h = 0; h < l->height; h++) {
            const float *from = x + h * l->stride * l->line + c;
            float *to = y + h * l->row + c;
            (n == V ? depthwise_row8 : NAMED(depthwise_row, WIDE))(l, from, weight, bias, to);
        }
    }
}

static void mean(const layer *l, const float *x, float *y) {
    int places = l->height * l->width;
    for (int c = 0; c < l->outputs; c += V) {
        vec8 sum = splat8(0.0f);
        for (int p = 0; p < places; p++) sum += load8(x + p * l->outputs + c);
        store8(y + c, sum / splat8((float)places));
    }
}

/* The first integers of a task's weights: how its logits come from own features, moments and final features. */
typedef struct {
    int32_t classes, rank;     /* multiples of V; rank 0: no low-rank head */
    int32_t inputs, own;       /* numbers of moments and final features, and of own features */
    int32_t index, scale, centre, gain, weight, expand, own_weight, bias;
} head;

static void add_product(const float *x, int count, const float *weight, int outputs, float *y) {
    for (int o = 0; o < outputs; o += V) {
        vec8 sum[4] = {load8(y + o), splat8(0.0f), splat8(0.0f), splat8(0.0f)};
        int k = 0;
        for (; k + 4 <= count; k += 4)
            for (int j = 0; j < 4; j++) sum[j] += splat8(x[k + j]) * load8(weight + (k + j) * outputs + o);
        for (; k < count; k++) sum[0] += splat8(x[k]) * load8(weight + k * outputs + o);
        store8(y + o, (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
}

/* Inputs are standardised before they meet their weights: products of what is far from zero would round more. */
static void read_out(const float *weights, const float *own, const float *known, float *inner, float *inputs,
                     float *logits) {
    const head *h = (const head *)weights;
    const int32_t *index = (const int32_t *)(weights + h->index);
    const float *scale = weights + h->scale, *centre = weights + h->centre, *gain = weights + h->gain;
    for (int k = 0; k < h->inputs; k++) inputs[k] = (known[index[k]] * scale[k] - centre[k]) * gain[k];
    for (int c = 0; c < h->classes; c++) logits[c] = weights[h->bias + c];
    if (h->rank) {
        for (int r = 0; r < h->rank; r++) inner[r] = 0.0f;
        add_product(inputs, h->inputs, weights + h->weight, h->rank, inner);
        add_product(inner, h->rank, weights + h->expand, h->classes, logits);
    } else {
        add_product(inputs, h->inputs, weights + h->weight, h->classes, logits);
    }
    add_product(own, h->own, weights + h->own_weight, h->classes, logits);
}

static void run_layer(const layer *l, const float *const *maps, const float *weights, float *shared, float *kept) {
    const float *x = l->is_map ? maps[l->source] : l->source < 0 ? kept - l->source : shared + l->source;
    float *y = l->target < 0 ? kept - l->target : shared + l->target;
    const float *added = l->residual == NOTHING ? 0 : l->residual < 0 ? kept - l->residual : shared + l->residual;
    if (added) added += l->residual_start;
    if (l->kind == DEPTHWISE) depthwise(l, x + l->start, weights, y + l->place);
    else if (l->kind == MEAN) mean(l, x + l->start, y + l->place);
    else convolve(l, x + l->start, maps[l->map], weights, y + l->place, added);
}

/* Run tasks `first` to `last` for one picture. Levels are the outer loop: a map stays in the cache for all tasks. A level
   ends with a layer that writes a buffer of the task.

   maps: of the picture, the first of them the picture itself; known: its moments and final features; shared: buffers that
   one task uses after the other, and room for the inputs of a readout behind `shared_size` floats; kept: those of each task, `kept_size` floats, where buffer -b starts at float b. */
void snow_run(const layer *program, int layers, const float *const *maps, const float *known,
              const float *const *weights, int first, int last, float *shared, int64_t shared_size, float *kept,
              int64_t kept_size, int own, float *logits, int64_t logits_step) {
    for (const layer *start = program, *stop; start < program + layers; start = stop) {
        for (stop = start; stop->target >= 0; stop++) {
        }
        stop++;
        for (int t = first; t < last; t++)
            for (const layer *l = start; l < stop; l++)
                run_layer(l, maps, weights[t], shared, kept + (t - first) * kept_size);
    }
    for (int t = first; t < last; t++)
        read_out(weights[t], kept + (t - first) * kept_size + own, known, shared, shared + shared_size,
                 logits + t * logits_step);
}

typedef NAMED(vec, WIDE) wide;

/* Mean and standard deviation over the places of a map (places, channels): two rows of `channels` floats. */
void snow_moments(const float *x, int places, int channels, float *result) {
    float *average = result, *deviation = result + channels;
    int c = 0;
    for (; c + 4 * WIDE <= channels; c += 4 * WIDE) {
        wide sum[4] = {NAMED(splat, WIDE)(0.0f), NAMED(splat, WIDE)(0.0f), NAMED(splat, WIDE)(0.0f), NAMED(splat, WIDE)(0.0f)}, square[4] = {sum[0], sum[0], sum[0], sum[0]};
        for (int p = 0; p < places; p++)
            for (int n = 0; n < 4; n++) sum[n] += NAMED(load, WIDE)(x + (int64_t)p * channels + c + n * WIDE);
        for (int n = 0; n < 4; n++) NAMED(store, WIDE)(average + c + n * WIDE, sum[n] / NAMED(splat, WIDE)((float)places));
        for (int p = 0; p < places; p++)
            for (int n = 0; n < 4; n++) {
                wide centred = NAMED(load, WIDE)(x + (int64_t)p * channels + c + n * WIDE) - NAMED(load, WIDE)(average + c + n * WIDE);
                square[n] += centred * centred;
            }
        for (int n = 0; n < 4; n++) NAMED(store, WIDE)(deviation + c + n * WIDE, square[n] / NAMED(splat, WIDE)((float)places));
    }
    for (; c < channels; c++) {
        float sum = 0.0f, square = 0.0f;
        for (int p = 0; p < places; p++) sum += x[(int64_t)p * channels + c];
        average[c] = sum / places;
        for (int p = 0; p < places; p++) {
            float centred = x[(int64_t)p * channels + c] - average[c];
            square += centred * centred;
        }
        deviation[c] = square / places;
    }
    for (c = 0; c < channels; c++) deviation[c] = __builtin_sqrtf(deviation[c] + 1e-12f);
}
