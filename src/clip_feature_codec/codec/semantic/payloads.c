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

/* Code the symbols; returns the number of bytes in `buffer`. */
static int64_t write_stream(const int64_t *symbols, const int64_t *levels, const int64_t *gains, int64_t width,
                     const struct magnitudes *tables, const struct machine *machine, uint8_t *buffer)
{
    struct coder coder = writer();
    struct place here = {0, 0};
    for (int64_t j = 0; j < width; j++) {
        struct address at = drifted_address(levels[j], here.drift);
        int quantiser = machine->quantisers[here.state];
        put_magnitude(&coder, symbols[j], at.shift, starts_at(tables, at.row, quantiser), buffer);
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
                          const struct machine *machine, int64_t *memory, uint8_t *out, int64_t room,
                          int64_t *sizes)
{
    int64_t *symbols = memory, *search = memory + 3 * width;
    struct levels at = {memory + width, memory + 2 * width, 0};
    for (int64_t i = 0; i < count; i++) {
        at_step(&at, i, scales, width, steps, tables);
        semantic_quantise(targets + i * width, at.levels, at.gains, at.coded, weights[i], tables, machine, search,
                          symbols);
        sizes[i] = write_stream(symbols, at.levels, at.gains, at.coded, tables, machine, out + i * room);
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
