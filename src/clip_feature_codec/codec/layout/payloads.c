/* Layout symbols to an arithmetic-coded stream and back. See payloads.py for what the arguments are. */

#include "trellis.h"

#define STEP_BITS 13 /* the sizes of steps are in 2^-13 of 1/64 */

/* What writers and readers keep track of. */
struct walk {
    int64_t *coded, *starts, *scores, *before, count, state, last;
    struct running running;
};

/* int64s of memory that a walk takes. */
EXPORT int64_t layout_walk_size(int64_t size)
{
    return 4 * size + 2;
}

static struct walk begin_walk(int64_t step, const struct layout_tables *tables, const struct geometry *geometry,
                              int64_t *memory)
{
    int64_t size = geometry->size;
    struct walk walk = {.coded = memory, .starts = memory + size, .last = -1};
    walk.scores = memory + 2 * size;
    walk.before = walk.scores + size + 1;
    memset(walk.scores, 0, (size_t)(2 * size + 2) * sizeof *memory);
    walk.count = select_coded(tables->scales, size, step, walk.coded, walk.starts);
    return walk;
}

/* Go on to coefficient i. On a new diagonal the one at hand goes into the means; in a new channel they begin
   again. */
INLINED void turn(struct walk *walk, int64_t i, const struct geometry *geometry)
{
    int64_t last = walk->last;
    walk->last = i;
    if (last < 0)
        return;
    if (geometry->channels[i] != geometry->channels[last]) {
        walk->running = (struct running){0};
        memcpy(walk->before, walk->scores, (size_t)(geometry->size + 1) * sizeof *walk->scores);
    } else if (geometry->diagonals[i] != geometry->diagonals[last]) {
        fold(&walk->running);
    }
}

/* Leave the score of coefficient i to those behind it, and move the machine on. */
INLINED void leave(struct walk *walk, int64_t i, int64_t symbol, int quantiser, const struct layout_tables *tables,
                   const struct machine *machine)
{
    struct score left = score_of(walk->starts[i], absolute(symbol), quantiser, &tables->magnitudes);
    walk->scores[i] = left.score;
    walk->running.diagonal += left.score;
    walk->running.diagonal_information += left.information;
    walk->state = following(walk->state, symbol, machine, LAYOUT_STATES);
}

EXPORT int64_t layout_write(const int64_t *symbols, int64_t step, const struct layout_tables *tables,
                            const struct geometry *geometry, const struct machine *machine, int64_t *memory,
                            uint8_t *buffer, int64_t *values)
{
    struct walk walk = begin_walk(step, tables, geometry, memory);
    struct coder coder = writer();
    memset(values, 0, (size_t)geometry->size * sizeof *values);
    for (int64_t j = 0; j < walk.count; j++) {
        int64_t i = walk.coded[j], features[FEATURES];
        turn(&walk, i, geometry);
        look(i, geometry, walk.scores, walk.before, &walk.running, features);
        struct address at = address_in(i, walk.starts[i], tables, geometry, features);
        int quantiser = machine->quantisers[walk.state];
        const int32_t *starts = starts_at(&tables->magnitudes, at.row, quantiser);
        put_magnitude(&coder, symbols[i], at.shift, starts, buffer);
        values[i] = point_of(symbols[i], quantiser, at, &tables->magnitudes);
        leave(&walk, i, symbols[i], quantiser, tables, machine);
    }
    return flush(&coder, buffer);
}

EXPORT bool layout_read(const uint8_t *data, int64_t end, int64_t step, const struct layout_tables *tables,
                        const struct geometry *geometry, const struct machine *machine, int64_t *memory,
                        int64_t *values)
{
    struct walk walk = begin_walk(step, tables, geometry, memory);
    struct coder coder = reader(data, 0, end);
    memset(values, 0, (size_t)geometry->size * sizeof *values);
    for (int64_t j = 0; j < walk.count; j++) {
        int64_t i = walk.coded[j], features[FEATURES];
        turn(&walk, i, geometry);
        look(i, geometry, walk.scores, walk.before, &walk.running, features);
        struct address at = address_in(i, walk.starts[i], tables, geometry, features);
        int quantiser = machine->quantisers[walk.state];
        const int32_t *starts = starts_at(&tables->magnitudes, at.row, quantiser);
        int64_t symbol = take_magnitude(&coder, at.shift, starts, data, end);
        if (absolute(symbol) >= MAX_SYMBOL)
            return false;
        values[i] = point_of(symbol, quantiser, at, &tables->magnitudes);
        leave(&walk, i, symbol, quantiser, tables, machine);
    }
    return complete(&coder, data, 0, end);
}

/* Each coded coefficient, where its level starts, its quantiser, shift and row: `places` (L, 5), and what it can
   know: `features` (L, FEATURES). Returns how many are coded. */
