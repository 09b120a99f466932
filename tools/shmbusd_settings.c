/* SPDX-License-Identifier: Apache-2.0 */
#include "shmbusd_settings.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ini.h>
#include <shmbus/version.h>

#include "common_parse.h"

/* Each setter returns NULL, or what is wrong with the value. */

static const char *set_queue_len(struct settings *settings, const char *value)
{
    return parse_queue_len(value, &settings->options.queue_len);
}

static const char *set_full(struct settings *settings, const char *value)
{
    return parse_full(value, &settings->options.full);
}

static const char *set_text(char *text, size_t size, const char *value)
{
    size_t len = strlen(value);
    if (len == 0 || len >= size)
        return len == 0 ? "it must not be empty" : "it is too long";
    memcpy(text, value, len + 1);
    return NULL;
}

static const char *set_s_wild(struct settings *settings, const char *value)
{
    settings->options.s_wild = settings->s_wild;
    return set_text(settings->s_wild, sizeof(settings->s_wild), value);
}

static const char *set_m_wild(struct settings *settings, const char *value)
{
    settings->options.m_wild = settings->m_wild;
    return set_text(settings->m_wild, sizeof(settings->m_wild), value);
}

static const char *set_mode(struct settings *settings, const char *value)
{
    if (value[0] == '\0' || strlen(value) > 4 || value[strspn(value, "01234567")] != '\0')
        return "permission bits in octal, such as 0660, are wanted";
    unsigned long mode = strtoul(value, NULL, 8);
    if (mode > 0777)
        return "permission bits are 0777 at most";
    settings->options.mode = (uint32_t)mode;
    return NULL;
}

static const char *set_group(struct settings *settings, const char *value)
{
    int64_t gid;
    errno = 0;
    const struct group *group = getgrnam(value);
    if (group != NULL)
        gid = group->gr_gid;
    else if (parse_whole(value, &gid) != NULL || gid >= UINT32_MAX)
        return "there is no such group";
    settings->options.gid = (uint32_t)gid;
    return NULL;
}

static const char *set_arena_size(struct settings *settings, const char *value)
{
    return parse_size(value, &settings->options.arena_limit);
}

static const char *set_heap_limit(struct settings *settings, const char *value)
{
    return parse_size(value, &settings->options.heap_limit);
}

static const char *set_policy(struct settings *settings, const char *value)
{
    (void)settings;
    (void)value;
    return "this version has no authoriser, so a policy would not be kept; --mode and --group say "
           "who may connect";
}

/* Clients read the directory in the memory of the bus; theirs is another working directory. */
static const char *set_runtime_dir(struct settings *settings, const char *value)
{
    if (value[0] != '/')
        return "an absolute path is wanted, because clients look there too";
    settings->options.runtime_dir = settings->runtime_dir;
    return set_text(settings->runtime_dir, sizeof(settings->runtime_dir), value);
}

static const char *set_log_level(struct settings *settings, const char *value)
{
    static const char *const words[] = {[SHMBUS_LOG_ERROR] = "error",
                                        [SHMBUS_LOG_WARNING] = "warning",
                                        [SHMBUS_LOG_INFO] = "info",
                                        [SHMBUS_LOG_DEBUG] = "debug"};
    for (int level = SHMBUS_LOG_ERROR; level <= SHMBUS_LOG_DEBUG; level++) {
        if (strcmp(value, words[level]) == 0) {
            settings->log_level = level;
            return NULL;
        }
    }
    return "error, warning, info or debug is wanted";
}

/* The options that are keys of the configuration file too. */
static const struct setting {
    const char *key;
    const char *(*set)(struct settings *settings, const char *value);
} table[] = {
    {"queue-len", set_queue_len},
    {"full", set_full},
    {"s-wild", set_s_wild},
    {"m-wild", set_m_wild},
    {"mode", set_mode},
    {"group", set_group},
    {"arena-size", set_arena_size},
    {"heap-limit", set_heap_limit},
    {"policy", set_policy},
    {"runtime-dir", set_runtime_dir},
    {"log-level", set_log_level},
};

enum { SETTINGS = sizeof(table) / sizeof(table[0]) };

/* What getopt_long() returns: a setting is SETTING plus its index in table. */
enum { OPTION_HELP = 'h', OPTION_VERSION = 'V', OPTION_CONFIG = 256, SETTING };

static const char usage[] =
    "usage: shmbusd [OPTION…] NAME\n"
    "\n"
    "Coordinates the bus NAME until SIGTERM or SIGINT, in the foreground. Prints\n"
    "`shmbusd: NAME ready` once clients can attach.\n"
    "\n"
    "  --queue-len N       queue of a subscription that asks for none (10)\n"
    "  --full POLICY       what it does when full: drop_oldest (default) or reject_newest\n"
    "  --s-wild TOKEN      wildcard for exactly one token (+)\n"
    "  --m-wild TOKEN      wildcard for any number of tokens (#)\n"
    "  --mode MODE         permission bits of the socket, in octal (0600)\n"
    "  --group GROUP       its group, a name or number\n"
    "  --arena-size SIZE   most memory for the bus's own tables (1G)\n"
    "  --heap-limit SIZE   most memory for what a connection has in flight (64M)\n"
    "  --runtime-dir DIR   where the socket goes (/run/shmbus for root, else\n"
    "                      $XDG_RUNTIME_DIR/shmbus)\n"
    "  --log-level LEVEL   what is told on standard error: error, warning (default), info, debug\n"
    "  --config FILE       read these options from FILE, a line `key = value` each\n"
    "  --help, --version\n";

