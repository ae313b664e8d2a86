/* Layout symbols to an arithmetic-coded stream and back. See payloads.py for what the arguments are. */

#include "trellis.h"

#define STEP_BITS 13 /* the sizes of steps are in 2^-13 of 1/64 */

/* What readers keep track of: scores, by coefficient; the diagonal; the state of the machine; and the running means. */
struct walk {
    int32_t *scores, diagonal, state;
    struct running running;
};

/* int32s of memory that a walk takes. */
EXPORT int64_t layout_walk_size(int64_t size)
{
    return size + 1;
}

static struct walk begin_walk(int64_t size, int32_t *memory)
{
    memset(memory, 0, (size_t)(size + 1) * sizeof *memory);
    return (struct walk){.scores = memory, .diagonal = NOWHERE};
}

/* Go on to coefficient i. On a new diagonal the one at hand goes into the means; in a new channel they begin
   again. */
INLINED void turn(struct walk *walk, int64_t i, const struct geometry *geometry)
{
    int32_t last = walk->diagonal;
    walk->diagonal = diagonal_of(i, geometry);
    if (last == walk->diagonal || last == NOWHERE)
        return;
    if (last >> DIAGONAL_BITS != walk->diagonal >> DIAGONAL_BITS)
        walk->running = (struct running){0};
    else
        fold(&walk->running);
}

/* Leave the score of coefficient i to those behind it, and move the machine on. */
INLINED void leave(struct walk *walk, int64_t i, int32_t start, int32_t symbol, int quantiser,
                   const struct magnitudes *tables, const struct machine *machine)
{
    struct address at = scored_at(start);
    walk->scores[i] = score_of(at, absolute_32(symbol), quantiser, tables);
    walk->running.diagonal += walk->scores[i];
    walk->running.diagonal_information += tables->information[at.row];
    walk->state = following(walk->state, symbol, machine, LAYOUT_STATES);
}

EXPORT bool layout_read(const uint8_t *data, int64_t end, int64_t step, const struct layout_tables *tables,
                        const struct geometry *geometry, const struct machine *machine, int32_t *memory,
                        int64_t *values)
{
    struct walk walk = begin_walk(geometry->size, memory);
    struct coder coder = reader(data, 0, end);
    memset(values, 0, (size_t)geometry->size * sizeof *values);
    for (int64_t i = 0; i < geometry->size; i++) {
        int32_t start = start_of(i, step, tables), features[FEATURES];
        if (start < LOWEST)
            continue;
        turn(&walk, i, geometry);
        look(i, geometry, walk.scores, 1, walk.running.recent_mean, walk.running.all_mean, features);
        struct address at = address_in(i, start, tables, geometry, features);
        int quantiser = machine->quantisers[walk.state];
        int64_t symbol =
            take_magnitude(&coder, at.shift, starts_at(&tables->magnitudes, at.row, quantiser), data, end);
        if (absolute(symbol) >= MAX_SYMBOL)
            return false;
        values[i] = point_of((int32_t)symbol, quantiser, at, &tables->magnitudes);
        leave(&walk, i, start, (int32_t)symbol, quantiser, &tables->magnitudes, machine);
    }
    return complete(&coder, data, 0, end);
}

/* Each coded coefficient, where its level starts, its quantiser, shift and row: `places` (L, 5), and what it can
   know: `features` (L, FEATURES). Returns how many are coded. */
EXPORT int64_t layout_addresses(const int64_t *symbols, int64_t step, const struct layout_tables *tables,
                                const struct geometry *geometry, const struct machine *machine, int32_t *memory,
                                int64_t *places, int64_t *features)
{
    struct walk walk = begin_walk(geometry->size, memory);
    int64_t count = 0;
    for (int64_t i = 0; i < geometry->size; i++) {
        int32_t start = start_of(i, step, tables), known[FEATURES];
        if (start < LOWEST)
            continue;
        turn(&walk, i, geometry);
        look(i, geometry, walk.scores, 1, walk.running.recent_mean, walk.running.all_mean, known);
        struct address at = address_in(i, start, tables, geometry, known);
        int quantiser = machine->quantisers[walk.state];
        int64_t place[5] = {i, start, quantiser, at.shift, at.row};
        memcpy(places + 5 * count, place, sizeof place);
        for (int k = 0; k < FEATURES; k++)
            features[FEATURES * count + k] = known[k];
        leave(&walk, i, start, (int32_t)symbols[i], quantiser, &tables->magnitudes, machine);
        count++;
    }
    return count;
}

/* What those keep track of that write layouts side by side: as `walk`, without a machine. */
struct walks {
    int32_t (*scores)[LANES];
    struct running running[LANES];
    int32_t diagonals[LANES], recent_means[LANES], all_means[LANES], sums[LANES];
    int64_t informations[LANES];
};

/* Where a coefficient is coded, in lanes that are `inside`: all ones, or 0. */
struct places {
    int32_t inside[LANES], starts[LANES], rows[LANES], shifts[LANES];
};

