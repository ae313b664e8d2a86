/* Dependent quantisation of a layout: the Viterbi search for symbols of little distortion + lambda * rate. See
   trellis.py for the method and for what the arguments are. */

#include "trellis.h"


#define HALF (LAYOUT_STATES / 2)
#define UNREACHED ((int64_t)1 << 50)
#define DIAGONALS 82 /* of a channel, at most */
#define RUNNING ((int64_t)(sizeof(struct running) / sizeof(int64_t)))

/* The sums of the best path's scores and of their information. */
struct sums {
    int64_t scores, information;
};

/* What the search remembers, for each of the coded coefficients.

   Only the best path is looked at by what comes; it is kept whole, and mended from where another one becomes the
   best.

   `coded`, `starts` (L): which coefficients they are; where their levels start.
   `choices` (L, 4): the magnitudes that are branched to, by 2 * quantiser + parity.
   `states`, `taken` (L): those of the best path, behind each coefficient; its branches.
   `scores` (L + 1): its scores, by coefficient. `before`: those of the channels before.
   `sums` (L + 1): of its scores, from the channel's first one on, before each coefficient.
   `firsts` (DIAGONALS): with which coefficient each of the channel's diagonals begins.
   `running` (DIAGONALS): its running means, before each of those.
   `ways` (L, HALF): by which of its two ways the best path to state 2 u (bit 0) and 2 u + 1 (bit 1) came: from
   state u, 0, or from u + HALF, 1. */
struct paths {
    int64_t *coded, *starts, *choices, *states, *taken, *scores, *before;
    struct sums *sums;
    int64_t *firsts;
    struct running *running;
    uint8_t *ways;
};

EXPORT int64_t layout_search_size(int64_t size)
{
    return 12 * size + 4 + DIAGONALS * (1 + RUNNING) + (HALF * size + 7) / 8;
}

static struct paths paths_in(int64_t *memory, int64_t size)
{
    struct paths paths;
    paths.coded = memory;
    paths.starts = paths.coded + size;
    paths.choices = paths.starts + size;
    paths.states = paths.choices + 4 * size;
    paths.taken = paths.states + size;
    paths.scores = paths.taken + size;
    paths.before = paths.scores + size + 1;
    paths.sums = (struct sums *)(paths.before + size + 1);
    paths.firsts = (int64_t *)(paths.sums + size + 1);
    paths.running = (struct running *)(paths.firsts + DIAGONALS);
    paths.ways = (uint8_t *)(paths.running + DIAGONALS);
    return paths;
}

/* One step of the Viterbi algorithm; returns the best state. */
INLINED int64_t advance(const int64_t *restrict costs, int64_t *restrict after, const int64_t *prices,
                        const struct machine *machine, uint8_t *restrict ways)
{
    for (int u = 0; u < HALF; u++) {
        int quantiser = machine->quantisers[u], parity = machine->parities[u];
        int64_t to_0 = prices[2 * quantiser + parity], to_1 = prices[2 * quantiser + 1 - parity];
        int64_t low = costs[u], high = costs[u + HALF];
        int64_t low_0 = low + to_0, high_0 = high + to_1, low_1 = low + to_1, high_1 = high + to_0;
        ways[u] = (uint8_t)((high_0 < low_0) | (high_1 < low_1) << 1);
        after[2 * u] = least(low_0, high_0);
        after[2 * u + 1] = least(low_1, high_1);
    }
    int64_t best = 0;
    for (int state = 1; state < LAYOUT_STATES; state++)
        best = after[state] < after[best] ? state : best;
    return best;
}

/* Make the path that ends in state `best` behind coefficient j the one that is kept, from `begin` on. Returns the
   first coefficient at which it is another one, of those that are coded. */
INLINED int64_t mend(int64_t j, int64_t begin, int64_t best, const struct paths *paths,
                     const struct machine *machine, const struct magnitudes *tables)
{
    int64_t state = best, first = j;
    for (;;) {
        int64_t u = state >> 1, newest = state & 1;
        int64_t way = paths->ways[first * HALF + u] >> newest & 1;
        paths->states[first] = state;
        paths->taken[first] = 2 * machine->quantisers[u] + (newest ^ machine->parities[u] ^ way);
        state = u + way * HALF;
        if (first == begin || paths->states[first - 1] == state)
            break;
        first--;
    }
    for (int64_t k = first; k <= j; k++) {
        int64_t i = paths->coded[k], branch = paths->taken[k];
        struct score left = score_of(paths->starts[i], paths->choices[4 * k + branch], (int)(branch >> 1), tables);
        paths->scores[i] = left.score;
        paths->sums[k + 1].scores = paths->sums[k].scores + left.score;
        paths->sums[k + 1].information = paths->sums[k].information + left.information;
    }
    return first;
}

