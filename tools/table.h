/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TOOLS_TABLE_H
#define TOOLS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { TABLE_COLUMNS_MAX = 12 };

/*
 * Rows of words in columns that are as wide as their widest word. Start from {.columns = n}, with a
 * bit of right set for each column that is aligned to the right; end with table_deinit().
 */
struct table {
    size_t columns;
    unsigned right;
    size_t widths[TABLE_COLUMNS_MAX];
    char **words; /* row by row */
    size_t count;
    size_t capacity;
    bool failed;
};

/* Adds one word, copied, to the row that is not full yet; a failure is kept for table_print(). */
void table_add(struct table *table, const char *word);
void table_add_number(struct table *table, unsigned long long number);

/* Prints all rows; false if memory ran out meanwhile. */
bool table_print(const struct table *table, FILE *file);

void table_deinit(struct table *table);

#endif