static struct walks *begin_walks(const struct layouts *layouts)
{
    struct walks *walks = (struct walks *)layouts->memory;
    int64_t size = layouts->geometry->size;
    memset(walks, 0, sizeof *walks);
    walks->scores = lines_in((int64_t *)(walks + 1));
    memset(walks->scores, 0, (size_t)(size + 1) * sizeof *walks->scores);
    for (int lane = 0; lane < LANES; lane++)
        walks->diagonals[lane] = NOWHERE;
    return walks;
}

/* `turn` in a lane. */
static void turn_lane(struct walks *walks, int32_t diagonal, int lane)
{
    struct running *running = walks->running + lane;
    int32_t last = walks->diagonals[lane];
    if (last == NOWHERE)
        return;
    if (last >> DIAGONAL_BITS != diagonal >> DIAGONAL_BITS) {
        *running = (struct running){0};
    } else {
        running->diagonal = walks->sums[lane];
        running->diagonal_information = walks->informations[lane];
        fold(running);
    }
    walks->sums[lane] = 0;
    walks->informations[lane] = 0;
    walks->recent_means[lane] = running->recent_mean;
    walks->all_means[lane] = running->all_mean;
}

/* Go on to coefficient i; false where no lane codes it. */
INLINED bool go_on(struct walks *walks, int64_t i, const struct layouts *layouts, struct places *restrict places,
                   const int wide)
{
    int32_t diagonal = diagonal_of(i, layouts->geometry), turning = 0;
    if (start_of(i, layouts->finest, layouts->tables) < LOWEST)
        return false;
    EACH_LANE(lane) {
        places->starts[lane] = start_of(i, layouts->steps[lane], layouts->tables);
        places->inside[lane] = -(places->starts[lane] >= LOWEST);
        turning |= places->inside[lane] & (walks->diagonals[lane] ^ diagonal);
    }
    for (int lane = 0; turning && lane < wide; lane++)
        if (places->inside[lane] && walks->diagonals[lane] != diagonal) {
            turn_lane(walks, diagonal, lane);
            walks->diagonals[lane] = diagonal;
        }
    EACH_LANE(lane) {
        int32_t features[FEATURES];
        look(i, layouts->geometry, *walks->scores + lane, LANES, walks->recent_means[lane], walks->all_means[lane],
             features);
        struct address at = address_in(i, places->starts[lane], layouts->tables, layouts->geometry, features);
        places->rows[lane] = at.row;
        places->shifts[lane] = at.shift;
    }
    return true;
}

/* `leave` in lanes. */
INLINED void leave_all(struct walks *walks, int64_t i, const struct places *restrict places,
                       const int32_t *restrict magnitudes, const int32_t *restrict quantisers,
                       const struct magnitudes *tables, const int wide)
{
    int32_t scores[LANES], information[LANES];
    EACH_LANE(lane) {
        struct address at = scored_at(greatest_32(places->starts[lane], FAR_BELOW));
        scores[lane] = score_of(at, magnitudes[lane], quantisers[lane], tables) & places->inside[lane];
        information[lane] = tables->information[at.row] & places->inside[lane];
    }
    copy_lanes(walks->scores[i], scores);
    EACH_LANE(lane)
        walks->sums[lane] += scores[lane];
    EACH_LANE(lane)
        walks->informations[lane] += information[lane];
}

/* How a symbol is coded: where its table begins among the starts, and how many of its low bits are coded apart. */
#define PLACE(row, shift, quantiser) ((2 * (row) + (quantiser)) * (SYMBOLS + 1) << 4 | (shift))

/* Say how the symbols of layouts are coded, in place of their quantisers, NOWHERE where they are not; and what they will
   be decoded to, in 2^-FRACTION of each step, in place of the targets. */
INLINED void place_in(struct layouts *layouts, const int wide)
{
    const struct magnitudes *tables = &layouts->tables->magnitudes;
    struct walks *walks = begin_walks(layouts);
    for (int64_t i = 0; i < layouts->geometry->size; i++) {
        const int32_t *symbols = layouts->symbols[i], *quantisers = layouts->quantisers[i];
        struct places places;
        int32_t magnitudes[LANES], values[LANES] = {0}, found[LANES];
        if (!go_on(walks, i, layouts, &places, wide)) {
            EACH_LANE(lane)
                found[lane] = NOWHERE;
        } else {
            EACH_LANE(lane) {
                struct address at = {places.rows[lane], places.shifts[lane]};
                int32_t place = PLACE(at.row, at.shift, quantisers[lane]);
                magnitudes[lane] = absolute_32(symbols[lane]);
                values[lane] = point_of(symbols[lane], quantisers[lane], at, tables);
                found[lane] = choose(NOWHERE, place, places.inside[lane]);
            }
            leave_all(walks, i, &places, magnitudes, quantisers, tables, wide);
        }
        copy_lanes(layouts->quantisers[i], found);
        copy_lanes(layouts->targets[i], values);
    }
}

