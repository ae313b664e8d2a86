/* Vectors to arithmetic-coded streams and back, each at its own step. See payloads.py for what the arguments
   are. */

#include "levels.h"
#include "trellis.h"

/* Where in a vector a reader or writer is. */
struct place {
    int64_t state;
    int32_t drift;
};

INLINED struct place next_place(struct place here, int32_t symbol, int32_t gain, struct address at, int quantiser,
                                const struct magnitudes *tables, const struct machine *machine)
{
    return (struct place){
        following(here.state, symbol, machine, STATES),
        drift_after(here.drift, gain, at, quantiser, absolute_32(symbol), tables),
    };
}

/* Decode `data[begin:end]` into `values`, in 2^-8 of the step; false where the bytes are no stream of ours. */
static bool read_stream(const uint8_t *data, int64_t begin, int64_t end, const int64_t *scales, int64_t step,
                        const int32_t *gains, int64_t width, const struct magnitudes *tables,
                        const struct machine *machine, int64_t *values)
{
    struct coder coder = reader(data, begin, end);
    struct place here = {0, 0};
    for (int64_t j = 0; j < width; j++) {
        struct address at = drifted_address((int32_t)(scales[j] - step), here.drift);
        int quantiser = machine->quantisers[here.state];
        int64_t symbol =
            take_magnitude(&coder, at.shift, starts_at(tables, at.row, quantiser), data, end);
        if (absolute(symbol) >= MAX_SYMBOL)
            return false;
        values[j] = point_of((int32_t)symbol, quantiser, at, tables);
        here = next_place(here, (int32_t)symbol, gains[j], at, quantiser, tables, machine);
    }
    return complete(&coder, data, begin, end);
}

EXPORT int64_t semantic_fill_gains(const int64_t *levels, int64_t width, const struct magnitudes *tables,
                                   int32_t *gains)
{
    return fill_gains(levels, 0, width, tables->information, gains);
}

/* Table row, low bits coded apart, and quantiser of each symbol: `places` (n, 3). */
EXPORT void semantic_addresses(const int64_t *symbols, const int64_t *levels, const int32_t *gains, int64_t width,
                               const struct magnitudes *tables, const struct machine *machine, int64_t *places)
{
    struct place here = {0, 0};
    for (int64_t j = 0; j < width; j++) {
        struct address at = drifted_address((int32_t)levels[j], here.drift);
        int quantiser = machine->quantisers[here.state];
        places[3 * j] = at.row;
        places[3 * j + 1] = at.shift;
        places[3 * j + 2] = quantiser;
        here = next_place(here, (int32_t)symbols[j], gains[j], at, quantiser, tables, machine);
    }
}

/* Vectors, some of which are coded: coefficients (count, stride), of which at most `width` are coded. `rows` says
   which, and `factors` take them to 2^-FRACTION of their `steps`. */
struct vectors {
    const double *coefficients;
    int64_t stride, width;
    const int64_t *scales, *rows, *steps;
    const double *factors;
};

/* Lanes of as many vectors of at most `width` coefficients at `steps`, their targets not yet filled in. */
static struct lanes lanes_of(const int64_t *scales, int64_t width, const int64_t *steps, int64_t count,
                             const struct magnitudes *tables, int64_t *memory)
{
    struct lanes lanes = lanes_in(memory, scales, width);
    for (int lane = 0, apart = 0; lane < count; lane++) {
        lanes.steps[lane] = (int32_t)steps[lane];
        if (lane > 0 && lanes.steps[lane] == lanes.steps[lane - 1]) {
            lanes.offsets[lane] = lanes.offsets[lane - 1];
            lanes.widths[lane] = lanes.widths[lane - 1];
        } else {
            lanes.offsets[lane] = (int32_t)(apart++ * width);
            lanes.widths[lane] =
                fill_gains(scales, steps[lane], width, tables->information, lanes.gains + lanes.offsets[lane]);
        }
        lanes.widest = greatest(lanes.widest, lanes.widths[lane]);
    }
    return lanes;
}

#define WHOLE 6755399441055744.0    /* 1.5 * 2^52: a number of that size has no bits behind the point */
#define GREATEST_TARGET 536870912.0 /* far beyond the greatest magnitude that there is */