EXPORT int64_t layout_addresses(const int64_t *symbols, int64_t step, const struct layout_tables *tables,
                                const struct geometry *geometry, const struct machine *machine, int64_t *memory,
                                int64_t *places, int64_t *features)
{
    struct walk walk = begin_walk(step, tables, geometry, memory);
    for (int64_t j = 0; j < walk.count; j++) {
        int64_t i = walk.coded[j];
        turn(&walk, i, geometry);
        look(i, geometry, walk.scores, walk.before, &walk.running, features + j * FEATURES);
        struct address at = address_in(i, walk.starts[i], tables, geometry, features + j * FEATURES);
        int quantiser = machine->quantisers[walk.state];
        int64_t place[5] = {i, walk.starts[i], quantiser, at.shift, at.row};
        memcpy(places + 5 * j, place, sizeof place);
        leave(&walk, i, symbols[i], quantiser, tables, machine);
    }
    return walk.count;
}

/* The coefficients `row` in 2^-FRACTION of a step, whose size is in 2^-STEP_BITS. Quotients of integers below 2^53
   are rounded down rightly, since what they are short of the next integer is more than what division may round off. */
static void in_steps(const int64_t *row, int64_t size, int64_t step_size, int64_t *targets)
{
    double divisor = (double)step_size;
    for (int64_t i = 0; i < size; i++) {
        int64_t scaled = (absolute(row[i]) << (FRACTION + STEP_BITS)) + step_size / 2;
        int64_t magnitude = (int64_t)((double)scaled / divisor);
        targets[i] = row[i] < 0 ? -magnitude : magnitude;
    }
}

/* Squared error of `values`, in 2^-FRACTION of a step, as the decoder rounds them. */
static int64_t squared_error(const int64_t *row, const int64_t *values, int64_t size, int64_t step_size)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < size; i++) {
        int64_t decoded = (values[i] * step_size + ((int64_t)1 << (FRACTION + STEP_BITS - 1))) >> (FRACTION + STEP_BITS);
        sum += (row[i] - decoded) * (row[i] - decoded);
    }
    return sum;
}

EXPORT int64_t layout_code_size(int64_t size)
{
    return 4 * size + greatest(layout_search_size(size), layout_walk_size(size));
}

EXPORT void layout_code(const int64_t *rows, int64_t count, const int64_t *steps, const int64_t *step_sizes,
                        const int64_t *weights, const struct layout_tables *tables,
                        const struct geometry *geometry, const struct machine *machine, int64_t *memory,
                        uint8_t *out, int64_t room, int64_t *lengths, int64_t *errors)
{
    int64_t size = geometry->size;
    int64_t *targets = memory, *symbols = targets + size, *quantisers = symbols + size, *values = quantisers + size;
    int64_t *work = values + size;
    for (int64_t k = 0; k < count; k++) {
        in_steps(rows + k * size, size, step_sizes[k], targets);
        layout_quantise(targets, steps[k], weights[k], tables, geometry, machine, work, symbols, quantisers);
        lengths[k] = layout_write(symbols, steps[k], tables, geometry, machine, work, out + k * room, values);
        errors[k] = squared_error(rows + k * size, values, size, step_sizes[k]);
    }
}

/* How many 1/256 bits a layout takes about, at a step: each coefficient takes what is cheapest for it. */
static int64_t foretold(const int64_t *targets, int64_t step, int64_t weight, const struct layout_tables *tables,
                        const struct geometry *geometry, const struct machine *machine, int64_t *memory)
{
    struct walk walk = begin_walk(step, tables, geometry, memory);
    int64_t bits = 0;
    for (int64_t j = 0; j < walk.count; j++) {
        int64_t i = walk.coded[j], features[FEATURES];
        turn(&walk, i, geometry);
        look(i, geometry, walk.scores, walk.before, &walk.running, features);
        struct address at = address_in(i, walk.starts[i], tables, geometry, features);
        struct choice best = cheapest(absolute(targets[i]), at, weight, &tables->magnitudes);
        bits += best.bits;
        leave(&walk, i, best.magnitude, best.quantiser, tables, machine);
    }
    return bits;
}

EXPORT void layout_foretell(const int64_t *rows, int64_t count, const int64_t *steps, const int64_t *step_sizes,
                            int64_t weight, const struct layout_tables *tables, const struct geometry *geometry,
                            const struct machine *machine, int64_t *memory, int64_t *bits)
{
    int64_t size = geometry->size;
    for (int64_t k = 0; k < count; k++) {
        in_steps(rows + k * size, size, step_sizes[k], memory);
        bits[k] = foretold(memory, steps[k], weight, tables, geometry, machine, memory + size);
    }
}