/* The running means on entering a diagonal, 1 or more, from those of the one before and what it added. */
INLINED void enter(int64_t diagonal, const struct paths *paths)
{
    struct running running = paths->running[diagonal - 1];
    const struct sums *begin = paths->sums + paths->firsts[diagonal - 1];
    const struct sums *end = paths->sums + paths->firsts[diagonal];
    running.diagonal = end->scores - begin->scores;
    running.diagonal_information = end->information - begin->information;
    fold(&running);
    paths->running[diagonal] = running;
}

/* Where the search is: the channel's first coefficient, its diagonal, and the best state so far. */
struct position {
    int64_t begin, diagonal, best;
};

/* Go on to coefficient j. In a new channel only the best path goes on, without running means. */
INLINED void turn(int64_t j, struct position *here, int64_t *costs, const struct paths *paths,
                  const struct geometry *geometry)
{
    int64_t i = paths->coded[j], last = j > 0 ? paths->coded[j - 1] : -1;
    if (j == 0 || geometry->channels[i] != geometry->channels[last]) {
        memcpy(paths->before, paths->scores, (size_t)(geometry->size + 1) * sizeof *paths->scores);
        for (int state = 0; state < LAYOUT_STATES; state++)
            costs[state] = state == here->best ? costs[state] : UNREACHED;
        paths->firsts[0] = j;
        paths->running[0] = (struct running){0};
        paths->sums[j] = (struct sums){0, 0};
        here->begin = j;
        here->diagonal = 0;
    } else if (geometry->diagonals[i] != geometry->diagonals[last]) {
        paths->firsts[++here->diagonal] = j;
        enter(here->diagonal, paths);
    }
}

/* Fill in the symbols of the best path and their quantisers. */
static void take(const int64_t *targets, int64_t size, int64_t count, const struct paths *paths,
                 int64_t *symbols, int64_t *quantisers)
{
    memset(symbols, 0, (size_t)size * sizeof *symbols);
    for (int64_t j = 0; j < count; j++) {
        int64_t i = paths->coded[j], branch = paths->taken[j];
        int64_t magnitude = paths->choices[4 * j + branch];
        symbols[i] = targets[i] >= 0 ? magnitude : -magnitude;
        quantisers[i] = branch >> 1;
    }
}

EXPORT void layout_quantise(const int64_t *targets, int64_t step, int64_t weight,
                            const struct layout_tables *tables, const struct geometry *geometry,
                            const struct machine *machine, int64_t *memory, int64_t *symbols,
                            int64_t *quantisers)
{
    struct paths paths = paths_in(memory, geometry->size);
    int64_t count = select_coded(tables->scales, geometry->size, step, paths.coded, paths.starts);
    memset(paths.scores, 0, (size_t)(geometry->size + 1) * sizeof *paths.scores);
    int64_t costs[2][LAYOUT_STATES] = {{0}};
    struct position here = {0, 0, 0};
    for (int64_t j = 0; j < count; j++) {
        int64_t i = paths.coded[j], features[FEATURES];
        int64_t *before = costs[j & 1], *after = costs[~j & 1];
        turn(j, &here, before, &paths, geometry);
        look(i, geometry, paths.scores, paths.before, paths.running + here.diagonal, features);
        struct address at = address_in(i, paths.starts[i], tables, geometry, features);
        struct branches branches = branches_of(absolute(targets[i]), at, weight, &tables->magnitudes);
        memcpy(paths.choices + 4 * j, branches.magnitudes, sizeof branches.magnitudes);
        here.best = advance(before, after, branches.prices, machine, paths.ways + j * HALF);
        int64_t first = mend(j, here.begin, here.best, &paths, machine, &tables->magnitudes);
        int64_t stale = here.diagonal;
        while (paths.firsts[stale] > first)
            stale--;
        for (stale++; stale <= here.diagonal; stale++)
            enter(stale, &paths);
    }
    take(targets, geometry->size, count, &paths, symbols, quantisers);
}
