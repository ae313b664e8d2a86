/* The machine that says which quantiser codes the next coefficient, as a shift register. See machine.py. */

#ifndef MACHINE_H
#define MACHINE_H

#include "../native.h"

/* `Machine` of machine.py: an int32 a state, of a power of two of them. */
struct machine {
    const int32_t *quantisers, *parities;
};

/* The state, of `states` many, after a magnitude or symbol. */
INLINED int32_t following(int32_t state, int32_t magnitude, const struct machine *machine, int32_t states)
{
    int32_t newest = (magnitude & 1) ^ machine->parities[state];
    return (2 * state | newest) & (states - 1);
}

#endif
