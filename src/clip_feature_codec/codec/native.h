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

/* The quotient rounded down, by a divisor above 0. */
INLINED int64_t floor_divided(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

#endif
