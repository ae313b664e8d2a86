/* What all C files of the codec share.

   The loops of the codec in C, each beside the Python module of its name, which says what its arguments are and
   checks them. All of it is integer arithmetic: what is coded is the same on every machine and with every
   compiler. Nothing here keeps state or asks for memory, so threads need not wait for each other.

   Arrays that come from Python are trusted to have the shapes that its docstrings give. The bytes of a stream are
   not: whatever they are, nothing outside of an array is touched, and a reader says whether they were whole. */

#ifndef NATIVE_H
#define NATIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* Vectors or pictures that are worked on side by side, one in each lane of a register: compilers make one
   instruction of a loop over the lanes of arrays that have them as their last axis. What is found for one does not
   depend on those beside it. It is a power of two; pages, which code one at a time, have the least one, 2
   (recipes/web/make_loops.py). */
#ifndef LANES
#define LANES 8
#endif

/* Whether one lane is in use. Pages are compiled for nothing else, and half as large. */
#ifndef ALONE
#define ALONE(count) ((count) == 1)
#endif

/* A loop over the lanes that are in use: `wide` of them, which is 1 or LANES and known where functions are inlined, so
   that one picture alone costs no more than it has to. (Unrolled before they are vectorised, loops are no longer seen
   for what they are.) */
#define EACH_LANE(lane) _Pragma("GCC unroll 1") for (int lane = 0; lane < wide; lane++)

#define LINE 64 /* bytes that a processor reads together, where memory for lanes should begin */

/* For what is done once a coefficient: a call would cost as much as the work. */
#define INLINED static inline __attribute__((always_inline))

INLINED int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

INLINED int64_t greatest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

INLINED int32_t least_32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

INLINED int32_t greatest_32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* Of two numbers the second where `mask` is all ones, the first where it is 0. */
INLINED int32_t choose(int32_t first, int32_t second, int32_t mask)
{
    return first ^ ((first ^ second) & mask);
}

INLINED int64_t absolute(int64_t a)
{
    return a < 0 ? -a : a;
}

INLINED int32_t absolute_32(int32_t a)
{
    return a < 0 ? -a : a;
}

/* All lanes of a row in one register. Compilers move memory in smaller pieces by themselves, and what is read in one
   piece soon afterwards would have to wait for all of them. */
typedef int32_t row_of_lanes __attribute__((vector_size(sizeof(int32_t[LANES])), aligned(4), may_alias));

INLINED void copy_lanes(int32_t *to, const int32_t *from)
{
    *(row_of_lanes *)to = *(const row_of_lanes *)from;
}

/* Memory from the first line on; LINE / 8 int64s more than what is used of it. */
INLINED int32_t (*lines_in(int64_t *memory))[LANES]
{
    return (int32_t (*)[LANES])(((uintptr_t)memory + LINE - 1) / LINE * LINE);
}

/* The quotient rounded down, by a divisor above 0. */
INLINED int64_t floor_divided(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

#endif
