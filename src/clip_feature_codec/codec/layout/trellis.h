/* Dependent quantisation of a layout. See trellis.py. */

#ifndef LAYOUT_TRELLIS_H
#define LAYOUT_TRELLIS_H

#define LAYOUT_STATES 8

#endif
