/* SPDX-License-Identifier: Apache-2.0 */
#include "table.h"

#include <stdlib.h>
#include <string.h>

/* How many columns of a terminal the UTF-8 text takes, all characters being of one width. */
static size_t width(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += ((unsigned char)*text & 0xc0) != 0x80;
    return count;
}

void table_add(struct table *table, const char *word)
{
    if (table->count == table->capacity) {
        size_t capacity = table->capacity > 0 ? 2 * table->capacity : 64;
        char **words = reallocarray(table->words, capacity, sizeof(*words));
        if (words == NULL) {
            table->failed = true;
            return;
        }
        table->words = words;
        table->capacity = capacity;
    }
    char *copy = strdup(word);
    if (copy == NULL) {
        table->failed = true;
        return;
    }
    size_t column = table->count % table->columns;
    size_t wide = width(word);
    if (table->widths[column] < wide)
        table->widths[column] = wide;
    table->words[table->count++] = copy;
}

void table_add_number(struct table *table, unsigned long long number)
{
    char word[24];
    snprintf(word, sizeof(word), "%llu", number);
    table_add(table, word);
}

bool table_print(const struct table *table, FILE *file)
{
    for (size_t i = 0; i < table->count; i++) {
        const char *word = table->words[i];
        size_t column = i % table->columns;
        bool last = column + 1 == table->columns;
        int space = (int)(table->widths[column] - width(word));
        if ((table->right >> column & 1) != 0)
            fprintf(file, "%*s%s%s", space, "", word, last ? "\n" : "  ");
        else
            fprintf(file, "%s%*s%s", word, last ? 0 : space, "", last ? "\n" : "  ");
    }
    return !table->failed;
}

void table_deinit(struct table *table)
{
    for (size_t i = 0; i < table->count; i++)
        free(table->words[i]);
    free(table->words);
    *table = (struct table){.columns = table->columns, .right = table->right};
}
