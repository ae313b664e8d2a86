/* What the library says of itself, and of the processor. See native.py. */

#include "native.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif

/* SHA-256 of the sources, from hatch_build.py. */
EXPORT const char *loops_sources(void)
{
    return SOURCES;
}

#ifdef __x86_64__
#define BIT(word, bit) ((word) >> (bit) & 1)

/* Whether the operating system keeps what registers of 256 bits hold: bits 1 and 2 of XCR0 ("Intel 64 and IA-32
   Architectures Software Developer's Manual", volume 1, 13.3). */
static bool keeps_wide_registers(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6;
}
#endif

/* The microarchitecture level of this processor, 3 or less, in the x86-64 psABI's numbers (its table 3.1 names what
   level 3 has); 0 for processors of another kind. */
EXPORT int64_t loops_level(void)
{
#ifdef __x86_64__
    uint32_t a, b, c, d, extended_b, extended_c;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !BIT(c, 27) || !keeps_wide_registers()) /* OSXSAVE */
        return 2;
    bool found = BIT(c, 12) & BIT(c, 22) & BIT(c, 28) & BIT(c, 29); /* FMA, MOVBE, AVX, F16C */
    if (!__get_cpuid_count(7, 0, &a, &extended_b, &c, &d) || !__get_cpuid(0x80000001, &a, &b, &extended_c, &d))
        return 2;
    found &= BIT(extended_b, 3) & BIT(extended_b, 5) & BIT(extended_b, 8); /* BMI1, AVX2, BMI2 */
    return found & BIT(extended_c, 5) ? 3 : 2;                             /* LZCNT */
#else
    return 0;
#endif
}
