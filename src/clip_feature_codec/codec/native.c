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

/* Which of these registers the operating system keeps, by bits of XCR0 ("Intel 64 and IA-32 Architectures Software
   Developer's Manual", volume 1, 13.3): those of 256 bits, and those of 512 bits with their masks. */
#define WIDE_REGISTERS 0x06
#define WIDEST_REGISTERS 0xE6

static bool keeps(uint32_t registers)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & registers) == registers;
}
#endif

/* The microarchitecture level of this processor, 2 to 4, in the x86-64 psABI's numbers (its table 3.1 names what levels
   have); 0 for processors of another kind. */
EXPORT int64_t loops_level(void)
{
#ifdef __x86_64__
    uint32_t a, b, c, d, extended_b, extended_c;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !BIT(c, 27) || !keeps(WIDE_REGISTERS)) /* OSXSAVE */
        return 2;
    bool third = BIT(c, 12) & BIT(c, 22) & BIT(c, 28) & BIT(c, 29); /* FMA, MOVBE, AVX, F16C */
    if (!__get_cpuid_count(7, 0, &a, &extended_b, &c, &d) || !__get_cpuid(0x80000001, &a, &b, &extended_c, &d))
        return 2;
    third &= BIT(extended_b, 3) & BIT(extended_b, 5) & BIT(extended_b, 8); /* BMI1, AVX2, BMI2 */
    third &= BIT(extended_c, 5);                                           /* LZCNT */
    bool fourth = BIT(extended_b, 16) & BIT(extended_b, 17) & BIT(extended_b, 28); /* AVX-512 F, DQ, CD */
    fourth &= BIT(extended_b, 30) & BIT(extended_b, 31);                           /* AVX-512 BW, VL */
    return !third ? 2 : fourth && keeps(WIDEST_REGISTERS) ? 4 : 3;
#else
    return 0;
#endif
}
