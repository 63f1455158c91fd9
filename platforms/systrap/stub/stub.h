/* What the C sources of the stub share. */
#include "layout.h"

typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

#define SLOT32(slot, off) (*(volatile u32 *)((slot) + (off)))
#define SLOT64(slot, off) (*(volatile u64 *)((slot) + (off)))
#define HEAD64(off) (*(volatile u64 *)(STUB_BASE + HEADER + (off)))

/* General registers in a signal frame. */
enum { G_R8, G_R9, G_R10, G_RDI = 8, G_RSI, G_RDX = 12, G_RAX, G_RCX, G_RSP, G_RIP, G_EFL, G_SEGMENTS, GREGS = 23 };

/* A host call with six arguments (entry.S): nr and those, in a row. */
extern i64 stub_op(const volatile u64 *op);