/* Coefficients in 2^-FRACTION of the step, rounded to the nearest, to even ones in between. */
static void fill_targets(const struct vectors *vectors, int64_t i, int lane, struct lanes *lanes)
{
    const double *coefficients = vectors->coefficients + vectors->rows[i] * vectors->stride;
    double factor = vectors->factors[i];
    for (int64_t j = 0; j < lanes->widths[lane]; j++) {
        double target = coefficients[j] * factor;
        target = target < -GREATEST_TARGET ? -GREATEST_TARGET : target > GREATEST_TARGET ? GREATEST_TARGET : target;
        lanes->targets[j][lane] = (int32_t)(target + WHOLE - WHOLE);
    }
}

/* What coding makes of a vector, in 2^-FRACTION of the step: the squared error of its coded coefficients, and sums
   over the values that will be decoded, times themselves and times the mean's coefficients. */
struct sums {
    int64_t error, by_value, by_mean;
};

/* How a symbol is coded: where its table begins among the starts, and how many of its low bits are coded apart. */
#define PLACE(at, quantiser) ((2 * (at).row + (quantiser)) * (SYMBOLS + 1) << 4 | (at).shift)

/* Say how the symbols of lanes are coded, in place of their quantisers, and what will be decoded, in place of their
   targets; and add up what becomes of them, and the 1/256 bits that they take, but for what follows an escape. */
INLINED void place_in(struct lanes *lanes, const struct magnitudes *tables, const int64_t *mean, struct sums *sums,
                      int32_t *bits, const int wide)
{
    int64_t errors[LANES] = {0}, by_values[LANES] = {0}, by_means[LANES] = {0};
    int32_t drifts[LANES] = {0}, taken[LANES] = {0};
    for (int64_t j = 0; j < lanes->widest; j++) {
        const int32_t *symbols = lanes->symbols[j], *targets = lanes->targets[j], *quantisers = lanes->quantisers[j];
        int32_t mean_j = (int32_t)mean[j], places[LANES], values[LANES], rows[LANES], shifts[LANES];
        EACH_LANE(lane) {
            struct address at = drifted_address(level_in(lanes, j, lane), drifts[lane]);
            rows[lane] = at.row;
            shifts[lane] = at.shift;
            values[lane] = point_of(symbols[lane], quantisers[lane], at, tables);
            places[lane] = PLACE(at, quantisers[lane]);
        }
        EACH_LANE(lane) {
            int32_t error = targets[lane] - values[lane];
            errors[lane] += (int64_t)error * error;
            by_values[lane] += (int64_t)values[lane] * values[lane];
            by_means[lane] += (int64_t)values[lane] * mean_j;
        }
        EACH_LANE(lane) {
            struct address at = {rows[lane], shifts[lane]};
            int32_t gain = lanes->gains[lanes->offsets[lane] + j], magnitude = absolute_32(symbols[lane]);
            int32_t symbol = table_at(at.row, quantisers[lane]) + symbol_of(magnitude, at.shift);
            taken[lane] += (tables->costs[symbol] + (at.shift << 8)) & -(j < lanes->widths[lane]);
            drifts[lane] = drift_after(drifts[lane], gain, at, quantisers[lane], magnitude, tables);
        }
        copy_lanes(lanes->quantisers[j], places);
        copy_lanes(lanes->targets[j], values);
    }
    EACH_LANE(lane) {
        sums[lane] = (struct sums){errors[lane], by_values[lane], by_means[lane]};
        bits[lane] = taken[lane];
    }
}

static void place_symbols(struct lanes *lanes, int64_t count, const struct magnitudes *tables, const int64_t *mean,
                          struct sums *sums, int32_t *bits)
{
    if (ALONE(count))
        place_in(lanes, tables, mean, sums, bits, 1);
    else
        place_in(lanes, tables, mean, sums, bits, LANES);
}

/* Code the symbols of a lane; returns the number of bytes in `buffer`. */
static int64_t write_stream(const struct lanes *lanes, int lane, const struct magnitudes *tables, uint8_t *buffer)
{
    struct coder coder = writer();
    for (int64_t j = 0; j < lanes->widths[lane]; j++) {
        int32_t place = lanes->quantisers[j][lane];
        put_magnitude(&coder, lanes->symbols[j][lane], place & 15, tables->starts + (place >> 4), buffer);
    }
    return flush(&coder, buffer);
}

#define LUCK 4 /* bits by which streams are not thought to be shorter than what their symbols take */

/* Code the symbols of a lane, which take so many 1/256 bits, if that is of use, which streams of at most `most` bytes
   are; returns the number of bytes, and about what it would be if there is none. */