static void place_symbols(struct layouts *layouts, int64_t count)
{
    if (ALONE(count))
        place_in(layouts, 1);
    else
        place_in(layouts, LANES);
}

/* Code the symbols of a lane, most of which are 0; returns the number of bytes in `buffer`. */
static int64_t write_stream(const struct layouts *layouts, int lane, uint8_t *buffer)
{
    const int32_t *starts = layouts->tables->magnitudes.starts;
    struct coder coder = writer();
    for (int64_t i = 0; i < layouts->geometry->size; i++) {
        int32_t place = layouts->quantisers[i][lane], shift = place & 15, symbol = layouts->symbols[i][lane];
        if (place == NOWHERE)
            continue;
        if ((shift | symbol) == 0)
            push(&coder, 0, starts[(place >> 4) + 1], buffer);
        else
            put_magnitude(&coder, symbol, shift, starts + (place >> 4), buffer);
    }
    return flush(&coder, buffer);
}

#define GREATEST_TARGET 536870912.0 /* far beyond the greatest magnitude that there is */

/* The coefficients `row` in 2^-FRACTION of a step, whose size is in 2^-STEP_BITS, where more than 0 is looked for.
   Quotients of integers below 2^53 are rounded down rightly, since what they are short of the next integer is more than
   what division may round off. */
static void fill_targets(const int64_t *row, int64_t step_size, int lane, struct layouts *layouts)
{
    const struct geometry *geometry = layouts->geometry;
    double divisor = (double)step_size, half = (double)(step_size / 2);
    for (int64_t begin = 0, end; begin < geometry->size; begin = end) {
        end = end_of_channel(begin, geometry);
        for (int64_t i = begin; i < least(end, layouts->ends[geometry->channels[begin]][lane]); i++) {
            double scaled = (double)((int64_t)1 << (FRACTION + STEP_BITS)) * (double)(int32_t)absolute(row[i]) + half;
            double magnitude = scaled / divisor;
            int32_t target = (int32_t)(magnitude < GREATEST_TARGET ? magnitude : GREATEST_TARGET);
            layouts->targets[i][lane] = row[i] < 0 ? -target : target;
        }
    }
}

/* What becomes of a layout: its squared error, as decoders round it; and behind the last coefficient of each channel that
   is not 0. */
struct outcome {
    int64_t error, ends[CHANNELS];
};

static struct outcome outcome_of(const int64_t *row, int64_t step_size, int lane, const struct layouts *layouts)
{
    const struct geometry *geometry = layouts->geometry;
    int64_t half = (int64_t)1 << (FRACTION + STEP_BITS - 1);
    struct outcome outcome = {0};
    for (int64_t begin = 0, end; begin < geometry->size; begin = end) {
        int64_t channel = geometry->channels[begin], last = layouts->ends[channel][lane];
        end = end_of_channel(begin, geometry);
        last = greatest(least(last, end), begin);
        while (last > begin && layouts->symbols[last - 1][lane] == 0)
            last--;
        outcome.ends[channel] = last;
        for (int64_t i = begin; i < last; i++) {
            int64_t decoded = (layouts->targets[i][lane] * step_size + half) >> (FRACTION + STEP_BITS);
            outcome.error += (row[i] - decoded) * (row[i] - decoded);
        }
        for (int64_t i = last; i < end; i++)
            outcome.error += row[i] * row[i];
    }
    return outcome;
}

EXPORT int64_t layout_code_size(int64_t size)
{
    return layouts_size(size) + LINE / 8 + (int64_t)(sizeof(struct walks) / sizeof(int64_t));
}

/* Layouts, some of which are coded: `rows` (count, L); their steps, as bytes and in 2^-STEP_BITS; and from which
   coefficients of each channel on nothing but 0 is looked for, `ends` (count, CHANNELS). */
struct given {
    const int64_t *rows, *steps, *step_sizes, *ends;
};

EXPORT void layout_code(const struct given *given, int64_t count, const int64_t *weights,
                        const struct layout_tables *tables, const struct geometry *geometry,
                        const struct machine *machine, int64_t *memory, uint8_t *out, int64_t room, int64_t *lengths,
                        struct outcome *outcomes)
{
    int64_t size = geometry->size;
    for (int64_t first = 0; first < count; first += LANES) {
        int64_t end = least(first + LANES, count);
        struct layouts layouts = layouts_in(memory, tables, geometry);
        for (int64_t k = first; k < end; k++) {
            add_layout(&layouts, (int)(k - first), given->steps[k], weights[k], given->ends + CHANNELS * k);
            fill_targets(given->rows + k * size, given->step_sizes[k], (int)(k - first), &layouts);
        }
        search_layouts(&layouts, (int)(end - first), machine);
        place_symbols(&layouts, end - first);
        for (int64_t k = first; k < end; k++) {
            int lane = (int)(k - first);
            lengths[k] = write_stream(&layouts, lane, out + k * room);
            outcomes[k] = outcome_of(given->rows + k * size, given->step_sizes[k], lane, &layouts);
        }
    }
}