__attribute__((format(printf, 1, 2))) static int wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("shmbusd: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return 2;
}

/* A configuration file on its way into the settings; the first thing wrong with it is kept. */
struct file_reader {
    struct settings *settings;
    char wrong[512];
};

/* For ini_parse(): 1 where the line is good. */
static int read_line(void *user, const char *section, const char *key, const char *value)
{
    struct file_reader *reader = user;
    if (reader->wrong[0] != '\0')
        return 0;
    if (section[0] != '\0') {
        snprintf(reader->wrong, sizeof(reader->wrong), "[%.100s]: there are no sections", section);
        return 0;
    }
    for (int i = 0; i < SETTINGS; i++) {
        if (strcmp(table[i].key, key) != 0)
            continue;
        const char *sentence = table[i].set(reader->settings, value);
        if (sentence != NULL)
            snprintf(reader->wrong, sizeof(reader->wrong), "%s '%.100s': %s", key, value, sentence);
        return sentence == NULL;
    }
    snprintf(reader->wrong, sizeof(reader->wrong), "there is no option '%.100s'", key);
    return 0;
}

static int read_file(struct settings *settings, const char *path)
{
    struct file_reader reader = {.settings = settings};
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return wrong("%s: %s", path, strerror(errno));
    int line = ini_parse_file(file, read_line, &reader);
    int unread = ferror(file) ? errno : 0; /* a directory can be opened, but not read */
    fclose(file);
    if (unread != 0)
        return wrong("%s: %s", path, strerror(unread));
    if (line > 0)
        return wrong("%s:%d: %s", path, line,
                     reader.wrong[0] != '\0' ? reader.wrong : "`key = value` is wanted");
    return -1;
}

/* getopt_long() has met something that is none of our options, or misses its argument. */
static int wrong_option(int missing, char **argv)
{
    if (missing)
        return wrong("%s needs an argument", argv[optind - 1]);
    if (optopt > 0 && optopt < OPTION_CONFIG)
        return wrong("there is no option '-%c'; see shmbusd --help", optopt);
    return wrong("'%s' is not an option, or not a clear one; see shmbusd --help", argv[optind - 1]);
}

/* One walk over the options. With config set it looks for --config only, else it takes the rest. */
static int read_options(struct settings *settings, int argc, char **argv, const char **config)
{
    struct option options[SETTINGS + 4] = {
        {"help", no_argument, NULL, OPTION_HELP},
        {"version", no_argument, NULL, OPTION_VERSION},
        {"config", required_argument, NULL, OPTION_CONFIG},
    };
    for (int i = 0; i < SETTINGS; i++)
        options[i + 3] = (struct option){table[i].key, required_argument, NULL, SETTING + i};
    int option;
    optind = 0; /* begin, or begin again */
    while ((option = getopt_long(argc, argv, ":hV", options, NULL)) != -1) {
        if (option == ':' || option == '?')
            return wrong_option(option == ':', argv);
        if (option == OPTION_HELP)
            return fputs(usage, stdout) < 0;
        if (option == OPTION_VERSION)
            return printf("shmbusd %s\n", shmbus_version()) < 0;
        if (option == OPTION_CONFIG && config != NULL)
            *config = optarg;
        if (option < SETTING || config != NULL)
            continue;
        const struct setting *setting = &table[option - SETTING];
        const char *sentence = setting->set(settings, optarg);
        if (sentence != NULL)
            return wrong("--%s '%s': %s", setting->key, optarg, sentence);
    }
    return -1;
}

int settings_read(struct settings *settings, int argc, char **argv)
{
    memset(settings, 0, sizeof(*settings));
    settings->options = (struct shmbus_coordinator_options)SHMBUS_COORDINATOR_OPTIONS_INIT;
    settings->log_level = SHMBUS_LOG_WARNING;
    const char *config = NULL;
    int end = read_options(settings, argc, argv, &config);
    if (end < 0 && config != NULL)
        end = read_file(settings, config);
    if (end < 0)
        end = read_options(settings, argc, argv, NULL);
    if (end >= 0)
        return end;
    if (argc - optind != 1)
        return wrong("%s; see shmbusd --help", argc == optind ? "the name of the bus is missing"
                                                              : "one name of a bus is wanted");
    settings->name = argv[optind];
    const struct shmbus_coordinator_options *options = &settings->options;
    if (geteuid() != 0 && options->runtime_dir == NULL &&
        ((options->mode & 077) != 0 || options->gid != UINT32_MAX))
        return wrong("--mode and --group let others in, who cannot reach this user's own runtime "
                     "directory; name one that they can with --runtime-dir");
    return -1;
}