static int64_t write_useful(const struct lanes *lanes, int lane, const struct magnitudes *tables, int64_t bits,
                            int64_t most, uint8_t *buffer)
{
    if (bits >> 8 > 8 * most + LUCK)
        return (bits >> 11) + 1;
    return write_stream(lanes, lane, tables, buffer);
}

/* int64s of memory that coding takes. */
EXPORT int64_t semantic_code_size(int64_t width)
{
    return lanes_size(width);
}

/* Put down the symbols of a lane, zeros where none are coded. */
static void keep_symbols(const struct lanes *lanes, int lane, int64_t width, int16_t *symbols)
{
    for (int64_t j = 0; j < width; j++)
        symbols[j] = j < lanes->widths[lane] ? (int16_t)lanes->symbols[j][lane] : 0;
}

/* `sizes` (count): how many bytes of each vector are of use, and then how many there are. `symbols` (count, width): NULL
   where they are of no use. */
EXPORT void semantic_code(const struct vectors *vectors, int64_t count, const int64_t *weights,
                          const struct magnitudes *tables, const struct machine *machine, const int64_t *mean,
                          int64_t *memory, uint8_t *out, int64_t room, int64_t *sizes, struct sums *sums,
                          int16_t *symbols)
{
    for (int64_t first = 0; first < count; first += LANES) {
        int64_t end = least(first + LANES, count);
        struct lanes lanes =
            lanes_of(vectors->scales, vectors->width, vectors->steps + first, end - first, tables, memory);
        struct sums found[LANES];
        int32_t bits[LANES];
        for (int64_t i = first; i < end; i++) {
            lanes.weights[i - first] = (int32_t)weights[i];
            fill_targets(vectors, i, (int)(i - first), &lanes);
        }
        search(&lanes, (int)(end - first), tables, machine);
        place_symbols(&lanes, end - first, tables, mean, found, bits);
        for (int64_t i = first; i < end; i++) {
            int lane = (int)(i - first);
            sums[i] = found[lane];
            sizes[i] = write_useful(&lanes, lane, tables, bits[lane], sizes[i], out + i * room);
            if (symbols)
                keep_symbols(&lanes, lane, vectors->width, symbols + i * vectors->width);
        }
    }
}

/* Take up the symbols (count, width) of vectors in lanes, and which quantisers they belong to. */
static void take_symbols(const int16_t *symbols, int64_t count, int64_t width, const struct machine *machine,
                         struct lanes *lanes)
{
    memset(lanes->symbols, 0, (size_t)lanes->widest * sizeof *lanes->symbols);
    memset(lanes->quantisers, 0, (size_t)lanes->widest * sizeof *lanes->quantisers);
    for (int64_t lane = 0; lane < count; lane++) {
        int64_t state = 0;
        for (int64_t j = 0; j < lanes->widths[lane]; j++) {
            int32_t symbol = symbols[lane * width + j];
            lanes->symbols[j][lane] = symbol;
            lanes->quantisers[j][lane] = machine->quantisers[state];
            state = following(state, absolute_32(symbol), machine, STATES);
        }
    }
}

/* Code symbols (count, width) that `semantic_code` found, at `steps`. `values`, in 2^-FRACTION of the step, are what
   will be decoded. */
EXPORT void semantic_write(const int16_t *symbols, int64_t count, int64_t width, const int64_t *scales,
                           const int64_t *steps, const struct magnitudes *tables, const struct machine *machine,
                           int64_t *memory, uint8_t *out, int64_t room, int64_t *sizes, int64_t *values)
{
    memset(values, 0, (size_t)(count * width) * sizeof *values);
    for (int64_t first = 0; first < count; first += LANES) {
        int64_t some = least(LANES, count - first);
        struct lanes lanes = lanes_of(scales, width, steps + first, some, tables, memory);
        struct sums sums[LANES];
        int32_t bits[LANES];
        take_symbols(symbols + first * width, some, width, machine, &lanes);
        place_symbols(&lanes, some, tables, scales, sums, bits); /* any numbers: the sums are of no use */
        for (int64_t i = first; i < first + some; i++) {
            int lane = (int)(i - first);
            sizes[i] = write_stream(&lanes, lane, tables, out + i * room);
            for (int64_t j = 0; j < lanes.widths[lane]; j++)
                values[i * width + j] = lanes.targets[j][lane];
        }
    }
}

/* What is foretold of a vector at a step, where each coefficient takes what is cheapest for it: 1/256 bits, and how
   much less the squared error is than that of zeros, in 2^-16 of the step squared. */
struct forecast {
    int64_t bits, less;
};

