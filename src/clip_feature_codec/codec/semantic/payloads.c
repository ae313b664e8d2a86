/* Vectors to arithmetic-coded streams and back, each at its own step. See payloads.py for what the arguments
   are. */

#include "levels.h"
#include "trellis.h"

/* Where in a vector a reader or writer is. */
struct place {
    int64_t state, drift;
};

INLINED struct place next_place(struct place here, int64_t symbol, int64_t gain, struct address at, int quantiser,
                                const struct magnitudes *tables, const struct machine *machine)
{
    return (struct place){
        following(here.state, symbol, machine, STATES),
        drift_after(here.drift, gain, at, quantiser, absolute(symbol), tables),
    };
}

/* What coding makes of a vector, in 2^-FRACTION of the step: the squared error of its coded coefficients, and sums
   over the values that will be decoded, times themselves and times the mean's coefficients. */
struct sums {
    int64_t error, by_value, by_mean;
};

/* Code the symbols of the targets; returns the number of bytes in `buffer`. */
static int64_t write_stream(const int64_t *symbols, const int64_t *targets, const int64_t *levels,
                            const int64_t *gains, int64_t width, const struct magnitudes *tables,
                            const struct machine *machine, const int64_t *mean, uint8_t *buffer,
                            struct sums *sums)
{
    struct coder coder = writer();
    struct place here = {0, 0};
    *sums = (struct sums){0, 0, 0};
    for (int64_t j = 0; j < width; j++) {
        struct address at = drifted_address(levels[j], here.drift);
        int quantiser = machine->quantisers[here.state];
        put_magnitude(&coder, symbols[j], at.shift, starts_at(tables, at.row, quantiser), buffer);
        int64_t value = point_of(symbols[j], quantiser, at, tables);
        sums->error += (targets[j] - value) * (targets[j] - value);
        sums->by_value += value * value;
        sums->by_mean += value * mean[j];
        here = next_place(here, symbols[j], gains[j], at, quantiser, tables, machine);
    }
    return flush(&coder, buffer);
}

/* Decode `data[begin:end]` into `values`, in 2^-8 of the step; false where the bytes are no stream of ours. */
static bool read_stream(const uint8_t *data, int64_t begin, int64_t end, const int64_t *levels, const int64_t *gains,
                 int64_t width, const struct magnitudes *tables, const struct machine *machine, int64_t *values)
{
    struct coder coder = reader(data, begin, end);
    struct place here = {0, 0};
    for (int64_t j = 0; j < width; j++) {
        struct address at = drifted_address(levels[j], here.drift);
        int quantiser = machine->quantisers[here.state];
        int64_t symbol =
            take_magnitude(&coder, at.shift, starts_at(tables, at.row, quantiser), data, end);
        if (absolute(symbol) >= MAX_SYMBOL)
            return false;
        values[j] = point_of(symbol, quantiser, at, tables);
        here = next_place(here, symbol, gains[j], at, quantiser, tables, machine);
    }
    return complete(&coder, data, begin, end);
}

EXPORT int64_t semantic_fill_gains(const int64_t *levels, int64_t width, const struct magnitudes *tables,
                                   int64_t *gains)
{
    return fill_gains(levels, width, tables->information, gains);
}

/* Table row, low bits coded apart, and quantiser of each symbol: `places` (n, 3). */
EXPORT void semantic_addresses(const int64_t *symbols, const int64_t *levels, const int64_t *gains, int64_t width,
                               const struct magnitudes *tables, const struct machine *machine, int64_t *places)
{
    struct place here = {0, 0};
    for (int64_t j = 0; j < width; j++) {
        struct address at = drifted_address(levels[j], here.drift);
        int quantiser = machine->quantisers[here.state];
        places[3 * j] = at.row;
        places[3 * j + 1] = at.shift;
        places[3 * j + 2] = quantiser;
        here = next_place(here, symbols[j], gains[j], at, quantiser, tables, machine);
    }
}