/* What lanes code a coefficient at, and as what. */
struct choices {
    int32_t rows[LANES], shifts[LANES], quantisers[LANES], magnitudes[LANES], bits[LANES];
};

/* Choose what is cheapest. */
INLINED void choose_cheapest(const int32_t *restrict targets, int32_t weight, const struct magnitudes *tables,
                             struct choices *restrict choices, const int wide)
{
    int32_t any_rare = 0;
    EACH_LANE(lane) {
        struct choice best = cheapest_of_direct(least_32(targets[lane], WIDE), choices->rows[lane], weight, tables);
        any_rare |= rare(targets[lane], choices->shifts[lane]);
        choices->quantisers[lane] = best.quantiser;
        choices->magnitudes[lane] = best.magnitude;
        choices->bits[lane] = best.bits;
    }
    for (int lane = 0; any_rare && lane < wide; lane++) {
        struct address at = {choices->rows[lane], choices->shifts[lane]};
        struct choice best = cheapest(targets[lane], at, weight, tables);
        choices->quantisers[lane] = best.quantiser;
        choices->magnitudes[lane] = best.magnitude;
        choices->bits[lane] = best.bits;
    }
}

/* What is foretold of the vectors in lanes. */
INLINED void foretell(const struct vectors *vectors, int64_t first, int64_t end, const struct lanes *lanes,
                     int32_t weight, const struct magnitudes *tables, struct forecast *forecasts, const int wide)
{
    int64_t bits[LANES] = {0}, less[LANES] = {0};
    int32_t drifts[LANES] = {0}, targets[LANES] = {0};
    struct choices choices;
    for (int64_t j = 0; j < lanes->widest; j++) {
        for (int64_t i = first; i < end; i++) {
            double target = vectors->coefficients[vectors->rows[i] * vectors->stride + j] * vectors->factors[i];
            target = target < 0 ? -target : target;
            targets[i - first] = (int32_t)(target > GREATEST_TARGET ? GREATEST_TARGET : target);
        }
        EACH_LANE(lane) {
            struct address at = drifted_address(level_in(lanes, j, lane), drifts[lane]);
            choices.rows[lane] = at.row;
            choices.shifts[lane] = at.shift;
        }
        choose_cheapest(targets, weight, tables, &choices, wide);
        EACH_LANE(lane) {
            struct address at = {choices.rows[lane], choices.shifts[lane]};
            int32_t inside = -(j < lanes->widths[lane]), gain = lanes->gains[lanes->offsets[lane] + j];
            int32_t magnitude = choices.magnitudes[lane], quantiser = choices.quantisers[lane];
            int32_t value = point_of(magnitude, quantiser, at, tables) & inside;
            bits[lane] += choices.bits[lane] & inside;
            less[lane] += (int64_t)value * (2 * targets[lane] - value);
            drifts[lane] = drift_after(drifts[lane], gain, at, quantiser, magnitude, tables);
        }
    }
    for (int64_t i = first; i < end; i++)
        forecasts[i] = (struct forecast){bits[i - first], less[i - first]};
}

EXPORT void semantic_foretell(const struct vectors *vectors, int64_t count, int64_t weight,
                              const struct magnitudes *tables, int64_t *memory, struct forecast *forecasts)
{
    for (int64_t first = 0; first < count; first += LANES) {
        int64_t end = least(first + LANES, count);
        struct lanes lanes =
            lanes_of(vectors->scales, vectors->width, vectors->steps + first, end - first, tables, memory);
        if (ALONE(end - first))
            foretell(vectors, first, end, &lanes, (int32_t)weight, tables, forecasts, 1);
        else
            foretell(vectors, first, end, &lanes, (int32_t)weight, tables, forecasts, LANES);
    }
}

/* `gains`: `width` of them. */
EXPORT int64_t semantic_decode(const uint8_t *data, const int64_t *ends, int64_t count, int64_t width,
                               const int64_t *scales, const int64_t *steps, const struct magnitudes *tables,
                               const struct machine *machine, int32_t *gains, int64_t *values)
{
    int64_t coded = 0;
    memset(values, 0, (size_t)(count * width) * sizeof *values);
    for (int64_t i = 0; i < count; i++) {
        if (i == 0 || steps[i] != steps[i - 1])
            coded = fill_gains(scales, steps[i], width, tables->information, gains);
        if (!read_stream(data, ends[i], ends[i + 1], scales, steps[i], gains, coded, tables, machine,
                         values + i * width))
            return i;
    }
    return -1;
}