/* The levels of vectors at one step after the other, and what follows from them. */
struct levels {
    int64_t *levels, *gains, coded;
};

/* Bring them to the step of vector i. */
INLINED void at_step(struct levels *at, int64_t i, const int64_t *scales, int64_t width, const int64_t *steps,
                     const struct magnitudes *tables)
{
    if (i > 0 && steps[i] == steps[i - 1])
        return;
    for (int64_t j = 0; j < width; j++)
        at->levels[j] = scales[j] - steps[i];
    at->coded = fill_gains(at->levels, width, tables->information, at->gains);
}

/* int64s of memory that coding takes. */
EXPORT int64_t semantic_code_size(int64_t width)
{
    return semantic_search_size(width) + 3 * width;
}

EXPORT void semantic_code(const int64_t *targets, int64_t count, int64_t width, const int64_t *scales,
                          const int64_t *steps, const int64_t *weights, const struct magnitudes *tables,
                          const struct machine *machine, const int64_t *mean, int64_t *memory, uint8_t *out,
                          int64_t room, int64_t *sizes, struct sums *sums)
{
    int64_t *symbols = memory, *search = memory + 3 * width;
    struct levels at = {memory + width, memory + 2 * width, 0};
    for (int64_t i = 0; i < count; i++) {
        at_step(&at, i, scales, width, steps, tables);
        const int64_t *these = targets + i * width;
        semantic_quantise(these, at.levels, at.gains, at.coded, weights[i], tables, machine, search, symbols);
        sizes[i] = write_stream(symbols, these, at.levels, at.gains, at.coded, tables, machine, mean,
                                out + i * room, sums + i);
    }
}

/* What is foretold of a vector at a step, where each coefficient takes what is cheapest for it: 1/256 bits, and how
   much less the squared error is than that of zeros, in 2^-16 of the step squared. */
struct forecast {
    int64_t bits, less;
};

/* `factors` take the coefficients (count, stride) to 2^-FRACTION of the steps. `memory`: 2 `width` int64s. */
EXPORT void semantic_foretell(const double *coefficients, int64_t count, int64_t stride, int64_t width,
                              const int64_t *scales, const int64_t *steps, const double *factors, int64_t weight,
                              const struct magnitudes *tables, int64_t *memory, struct forecast *forecasts)
{
    struct levels at = {memory, memory + width, 0};
    for (int64_t i = 0; i < count; i++) {
        at_step(&at, i, scales, width, steps, tables);
        struct forecast forecast = {0, 0};
        int64_t drift = 0;
        for (int64_t j = 0; j < at.coded; j++) {
            double coefficient = coefficients[i * stride + j];
            int64_t target = (int64_t)((coefficient < 0 ? -coefficient : coefficient) * factors[i]);
            struct address address = drifted_address(at.levels[j], drift);
            struct choice best = cheapest(target, address, weight, tables);
            int64_t value = point_of(best.magnitude, best.quantiser, address, tables);
            forecast.bits += best.bits;
            forecast.less += value * (2 * target - value);
            drift = drift_after(drift, at.gains[j], address, best.quantiser, best.magnitude, tables);
        }
        forecasts[i] = forecast;
    }
}

/* `memory`: 2 `width` int64s. */
EXPORT int64_t semantic_decode(const uint8_t *data, const int64_t *ends, int64_t count, int64_t width,
                               const int64_t *scales, const int64_t *steps, const struct magnitudes *tables,
                               const struct machine *machine, int64_t *memory, int64_t *values)
{
    struct levels at = {memory, memory + width, 0};
    memset(values, 0, (size_t)(count * width) * sizeof *values);
    for (int64_t i = 0; i < count; i++) {
        at_step(&at, i, scales, width, steps, tables);
        if (!read_stream(data, ends[i], ends[i + 1], at.levels, at.gains, at.coded, tables, machine, values + i * width))
            return i;
    }
    return -1;
}
